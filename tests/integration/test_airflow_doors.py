"""Each door of Airflow's own database, tried with a canary on a real Airflow; and the same with the doors taken away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CANARY = "QUILLSWORTH"
pytestmark = pytest.mark.slow

REFUSED_AT_THE_API = {
    "conf key": "CONF_REFUSED",
    "conf value": "CONF_REFUSED",
    "conf nested": "CONF_REFUSED",
    "run id": "RUN_ID_REFUSED",
    "note": "NOTE_REFUSED",
    "partition key": "REFERENCE_REFUSED",
    "note later": "NOTE_REFUSED",
    "task note": "NOTE_REFUSED",
    "xcom": "REFERENCE_REFUSED",
    "backfill": "CONF_REFUSED",
    "asset extra": "REFERENCE_REFUSED",
}


def _environment(home: Path, plugins: Path) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MEDBILL"))}
    env.update(
        AIRFLOW_HOME=str(home),
        AIRFLOW__CORE__PLUGINS_FOLDER=str(plugins),
        AIRFLOW__CORE__DAGS_FOLDER=str(home / "dags"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS="True",
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{home}/airflow.db",
        AIRFLOW__OPENLINEAGE__DISABLED="True",
        AIRFLOW__API_AUTH__JWT_SECRET="x" * 64,
        MEDBILL_HOME=str(home / "medbill"),
        PYTHONPATH=os.pathsep.join((str(ROOT / "include"), str(plugins))),
    )
    return env


def _drive(home: Path, plugins: Path) -> dict[str, Any]:
    (home / "dags").mkdir(parents=True)
    driver = ROOT / "tests" / "integration" / "airflow_doors.py"
    done = subprocess.run(
        [sys.executable, str(driver), str(home / "dags")],
        env=_environment(home, plugins),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {**json.loads(done.stdout.strip().splitlines()[-1]), "logs": done.stdout + done.stderr}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guarded")


@pytest.fixture(scope="module")
def guarded(home: Path) -> dict[str, Any]:
    return _drive(home, ROOT / "plugins")


def test_references_come_in(guarded: dict[str, Any]) -> None:
    answers = guarded["answers"]
    assert {answers[n]["status"] for n in ("good", "empty", "asset event")} == {200}, answers


@pytest.mark.parametrize("door", sorted(REFUSED_AT_THE_API))
def test_the_api_refuses_what_is_no_reference_and_does_not_repeat_it(guarded: dict[str, Any], door: str) -> None:
    answer = guarded["answers"][door]
    assert answer["status"] == 422, answer
    assert REFUSED_AT_THE_API[door] in answer["text"]
    assert CANARY not in answer["text"]


def test_what_comes_from_inside_is_refused_or_left_out(guarded: dict[str, Any]) -> None:
    answers = guarded["answers"]
    assert answers["code: conf"]["status"] == "refused" and "CONF_REFUSED" in answers["code: conf"]["text"]
    assert CANARY not in answers["code: conf"]["text"]
    assert {answers[n]["status"] for n in ("code: rendered", "code: asset extra")} == {"done"}
    assert answers["rendered fields kept"] == {
        "op_kwargs": {"practice": "lakeside"},
        "op_args": "left out: not a reference",
        "templates_dict": None,
    }


def test_no_canary_lies_in_any_table_or_log(guarded: dict[str, Any]) -> None:
    assert guarded["found"] == []
    assert CANARY not in guarded["logs"].replace(json.dumps(guarded["answers"]), "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("dags", "trigger", "probe", "-c", f'{{"patient": "{CANARY}"}}'),
        ("dags", "trigger", "probe", f'-c{{"practice": "{CANARY}"}}'),
        ("dags", "trigger", "probe", f'--conf={{"practice": "{CANARY}"}}'),
        ("dags", "trigger", "probe", "--run-id", f"{CANARY}-1"),
        ("backfill", "create", "--dag-id", "probe", "--dag-run-conf", f'{{"x": "{CANARY}"}}'),
    ],
    ids=lambda a: a[3] if isinstance(a, tuple) else None,
)
def test_the_command_line_refuses_it_before_it_is_logged(
    guarded: dict[str, Any], home: Path, arguments: tuple[str, ...]
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "airflow", *arguments],
        env=_environment(home, ROOT / "plugins"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "_REFUSED" in done.stderr and CANARY not in done.stdout + done.stderr
    assert CANARY.encode() not in (home / "airflow.db").read_bytes()


def test_without_the_doors_the_same_canaries_lie_all_over(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    found = set(_drive(tmp_path / "home", tmp_path / "plugins")["found"])
    assert {
        "dag_run.conf",
        "dag_run.run_id",
        "dag_run_note.content",
        "log.extra",
        "backfill.dag_run_conf",
        "asset_event.extra",
        "rendered_task_instance_fields.rendered_fields",
        "task_instance_note.content",
        "xcom.value",
    } <= found
