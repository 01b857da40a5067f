"""Run by test_airflow_doors.py in a process of its own: a real Airflow on SQLite, each door tried with a canary.

Prints one JSON object: what each door answered, and every place of the database a canary then lies in.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

CANARY = "QUILLSWORTH"
DAG = """
from datetime import timedelta
import pendulum
from airflow.sdk import Asset, dag, task

@dag(schedule="@daily", start_date=pendulum.datetime(2026, 1, 1, tz="UTC"), catchup=False, max_active_runs=1, tags=["t"],
     dagrun_timeout=timedelta(hours=1), default_args={"owner": "medbill", "execution_timeout": timedelta(minutes=5)})
def probe():
    @task(outlets=[Asset(name="notes", uri="file://medbill/deid/notes")])
    def work(practice: str) -> int:
        return 1
    work("lakeside")
probe()
"""


def main(folder: Path) -> dict[str, Any]:
    from airflow.utils.db import initdb

    initdb()
    _sync(folder)
    answers = {**_api(), **_rows()}
    return {"answers": answers, "found": _search()}


def _sync(folder: Path) -> None:
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db

    (folder / "probe.py").write_text(DAG)
    DagBundlesManager().sync_bundles_to_db()
    bag = BundleDagBag(folder, bundle_path=folder, bundle_name="dags-folder")
    assert not bag.import_errors, bag.import_errors
    sync_bag_to_db(bag, "dags-folder", None)


def _api() -> dict[str, Any]:
    from airflow.api_fastapi.app import cached_app
    from starlette.testclient import TestClient

    runs = "/api/v2/dags/probe/dagRuns"
    answers: dict[str, Any] = {}
    with TestClient(cached_app(), raise_server_exceptions=False) as client:

        def call(name: str, method: str, path: str, body: Any) -> Any:
            answer = client.request(method, path, json=body)
            answers[name] = {"status": answer.status_code, "text": answer.text}
            return answer

        good = call("good", "POST", runs, {"logical_date": None, "conf": {"practice": "lakeside", "day": "2026-11-24"}})
        run = good.json().get("dag_run_id", "none")
        call("empty", "POST", runs, {"logical_date": None})
        call("conf key", "POST", runs, {"logical_date": None, "conf": {"patient": f"{CANARY}-1"}})
        call("conf value", "POST", runs, {"logical_date": None, "conf": {"practice": f"{CANARY}-2"}})
        call("conf nested", "POST", runs, {"logical_date": None, "conf": {"day": {CANARY: 3}}})
        call("run id", "POST", runs, {"logical_date": None, "dag_run_id": f"manual__{CANARY}-4"})
        call("note", "POST", runs, {"logical_date": None, "note": f"call {CANARY} 5"})
        call("partition key", "POST", runs, {"logical_date": None, "partition_key": f"{CANARY}-6"})
        call("note later", "PATCH", f"{runs}/{run}", {"note": f"call {CANARY} 7"})
        task = f"{runs}/{run}/taskInstances/work"
        call("task note", "PATCH", task, {"note": f"call {CANARY} 8"})
        call("xcom", "POST", f"{task}/xcomEntries", {"key": "return_value", "value": f"{CANARY} 9", "map_index": -1})
        dates = {"from_date": "2026-02-01T00:00:00Z", "to_date": "2026-02-02T00:00:00Z"}
        backfill = {"dag_id": "probe", **dates, "dag_run_conf": {"who": f"{CANARY}-10"}}
        call("backfill", "POST", "/api/v2/backfills", backfill)
        asset = client.get("/api/v2/assets").json()["assets"][0]["id"]
        call("asset extra", "POST", "/api/v2/assets/events", {"asset_id": asset, "extra": {"who": f"{CANARY}-11"}})
        call("asset event", "POST", "/api/v2/assets/events", {"asset_id": asset, "extra": {"day": "2026-11-24"}})
    return answers


def _rows() -> dict[str, Any]:
    """What comes neither over the API nor from the command line: written by code of Airflow itself."""
    from airflow.api.common.trigger_dag import trigger_dag
    from airflow.assets.manager import asset_manager
    from airflow.models.asset import AssetModel
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunTriggeredByType
    from sqlalchemy import select

    answers: dict[str, Any] = {}

    def attempt(name: str, act: Callable[[], object]) -> None:
        try:
            act()
            answers[name] = {"status": "done", "text": ""}
        except Exception as error:
            answers[name] = {"status": "refused", "text": f"{type(error).__name__}: {error}"}

    def triggered(conf: Any) -> Callable[[], object]:
        return lambda: trigger_dag("probe", conf=conf, triggered_by=DagRunTriggeredByType.OPERATOR)

    def rendered() -> None:
        with create_session() as session:
            ti = session.scalars(select(TaskInstance)).first()
            fields = {"op_kwargs": {"practice": "lakeside"}, "op_args": [f"{CANARY} 13"], "templates_dict": None}
            session.add(RenderedTaskInstanceFields(ti, render_templates=False, rendered_fields=fields))

    def emitted() -> None:
        with create_session() as session:
            found = session.scalars(select(AssetModel)).first()
            asset_manager.register_asset_change(asset=found, extra={"who": f"{CANARY} 14"}, session=session)

    attempt("code: conf", triggered({"who": f"{CANARY} 12"}))
    attempt("code: rendered", rendered)
    attempt("code: asset extra", emitted)
    with create_session() as session:
        row = session.scalars(select(RenderedTaskInstanceFields)).first()
        answers["rendered fields kept"] = row.rendered_fields if row else None
    return answers


def _search() -> list[str]:
    """table.column of every value of the database with a canary in it."""
    import sqlite3

    from airflow import settings

    found = set()
    database = sqlite3.connect(settings.engine.url.database)
    database.text_factory = bytes
    for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        rows = database.execute(f'SELECT * FROM "{table.decode()}"')
        columns = [column[0] for column in rows.description]
        for row in rows:
            found |= {f"{table.decode()}.{c}" for c, value in zip(columns, row, strict=True) if _has(value)}
    return sorted(found)


def _has(value: Any) -> bool:
    return CANARY.encode() in (value if isinstance(value, bytes) else str(value).encode())


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
