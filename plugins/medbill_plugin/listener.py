"""A ledger row for the start and the end of every task run, written by the task's own process.

A ledger that is down does not fail the task here (touching protected data does fail then, in the task itself), but it is
said in the task's log. No exception text is recorded, only the error's class and, for our own errors, its code.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow.listeners import hookimpl

log = logging.getLogger("medbill.listener")


@hookimpl
def on_task_instance_running(previous_state: Any, task_instance: Any) -> None:
    from medbill.lineage import facts

    facts.clear()  # what this process did before, if anything, was another task's
    _record(task_instance, "task.start", "success")


@hookimpl
def on_task_instance_success(previous_state: Any, task_instance: Any) -> None:
    _record(task_instance, "task.end", "success", state="success")


@hookimpl
def on_task_instance_skipped(previous_state: Any, task_instance: Any) -> None:
    _record(task_instance, "task.end", "success", state="skipped")


@hookimpl
def on_task_instance_failed(previous_state: Any, task_instance: Any, error: str | BaseException | None) -> None:
    details = {"state": "failed"}
    if isinstance(error, BaseException):
        details["error"] = type(error).__name__
        code = getattr(error, "code", None)
        if isinstance(code, str) and type(error).__module__.startswith(("medbill.", "medbill_plugin.")):
            details["code"] = code
    _record(task_instance, "task.end", "failure", **details)


def _record(ti: Any, kind: str, outcome: str, **details: Any) -> None:
    try:
        from medbill.audit.ledger import Event, Ledger, RunContext
        from medbill.settings import Settings
        from medbill.store import db

        run = RunContext(
            dag_id=ti.dag_id, run_id=ti.run_id, task_id=ti.task_id, map_index=ti.map_index, try_number=ti.try_number
        )
        event = Event(
            action="E",
            kind=kind,
            purpose="operations",
            practice=_practice(ti),
            resource=f"airflow:{ti.dag_id}.{ti.task_id}",
            details=details,
            idempotency_key=f"{kind}:{ti.id}:{ti.try_number}:{details.get('state', '')}",
        )
        Ledger(db.engine(Settings.from_env().database_url), run).record(event, outcome=outcome)
    except Exception as error:  # a listener must never decide over its task
        code = getattr(error, "code", "LEDGER_UNAVAILABLE")
        log.error("%s: %s of this task is not in the ledger (%s)", code, kind, type(error).__name__)


def _practice(ti: Any) -> str:
    """The practice a task works for, where it is mapped over practices; '-' where it works for all."""
    arguments = getattr(getattr(ti, "task", None), "op_kwargs", None)
    practice = arguments.get("practice") if isinstance(arguments, dict) else None
    return practice if isinstance(practice, str) else "-"
