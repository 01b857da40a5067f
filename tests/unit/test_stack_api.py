"""The REST client against a small server that answers as Airflow does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from medbill.stack.api import Airflow, TaskState
from medbill.stack.errors import AirflowError


class FakeAirflow(ThreadingHTTPServer):
    """Runs move one state further each time they are asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.states = ["queued", "running", "success"]
        self.asked = 0
        self.backfill_looks = 0
        self.tokens = 0
        self.expire_after: int | None = None
        self.seen: list[tuple[str, str, Any]] = []
        self.import_errors: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def run_row(self, run_id: str = "manual__1") -> dict[str, Any]:
        state = self.states[min(self.asked, len(self.states) - 1)]
        self.asked += 1
        row = {"dag_id": "deidentify", "dag_run_id": run_id, "run_type": "manual", "state": state}
        return row | {"logical_date": None, "start_date": "2026-11-24T10:00:00Z", "end_date": None}


class _Handler(BaseHTTPRequestHandler):
    server: FakeAirflow

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"null")
        path, _, query = self.path.partition("?")
        fake = self.server
        fake.seen.append((self.command, self.path, body))
        if path == "/auth/token":
            if body["password"] != "right":
                return self._answer(401, {"detail": "Invalid credentials"})
            fake.tokens += 1
            return self._answer(201, {"access_token": f"t{fake.tokens}"})
        if path == "/api/v2/monitor/health":
            return self._answer(200, {"scheduler": {"status": "healthy"}, "triggerer": {"status": "unhealthy"}})
        if self.headers.get("Authorization") != f"Bearer t{fake.tokens}" or fake.expire_after == fake.tokens:
            return self._answer(401, {"detail": "token ran out"})
        offset = int(dict(p.split("=") for p in query.split("&")).get("offset", 0)) if "offset" in query else 0
        if path == "/api/v2/dags":
            rows = [{"dag_id": f"dag{i:03}", "is_paused": i % 2 == 0} for i in range(130)]
            return self._answer(200, {"dags": rows[offset : offset + 100], "total_entries": 130})
        if path == "/api/v2/importErrors":
            return self._answer(200, {"import_errors": [{"filename": f} for f in fake.import_errors]})
        if path.endswith("/queuedEvents"):
            return self._answer(404, {"detail": "none"})
        if path.endswith("/taskInstances"):
            task = {"dag_id": "deidentify", "dag_run_id": "manual__1", "task_id": "publish", "map_index": -1}
            return self._answer(200, {"task_instances": [{**task, "state": "success", "try_number": 1}]})
        if path == "/api/v2/backfills":
            fake.backfill_looks += 1
            ended = "2026-11-24T10:00:30Z" if fake.backfill_looks > 2 else None
            done = {"id": 1, "completed_at": "2026-11-24T09:00:00Z"}
            return self._answer(200, {"backfills": [done, {"id": 2, "completed_at": ended}]})
        if path == "/api/v2/dags/~/dagRuns":
            return self._answer(200, {"dag_runs": [fake.run_row()]})
        if path == "/api/v2/dags/deidentify/dagRuns/manual__1":
            return self._answer(200, fake.run_row())
        if path == "/api/v2/dags/deidentify/dagRuns" and self.command == "POST":
            return self._answer(200, {"dag_run_id": "manual__1"})
        return self._answer(403, {"detail": "SECRET name DOE in an answer"})

    do_GET = do_POST = do_PATCH = _serve


@pytest.fixture
def fake() -> Iterator[FakeAirflow]:
    server = FakeAirflow()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def airflow(fake: FakeAirflow, monkeypatch: pytest.MonkeyPatch) -> Iterator[Airflow]:
    monkeypatch.setattr("medbill.stack.api.time.sleep", lambda _: None)
    with Airflow(fake.url, "admin", "right") as client:
        yield client


def test_health_needs_no_login(fake: FakeAirflow) -> None:
    with Airflow(fake.url, "", "") as client:
        assert client.health() == {"scheduler": "healthy", "triggerer": "unhealthy"}
    assert fake.tokens == 0


def test_pages_are_read_to_the_end(airflow: Airflow) -> None:
    dags = airflow.dags()
    assert len(dags) == 130
    assert dags["dag000"] is True and dags["dag129"] is False


def test_a_token_that_ran_out_is_renewed_once(airflow: Airflow, fake: FakeAirflow) -> None:
    airflow.dags()
    fake.expire_after = 1
    assert len(airflow.dags()) == 130
    assert fake.tokens == 2


def test_a_backfill_is_waited_for_until_airflow_has_marked_it_as_done(airflow: Airflow, fake: FakeAirflow) -> None:
    assert airflow.backfill_at_work("post_payments")
    airflow.wait_for_backfill("post_payments", 10)
    assert fake.backfill_looks == 3
    fake.backfill_looks = 0
    with pytest.raises(AirflowError, match="post_payments is still at work"):
        airflow.wait_for_backfill("post_payments", -1)


def test_a_wrong_password_is_a_clear_error(fake: FakeAirflow) -> None:
    with Airflow(fake.url, "admin", "wrong") as client, pytest.raises(AirflowError, match="401"):
        client.dags()


def test_the_servers_words_are_not_repeated(airflow: Airflow) -> None:
    with pytest.raises(AirflowError) as caught:
        airflow.unpause("secret")
    assert "403" in str(caught.value) and "DOE" not in str(caught.value)


def test_a_triggered_run_carries_no_conf(airflow: Airflow, fake: FakeAirflow) -> None:
    assert airflow.trigger("deidentify") == "manual__1"
    assert fake.seen[-1][2] == {"logical_date": None}


def test_waiting_tells_each_change_once(airflow: Airflow) -> None:
    told: list[TaskState] = []
    run = airflow.wait("deidentify", "manual__1", 10, told.append)
    assert run.state == "success" and run.finished
    assert [(t.task_id, t.state) for t in told] == [("publish", "success")]


def test_waiting_ends(airflow: Airflow, fake: FakeAirflow) -> None:
    fake.states = ["running"]
    with pytest.raises(AirflowError, match="still running"):
        airflow.wait("deidentify", "manual__1", 0.0)


def test_idle_is_only_idle_after_a_quiet_while(airflow: Airflow, fake: FakeAirflow) -> None:
    runs = airflow.wait_until_idle(["deidentify"], datetime(2026, 11, 24, tzinfo=UTC), 10, settle=0.05)
    assert [r.state for r in runs] == ["success"]
    assert fake.asked > 3


def test_a_broken_dag_file_ends_the_wait_for_dags(airflow: Airflow, fake: FakeAirflow) -> None:
    airflow.wait_for_dags(["dag001"], 1)
    fake.import_errors = ["dags/broken.py"]
    with pytest.raises(AirflowError, match=r"broken\.py"):
        airflow.wait_for_dags(["absent"], 60)


def test_nobody_there_is_a_clear_error() -> None:
    with (
        Airflow("http://127.0.0.1:9", "a", "b", timeout=1) as client,
        pytest.raises(AirflowError, match="does not answer"),
    ):
        client.health()
