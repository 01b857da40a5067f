"""The net under the logs: what it catches, that it is really in Airflow's task and component logs, and that it is cheap."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
CAUGHT = {
    "SSN": "ssn of the row is 219-09-9999",
    "PHONE": "call (212) 555-0143 today",
    "EMAIL": "mail jane.doe@example.org",
    "BIRTH_OR_DEATH_DATE": "born on 1961-02-03",
    "MRN": "MRN: 00482913",
    "MEMBER": "member id QXA119274",
}
KEPT = [
    "task 01a20e84-9660-70f2-98b4-2430ea4822f0 of manual__2026-11-24T10:00:00.123456+00:00 done at 2026-11-24 in 12.34 s",
    "GET http://127.0.0.1:8080/api/v2/dags/deidentify/dagRuns 200 in 12 ms, 123456 bytes",
    "span 4111111111111111 took 12 ms",
    "landed 1204 claims, paid 123456.78, checksum " + "ab12" * 16,
]


@pytest.fixture(scope="module")
def net() -> ModuleType:
    sys.path.append(str(ROOT / "plugins"))
    return importlib.import_module("medbill_plugin.log_net")


@pytest.mark.parametrize("kind", CAUGHT)
def test_identifiers_by_form_or_label_are_replaced_and_counted(net: ModuleType, kind: str) -> None:
    before = net.COUNTS[kind]
    redacted = net.redact(CAUGHT[kind])
    assert f"[REDACTED {kind}]" in redacted
    assert not [word for word in CAUGHT[kind].split() if any(map(str.isdigit, word)) and word in redacted]
    assert net.COUNTS[kind] == before + 1


@pytest.mark.parametrize("line", KEPT)
def test_what_operators_need_stays(net: ModuleType, line: str) -> None:
    assert net.redact(line) == line


def test_it_goes_as_deep_as_an_event_does(net: ModuleType) -> None:
    event = {
        "event": "failed",
        "error_detail": [{"exc_value": CAUGHT["SSN"], "frames": [{"x": CAUGHT["EMAIL"]}]}],
        "n": 1,
    }
    done = net.processor(None, "info", event)
    assert "219-09" not in str(done) and "jane" not in str(done)
    assert (done["redacted"], done["n"]) == (2, 1)


def test_it_costs_microseconds_a_line(net: ModuleType) -> None:
    begin = time.process_time()
    for _ in range(2000):
        for line in KEPT:
            net.redact(line)
    assert (time.process_time() - begin) / (2000 * len(KEPT)) < 200e-6


_LOG = """
import io, logging, sys
import structlog
from pathlib import Path
import airflow.settings
from airflow import plugins_manager
plugins_manager.get_fastapi_plugins()
SSN = "219-09-9999"
logging.getLogger("component").warning("by logging: ssn %s", SSN)
structlog.get_logger("component").warning("by structlog", ssn=SSN)
try:
    int(f"ssn {SSN}")
except ValueError:
    logging.getLogger("component").exception("failed")
    structlog.get_logger("component").exception("failed")

from airflow.sdk.execution_time.supervisor import _configure_logging, process_log_messages_from_subprocess, forward_to_log
import msgspec
logger, file = _configure_logging("task.log", None)
lines = process_log_messages_from_subprocess((logger,))
next(lines)
lines.send(msgspec.json.encode({"event": f"in a task: {SSN}", "level": "info", "timestamp": "2026-11-24T10:00:00Z",
    "exception": [{"exc_type": "ValueError", "exc_value": f"bad {SSN}"}]}))
printed = forward_to_log((logger,), logger="task.stdout", level=20)
next(printed)
printed.send(f"printed {SSN}".encode())
file.flush()
from airflow.configuration import conf
sys.stdout.flush()
print("TASK LOG", Path(conf.get("logging", "base_log_folder"), "task.log").read_text())
"""


def _logged(home: Path, **more: str) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MEDBILL", "PYTEST"))}
    env.update(
        AIRFLOW_HOME=str(home),
        AIRFLOW__CORE__PLUGINS_FOLDER=str(ROOT / "plugins"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__OPENLINEAGE__DISABLED="True",
        PYTHONPATH=os.pathsep.join((str(ROOT / "include"), str(ROOT / "plugins"))),
        **more,
    )
    done = subprocess.run([sys.executable, "-c", _LOG], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr


def test_task_logs_and_component_logs_of_airflow_go_through_it(tmp_path: Path) -> None:
    text = _logged(tmp_path, AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS="medbill_plugin.log_config.LOGGING_CONFIG")
    assert "219-09" not in text
    assert text.count("[REDACTED SSN]") >= 7
    task_log = [json.loads(line) for line in text.partition("TASK LOG ")[2].strip().splitlines()]
    assert [line["redacted"] for line in task_log] == [2, 1]


def test_without_it_they_hold_what_was_logged(tmp_path: Path) -> None:
    assert "219-09" in _logged(tmp_path).partition("TASK LOG ")[2]


def test_logs_that_would_go_past_it_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="past medbill's log net"):
        _logged(
            tmp_path,
            AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS="medbill_plugin.log_config.LOGGING_CONFIG",
            AIRFLOW__LOGGING__REMOTE_LOGGING="True",
            AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER="s3://bucket/logs",
        )
