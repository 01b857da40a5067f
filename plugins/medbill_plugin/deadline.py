"""What happens when a DAG run is late: a line in the triggerer's log and a ledger row. Ids only."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

log = logging.getLogger("medbill.deadline")


async def late(context: dict[str, Any] | None = None) -> None:
    """Called by the triggerer for a run that has not ended by its deadline."""
    run = (context or {}).get("dag_run") or {}
    dag_id, run_id = str(run.get("dag_id", "unknown")), str(run.get("dag_run_id") or run.get("run_id") or "unknown")
    log.error("DAG_LATE: %s is past its deadline; see its run in the UI", dag_id)
    await asyncio.to_thread(_record, dag_id, run_id)


def _record(dag_id: str, run_id: str) -> None:
    from medbill.audit.ledger import Event, Ledger, RunContext
    from medbill.settings import Settings
    from medbill.store import db

    event = Event(
        action="E",
        kind="dag.late",
        purpose="operations",
        practice="-",
        resource=f"airflow:{dag_id}",
        idempotency_key=f"dag.late:{dag_id}:{run_id}",
    )
    Ledger(db.engine(Settings.from_env().database_url), RunContext(dag_id=dag_id, run_id=run_id)).record(
        event, outcome="failure"
    )
