"""The embedded stack for real: up, healthy, used, hurt, down and up again."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil
import pytest
import sqlalchemy as sa

from medbill.stack import ports
from medbill.stack.api import Airflow, Run
from medbill.stack.errors import AirflowError
from medbill.stack.files import users
from medbill.stack.lifecycle import Stack
from medbill.stack.ports import Ports
from medbill.stack.supervisor import RunState
from medbill.store import db

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
#: A pipeline that has nothing to write back on a fresh home: two small tasks, one of them mapped.
DAG = "apply_proposals"


def _until(found: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.5)


def _gone(pid: int) -> bool:
    """Ended, though a container's first process may never collect it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture(scope="module")
def run(stack: Stack) -> Run:
    """One run of DAG, ended."""
    with stack.airflow() as airflow:
        airflow.wait_for_dags([DAG], 120)
        airflow.unpause(DAG)
        began = datetime.now(UTC)
        run_id = airflow.trigger(DAG)
        airflow.wait_until_idle([DAG], began, 400)
        return airflow.run(DAG, run_id)


def test_everything_is_healthy_and_every_dag_imports(stack: Stack) -> None:
    health = stack.health()
    assert health.ok, health.parts
    assert set(health.parts) == {
        "postgres",
        "supervisor",
        "sandbox",
        "api-server",
        "scheduler",
        "dag-processor",
        "triggerer",
    }
    with stack.airflow() as airflow:
        airflow.wait_for_dags([p.stem for p in (ROOT / "dags").glob("*.py")], 180)
        assert airflow.import_errors() == []


def test_a_second_start_does_nothing(stack: Stack) -> None:
    before = [s.known for s in RunState.read(stack.home).services]
    assert stack.start() is False
    assert [s.known for s in RunState.read(stack.home).services] == before


def test_users_have_names_and_not_all_are_admins(stack: Stack) -> None:
    for user in users():
        with stack.airflow(user) as airflow:
            assert airflow.dags()
    with stack.airflow("gia.moss") as airflow, pytest.raises(AirflowError, match="403"):
        airflow.trigger(DAG)
    with Airflow(stack.url, "admin", "wrong") as airflow, pytest.raises(AirflowError, match="401"):
        airflow.dags()
    assert httpx.get(f"{stack.url}/api/v2/dags", trust_env=False).status_code == 401


def test_the_ui_answers(stack: Stack) -> None:
    page = httpx.get(stack.url, follow_redirects=True, trust_env=False)
    assert page.status_code == 200 and "<html" in page.text.lower()


def test_a_run_ends_green(stack: Stack, run: Run) -> None:
    with stack.airflow() as airflow:
        tasks = airflow.tasks(DAG, run.run_id)
        assert run.state == "success", tasks
        assert {t.state for t in tasks} == {"success"}
        accounts = airflow.xcom(DAG, run.run_id, "accounts")
    platforms = {p.id: p.platform for p in stack.settings.practices() if p.platform is not None}
    assert {a["practice"]: a["platform"] for a in accounts} == platforms and "lakeside" in platforms


def test_every_task_run_has_a_start_and_an_end_in_the_ledger(stack: Stack, run: Run) -> None:
    with db.transaction(db.engine(stack.settings.admin_url)) as connection:
        rows = connection.execute(
            sa.text(
                "SELECT task_id, map_index, kind, outcome FROM audit.rows WHERE run_id = :run AND kind LIKE 'task.%'"
            ),
            {"run": run.run_id},
        ).all()
    with stack.airflow() as airflow:
        tasks = {(t.task_id, t.map_index) for t in airflow.tasks(DAG, run.run_id)}
    assert {(r.task_id, r.map_index) for r in rows if r.kind == "task.start"} == tasks
    assert {(r.task_id, r.map_index) for r in rows if r.kind == "task.end" and r.outcome == "success"} == tasks


def test_lineage_names_what_the_run_read_and_wrote(stack: Stack, run: Run) -> None:
    events = [json.loads(line) for line in stack.home.lineage.read_text().splitlines()]
    mine = [e for e in events if e["job"]["name"] == f"{DAG}.apply" and e["eventType"] == "COMPLETE"]
    assert mine
    assert [(d["namespace"], d["name"]) for d in mine[0]["inputs"]] == [("medbill", "proposals")]
    assert [(d["namespace"], d["name"]) for d in mine[0]["outputs"]] == [("medbill", "platform/write_backs")]
    facets = {name for e in events for part in (e["run"], e["job"]) for name in part["facets"]}
    assert facets <= {"parent", "nominalTime", "processing_engine", "jobType", "ownership"}


def test_task_logs_do_not_repeat_results(stack: Stack, run: Run) -> None:
    logs = list((stack.home.airflow / "logs").glob(f"dag_id={DAG}/**/*.log"))
    assert logs
    text = "".join(p.read_text() for p in logs)
    assert "Returned value was" not in text
    assert "LEDGER_UNAVAILABLE" not in text


def test_secrets_are_for_their_owner_alone(stack: Stack) -> None:
    for path in (stack.home.path / "secrets.json", stack.home.passwords):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with db.transaction(db.engine(stack.settings.admin_url)) as connection:
        assert connection.scalar(sa.text("SHOW log_min_error_statement")) == "panic"
        assert connection.scalar(sa.text("SHOW listen_addresses")) == ""
    password = stack.login()[1]
    for log in stack.home.logs.glob("*.log"):
        assert password not in log.read_text(errors="replace"), log.name


def test_airflow_on_the_command_line_speaks_to_the_stack(stack: Stack) -> None:
    """What README tells people to do: eval "$(medbill stack env)", then airflow."""
    script = 'eval "$("$0" -m medbill.cli stack env)" && "$0" -m airflow dags list-import-errors --output json'
    env = {**os.environ, "MEDBILL_HOME": str(stack.home.path), "PYTHONPATH": str(ROOT / "include")}
    done = subprocess.run(["bash", "-c", script, sys.executable], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-1500:]
    assert "[]" in done.stdout or "No data found" in done.stdout


def test_a_scheduler_that_is_killed_comes_back(stack: Stack) -> None:
    before = {s.name: s for s in RunState.read(stack.home).services}["scheduler"]
    assert before.known is not None
    os.kill(before.known.pid, signal.SIGKILL)

    def back() -> bool:
        now = {s.name: s for s in RunState.read(stack.home).services}["scheduler"]
        return now.alive and now.known != before.known

    _until(back, 60)
    _until(lambda: stack.health().ok, 180)


def test_stop_leaves_no_process_and_a_start_finds_everything_again(stack: Stack, run: Run) -> None:
    sessions = {k.pid for k in RunState.read(stack.home).processes}
    postgres = stack.postgres.pid()
    assert stack.stop() is True
    left = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
                left.append(process.name())
        except (psutil.Error, ProcessLookupError):
            continue
    assert left == []
    assert postgres is not None and _gone(postgres)
    assert not ports.answers(Ports.remembered(stack.home).api)
    assert not stack.health().ok
    assert stack.stop() is False
    assert stack.start(timeout=600.0) is True
    assert stack.health().ok
    with stack.airflow() as airflow:
        assert airflow.run(DAG, run.run_id).state == "success"
