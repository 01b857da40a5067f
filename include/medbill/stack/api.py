"""A small client for Airflow's REST API v2: what `medbill stack run` and the tests need, typed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import httpx

from medbill.stack.errors import AirflowError

#: States in which a run or a task will not change by itself any more.
FINISHED_RUN = frozenset({"success", "failed"})
FINISHED_TASK = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
_PAGE = 100
_READ_ATTEMPTS = 3


@dataclass(frozen=True)
class Run:
    dag_id: str
    run_id: str
    run_type: str
    state: str
    logical_date: datetime | None
    start: datetime | None
    end: datetime | None

    @property
    def finished(self) -> bool:
        return self.state in FINISHED_RUN


@dataclass(frozen=True)
class TaskState:
    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    state: str | None
    try_number: int


class Airflow:
    """One logged-in user of an Airflow. Use as a context manager.

    Raises AirflowError for every answer that is not a success; the server's text is not repeated.
    """

    def __init__(self, url: str, user: str, password: str, *, timeout: float = 60.0, patient: bool = True) -> None:
        """url: where the UI is, without a trailing slash. timeout: seconds for each request. patient: whether a read
        that got no answer is asked again."""
        self.url = url.rstrip("/")
        self._user, self._password = user, password
        self._http = httpx.Client(base_url=self.url, timeout=timeout, trust_env=False)
        self._logged_in = False
        self._patient = patient

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def health(self) -> dict[str, str]:
        """Component -> status ('healthy', 'unhealthy', …); needs no login."""
        answer = self._request("GET", "/api/v2/monitor/health", login=False)
        return {name: str(part["status"]) for name, part in answer.items() if isinstance(part, Mapping)}

    def dags(self) -> dict[str, bool]:
        """DAG id -> whether it is paused."""
        return {d["dag_id"]: bool(d["is_paused"]) for d in self._pages("/api/v2/dags", "dags")}

    def import_errors(self) -> list[str]:
        """The DAG files that do not import."""
        return [str(e["filename"]) for e in self._pages("/api/v2/importErrors", "import_errors")]

    def unpause(self, dag_id: str) -> None:
        self._request("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": False})

    def pause(self, dag_id: str) -> None:
        self._request("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": True})

    def trigger(self, dag_id: str) -> str:
        """Start a manual run, without conf; gives its run id."""
        answer = self._request("POST", f"/api/v2/dags/{dag_id}/dagRuns", json={"logical_date": None})
        return str(answer["dag_run_id"])

    def run(self, dag_id: str, run_id: str) -> Run:
        return _run(self._request("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}"))

    def runs(self, dag_id: str = "~", *, states: Iterable[str] = (), after: datetime | None = None) -> list[Run]:
        """Runs of one DAG, or of all ('~'), newest last; only of these states, only those that changed since `after`."""
        query: list[tuple[str, str]] = [("state", s) for s in states] + [("order_by", "run_after")]
        if after is not None:
            query.append(("updated_at_gte", after.isoformat()))
        return [_run(r) for r in self._pages(f"/api/v2/dags/{dag_id}/dagRuns", "dag_runs", query)]

    def tasks(self, dag_id: str, run_id: str) -> list[TaskState]:
        return [
            TaskState(t["dag_id"], t["dag_run_id"], t["task_id"], int(t["map_index"]), t["state"], int(t["try_number"]))
            for t in self._pages(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances", "task_instances")
        ]

    def xcom(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, key: str = "return_value") -> Any:
        """What a task returned: ids and counts by our XCom backend's rule."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        query = [("map_index", str(map_index)), ("deserialize", "false"), ("stringify", "false")]
        return self._request("GET", path, params=query)["value"]

    def waits_for_assets(self, dag_id: str) -> bool:
        """Whether asset events are queued for this DAG that have not made a run yet."""
        answer = self._request("GET", f"/api/v2/dags/{dag_id}/assets/queuedEvents", missing={"total_entries": 0})
        return int(answer["total_entries"]) > 0

    def backfill_at_work(self, dag_id: str) -> bool:
        """Whether Airflow still counts a backfill of this DAG as running: it refuses another one as long as it does, for
        up to half a minute after the last run has ended."""
        found = self._pages("/api/v2/backfills", "backfills", [("dag_id", dag_id)])
        return any(b["completed_at"] is None for b in found)

    def wait_for_backfill(self, dag_id: str, timeout: float) -> None:
        """Until another backfill of this DAG may be created. Raises AirflowError after timeout seconds."""
        deadline = time.monotonic() + timeout
        while self.backfill_at_work(dag_id):
            _tick(deadline, f"a backfill of {dag_id} is still at work after {timeout:.0f} s")

    def wait_for_dags(self, dag_ids: Iterable[str], timeout: float) -> None:
        """Until the DAG processor has read these DAGs.

        Raises AirflowError after timeout seconds, or at once where a DAG file does not import.
        """
        wanted = set(dag_ids)
        deadline = time.monotonic() + timeout
        while not wanted <= set(self.dags()):
            if broken := self.import_errors():
                raise AirflowError(f"DAG files do not import: {', '.join(sorted(broken))}")
            _tick(deadline, f"the DAG processor did not find {', '.join(sorted(wanted - set(self.dags())))} in time")

    def wait(
        self, dag_id: str, run_id: str, timeout: float, on_change: Callable[[TaskState], None] | None = None
    ) -> Run:
        """Until a run ends, telling every change of a task's state; gives the run, failed or not.

        Raises AirflowError after timeout seconds.
        """
        deadline = time.monotonic() + timeout
        seen: dict[tuple[str, int], str | None] = {}
        while True:
            run = self.run(dag_id, run_id)
            if on_change is not None:
                self._tell(run, seen, on_change)
            if run.finished:
                return run
            _tick(deadline, f"{dag_id} is still {run.state} after {timeout:.0f} s")

    def wait_until_idle(
        self,
        dag_ids: Iterable[str],
        since: datetime,
        timeout: float,
        on_change: Callable[[TaskState], None] | None = None,
        settle: float = 4.0,
    ) -> list[Run]:
        """Until nothing of these DAGs runs, is queued or waits for a run of its asset events, for settle seconds.

        Tells every change of a task's state on the way; gives the runs that changed since, oldest first, failed or not.
        Raises AirflowError after timeout seconds.
        """
        dags = list(dag_ids)
        deadline = time.monotonic() + timeout
        seen: dict[str, dict[tuple[str, int], str | None]] = {}
        told: set[str] = set()
        quiet_since: float | None = None
        while True:
            runs = [r for r in self.runs(after=since) if r.dag_id in dags]
            for run in runs:
                key = f"{run.dag_id}/{run.run_id}"
                if on_change is not None and key not in told:
                    self._tell(run, seen.setdefault(key, {}), on_change)
                if run.finished:
                    told.add(key)
            busy = [r.dag_id for r in runs if not r.finished] or [d for d in dags if self.waits_for_assets(d)]
            if busy:
                quiet_since = None
            elif quiet_since is None:
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since >= settle:
                return runs
            _tick(deadline, f"{', '.join(sorted(set(busy))) or 'nothing'} still at work after {timeout:.0f} s")

    def _tell(self, run: Run, seen: dict[tuple[str, int], str | None], on_change: Callable[[TaskState], None]) -> None:
        for task in self.tasks(run.dag_id, run.run_id):
            key = (task.task_id, task.map_index)
            if task.state is not None and seen.get(key) != task.state:
                seen[key] = task.state
                on_change(task)

    def _login(self) -> None:
        answer = self._request(
            "POST", "/auth/token", login=False, json={"username": self._user, "password": self._password}
        )
        self._http.headers["Authorization"] = f"Bearer {answer['access_token']}"
        self._logged_in = True

    def _pages(self, path: str, key: str, query: Iterable[tuple[str, str]] = ()) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        while True:
            page = [*query, ("limit", str(_PAGE)), ("offset", str(len(rows)))]
            answer = self._request("GET", path, params=page)
            rows += answer[key]
            if len(answer[key]) < _PAGE:
                return rows

    def _send(self, method: str, path: str, what: dict[str, Any]) -> httpx.Response:
        """One request; a read that got no answer is asked again, since a busy machine answers late."""
        attempts = _READ_ATTEMPTS if method == "GET" and self._patient else 1
        for attempt in range(1, attempts + 1):
            try:
                return self._http.request(method, path, **what)
            except httpx.HTTPError as error:
                if attempt == attempts:
                    raise AirflowError(f"Airflow does not answer ({type(error).__name__})") from None
        raise AssertionError("unreachable")

    def _request(
        self, method: str, path: str, *, login: bool = True, missing: dict[str, Any] | None = None, **what: Any
    ) -> dict[str, Any]:
        if login and not self._logged_in:
            self._login()
        answer = self._send(method, path, what)
        if answer.status_code == 401 and login:  # the token ran out
            self._login()
            answer = self._send(method, path, what)
        if answer.status_code == 404 and missing is not None:
            return missing
        if not answer.is_success:
            raise AirflowError(f"Airflow answered {answer.status_code} to {method} {path}")
        try:
            content = answer.json()
        except ValueError:
            raise AirflowError(f"Airflow's answer to {method} {path} is not JSON") from None
        if not isinstance(content, dict):
            raise AirflowError(f"Airflow's answer to {method} {path} is not an object")
        return content


def _run(row: Mapping[str, Any]) -> Run:
    def at(key: str) -> datetime | None:
        return datetime.fromisoformat(row[key]) if row.get(key) else None

    return Run(
        dag_id=row["dag_id"],
        run_id=row["dag_run_id"],
        run_type=row["run_type"],
        state=row["state"],
        logical_date=at("logical_date"),
        start=at("start_date"),
        end=at("end_date"),
    )


def _tick(deadline: float, message: str, pause: float = 1.0) -> None:
    if time.monotonic() >= deadline:
        raise AirflowError(message)
    time.sleep(pause)
