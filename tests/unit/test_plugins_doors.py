"""docs/airflow_doors.md, row by row: a canary is driven at each door, and nothing that would be kept has it."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent
from openlineage.client.facet_v2 import (
    documentation_job,
    error_message_run,
    schema_dataset,
    source_code_job,
)
from openlineage.client.serde import Serde

from medbill import cli
from medbill.lineage.transformer import AllowListTransformer
from medbill.pipelines import tasks
from medbill.store import db

ROOT = Path(__file__).resolve().parents[2]
DOC = ROOT / "docs" / "airflow_doors.md"
#: Shaped like nobody's reference, and like an identifier even the net knows.
CANARY = "219-09-9999"
ROWS = {
    cells[0].strip(): re.findall(r"`(test_\w+)`", cells[-1])
    for line in DOC.read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| door") and (cells := line.strip("|").split("|"))
}


@pytest.fixture(scope="module", autouse=True)
def _airflow(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ.setdefault("AIRFLOW_HOME", str(tmp_path_factory.mktemp("airflow")))
    if str(ROOT / "plugins") not in sys.path:
        sys.path.append(str(ROOT / "plugins"))


def _plugin(name: str) -> Any:
    return importlib.import_module(f"medbill_plugin.{name}")


def _raised(act: Callable[[], object], kind: str) -> str:
    """All that is printed of a refusal. That it was refused, and by whom, is part of the test."""
    try:
        act()
    except (Exception, SystemExit) as error:
        assert type(error).__name__ == kind, repr(error)
        return "".join(traceback.format_exception(error))
    pytest.fail("it came in")


def _xcom() -> str:
    return _raised(
        lambda: _plugin("xcom").ReferenceXCom.serialize_value({"days": [CANARY]}, key="return_value"),
        "ReferenceRefused",
    )


def _request(path: str, body: dict[str, Any]) -> str:
    """The answer of the API's door, behind which nothing may be reached."""
    sent: list[Any] = []

    async def reached(*_: Any) -> None:
        pytest.fail("it came in")

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": []}
    asyncio.run(_plugin("doors").ReferenceDoor(reached)(scope, receive, send))
    assert sent[0]["status"] == 422
    return str(sent)


def _task(act: Callable[[Any], object], **settings: Any) -> str:
    """What the cluster policy says of a DAG with one task that is made by act."""
    from datetime import UTC, datetime, timedelta

    from airflow.sdk import DAG

    with DAG("probe", start_date=datetime(2026, 1, 1, tzinfo=UTC), schedule=None, **settings) as made:
        act({"owner": "medbill", "execution_timeout": timedelta(minutes=5)})
    policy = importlib.import_module("airflow_local_settings")
    return _raised(lambda: [policy.task_policy(t) for t in made.tasks], "AirflowClusterPolicyViolation")


def _call(argument: object, **more: Any) -> Callable[[Any], object]:
    from airflow.sdk import task

    return lambda common: task(**{**common, **more})(_work)(argument)


def _work(value: object) -> object:
    return value


def _bash(common: Any) -> object:
    from airflow.providers.standard.operators.bash import BashOperator

    return BashOperator(task_id="work", bash_command=f"echo {CANARY}", **common)


def _shown_result() -> str:
    from datetime import UTC, datetime, timedelta

    from airflow.sdk import DAG

    with DAG("probe", start_date=datetime(2026, 1, 1, tzinfo=UTC), schedule=None) as made:
        _call("lakeside")({"owner": "medbill", "execution_timeout": timedelta(minutes=5)})
    (task,) = made.tasks
    importlib.import_module("airflow_local_settings").task_policy(task)
    return CANARY if task.show_return_value_in_logs else ""


def _row(table: str, **columns: Any) -> str:
    """A row of Airflow's as it goes on to be written, or what is said where it is not."""
    row = SimpleNamespace(__tablename__=table, **columns)
    session = SimpleNamespace(new=[row], dirty=[])
    try:
        _plugin("doors")._before_flush(session)
    except Exception as error:
        return "".join(traceback.format_exception(error))
    return str(row)


def _conf() -> str:
    return _row("dag_run", conf={"practice": CANARY}, partition_key=None) + _request(
        "/api/v2/dags/deidentify/dagRuns", {"conf": {"practice": CANARY}}
    )


def _command() -> str:
    arguments = ["airflow", "dags", "trigger", "deidentify", "--conf", json.dumps({"day": CANARY})]
    return _raised(lambda: _plugin("doors").refuse_command_line(arguments), "SystemExit")


def _run_id() -> str:
    return _request("/api/v2/dags/deidentify/dagRuns", {"dag_run_id": f"manual__{CANARY}"}) + _request(
        "/api/v2/dags/deidentify/dagRuns", {"partition_key": CANARY}
    )


def _task_error() -> str:
    return _raised(tasks.without_values(lambda: int(CANARY)), "Unexpected")


def _database_error() -> str:
    context = SimpleNamespace(
        original_exception=ValueError(f"Key (ssn)=({CANARY})"), sqlalchemy_exception=sa.exc.SQLAlchemyError(CANARY)
    )
    db._without_values(context)
    return f"{context.original_exception!r} {context.sqlalchemy_exception!r}"


def _command_error() -> str:
    patch = pytest.MonkeyPatch()
    shown: list[str] = []
    patch.setattr(cli, "app", lambda: int(CANARY))
    patch.setattr("sys.stderr", SimpleNamespace(write=shown.append, flush=lambda: None))
    try:
        with pytest.raises(SystemExit):
            cli.main()
    finally:
        patch.undo()
    assert shown
    return "".join(shown)


def _listener() -> str:
    rows: list[str] = []
    patch = pytest.MonkeyPatch()
    ledger = SimpleNamespace(record=lambda event, outcome: rows.append(repr(event)))
    patch.setattr("medbill.audit.ledger.Ledger", lambda *_: ledger)
    ti = SimpleNamespace(id="1", dag_id="d", run_id="r", task_id="t", map_index=0, try_number=1, task=None)
    try:
        _plugin("listener").on_task_instance_failed(None, ti, ValueError(CANARY))
    finally:
        patch.undo()
    assert rows
    return rows[0]


def _lineage(**parts: Any) -> str:
    run = Run("01a20e84-9660-70f2-98b4-2430ea4822f0", facets=parts.get("run"))
    event = RunEvent(
        eventTime="2026-11-24T10:00:00+00:00",
        producer="https://example.org/producer",
        run=run,
        job=Job("medbill", "deidentify.publish", parts.get("job")),
        inputs=parts.get("inputs", []),
        outputs=parts.get("outputs", []),
    )
    assert CANARY in Serde.to_json(event)
    return Serde.to_json(AllowListTransformer().transform(event))


def _facets() -> str:
    error = error_message_run.ErrorMessageRunFacet(CANARY, "python", CANARY)
    return _lineage(
        run={"errorMessage": error, "airflow": error, "airflowDagRun": error, "unheardOf": error},
        job={"documentation": documentation_job.DocumentationJobFacet(CANARY)},
    )


def _facet_text() -> str:
    fields = [schema_dataset.SchemaDatasetFacetFields("paid", "string", CANARY)]
    facet = schema_dataset.SchemaDatasetFacet(fields)
    return _lineage(outputs=[OutputDataset("medbill", "deid/claims", facets={"schema": facet})])


def _net() -> str:
    return str(_plugin("log_net").processor(None, "info", {"event": f"ssn {CANARY}", "error_detail": [{"x": CANARY}]}))


def _line() -> str:
    return _plugin("log_net").Rendered(lambda *_: f"scheduler says {CANARY}")(None, "info", {})


def _remote_logs() -> str:
    from airflow.configuration import conf

    patch = pytest.MonkeyPatch()
    patch.setattr(conf, "getboolean", lambda *_, **__: True)
    sys.modules.pop("medbill_plugin.log_config", None)
    try:
        return _raised(lambda: _plugin("log_config"), "AirflowConfigException")
    finally:
        patch.undo()


DOORS: dict[str, Callable[[], str]] = {
    "return value, XCom": _xcom,
    "XCom over the API": lambda: _request("/api/v2/dags/d/dagRuns/r/taskInstances/t/xcomEntries", {"value": CANARY}),
    "return value in the log": _shown_result,
    "argument, serialized DAG": lambda: _task(_call(CANARY)),
    "template, parameter": lambda: _task(_call("{{ dag_run.conf }} " + CANARY)),
    "operator": lambda: _task(_bash),
    "callback, e-mail": lambda: _task(_call("lakeside", email=f"{CANARY}@example.org")),
    "rendered field": lambda: _row("rendered_task_instance_fields", rendered_fields={"op_kwargs": {"x": CANARY}}),
    "dag_run.conf": _conf,
    "backfill conf": lambda: _row("backfill", dag_run_conf={"day": CANARY}),
    "audit log of the API": lambda: _request("/api/v2/backfills", {"dag_run_conf": {"who": CANARY}}),
    "audit log of the command line": _command,
    "run id, partition key": _run_id,
    "note": lambda: (
        _row("task_instance_note", content=CANARY)
        + _row("dag_run_note", content=CANARY)
        + _request("/api/v2/dags/d/dagRuns/r", {"note": CANARY})
    ),
    "asset event extra": lambda: _row("asset_event", extra={"who": CANARY}),
    "exception of a task": _task_error,
    "exception of the database": _database_error,
    "exception of the command line": _command_error,
    "listener, ledger row": _listener,
    "lineage: conf, error, source, description": _facets,
    "lineage: text inside a facet that passes": _facet_text,
    "lineage: name of a dataset": lambda: _lineage(inputs=[InputDataset("file", f"/inbox/{CANARY}.835")]),
    "lineage: source code of a task": lambda: _lineage(
        job={"sourceCode": source_code_job.SourceCodeJobFacet("python", CANARY)}
    ),
    "print and logging in a task": _net,
    "stdout of scheduler and executor": _line,
    "remote logs": _remote_logs,
}


@pytest.mark.parametrize("door", sorted(ROWS))
def test_nothing_that_is_kept_has_the_canary(door: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        kept = DOORS[door]()
    assert CANARY not in kept
    assert CANARY not in caplog.text


def test_every_door_has_a_row_and_every_row_a_door() -> None:
    assert set(ROWS) == set(DOORS)


def test_the_tests_the_rows_name_exist() -> None:
    written = "\n".join(p.read_text() for p in (ROOT / "tests").rglob("test_*.py"))
    for door, names in ROWS.items():
        assert names, door
        for name in names:
            assert f"def {name}(" in written, f"{door}: {name}"


@pytest.mark.parametrize(
    "command",
    [
        "dags trigger deidentify",
        'dags trigger post_payments --conf {"practice":"lakeside","day":"2026-11-24"}',
        "dags trigger deidentify -r manual__2026-11-24T10:00:00+00:00",
        "backfill create --dag-id post_payments --from-date 2026-11-01 --to-date 2026-11-02T00:00:00Z --reprocess-behavior none",
        "dags list-runs deidentify",
        "connections add x --conn-uri http://user:secret@host",
    ],
)
def test_commands_of_operators_pass(command: str) -> None:
    _plugin("doors").refuse_command_line(["airflow", *command.split()])
