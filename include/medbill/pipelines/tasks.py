"""What the DAG files call: one function per task, ids and counts in, ids and counts out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from medbill.errors import KeyUnavailable, MedbillError, StoreUnavailable, unexpected
from medbill.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")

REPORT_DAYS = 90
#: Asset and manual runs take all that is pending; scheduled runs their own day and what is pending; a backfill its day alone.
_ALL_PENDING = frozenset({"asset_triggered", "asset_materialization", "manual", "operator_triggered"})


def without_values(task: Callable[P, R]) -> Callable[P, R]:
    """Lets only our own errors out of a task: Airflow writes an exception's text and chain to its log."""

    @wraps(task)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return task(*args, **kwargs)
        except MedbillError as error:
            # its cause may be a library's error with a value in its text
            raise error.with_traceback(None) from None
        except Exception as error:
            failed = unexpected(error)
        raise failed  # out here it has no context

    return run


@without_values
def practices(platform: str | None = None) -> list[str]:
    """Ids of all practices, or of those on one platform."""
    return [p.id for p in Settings.from_env().practices() if platform in (None, p.platform)]


@without_values
def accounts() -> list[dict[str, str]]:
    """Practice and platform of every practice that is on one."""
    return [{"practice": p.id, "platform": p.platform} for p in Settings.from_env().practices() if p.platform]


def days(run_type: str, data_interval_start: datetime | None) -> dict[str, Any]:
    """Which partitions a run is about: {"day": ISO date or None, "pending": whether to take what else is pending}."""
    kind = str(getattr(run_type, "value", run_type))
    if kind in _ALL_PENDING or data_interval_start is None:
        return {"day": None, "pending": True}
    return {"day": data_interval_start.date().isoformat(), "pending": kind != "backfill"}


@without_values
def extract(practice: str, platform: str, connection: Mapping[str, Any]) -> dict[str, Any]:
    from medbill.pipelines import connections, deidentify
    from medbill.pipelines import extract as pipeline
    from medbill.pipelines.context import Context
    from medbill.platforms import webhooks

    ctx = Context.open()
    start, end = pipeline.window(ctx, practice, f"{platform}.claims", _today())
    woken = webhooks.pending(ctx.db, practice, platform, start)
    with connections.client(ctx, practice, connection) as source:
        changed = pipeline.extract(ctx, practice, platform, source, start, end)
        for first, last in woken.windows():
            changed += pipeline.extract(ctx, practice, platform, source, first, last)
    webhooks.done(ctx.db, practice, platform, woken.ids)
    return {
        "practice": practice,
        "days": sorted({p.day.isoformat() for p in changed}),
        "waiting": len(deidentify.pending(ctx)),
    }


@without_values
def receive(practice: str) -> dict[str, Any]:
    from medbill.pipelines import deidentify
    from medbill.pipelines import receive as pipeline
    from medbill.pipelines.context import Context

    ctx = Context.open()
    received = pipeline.scan(ctx, practice)
    landed = pipeline.land(ctx, pipeline.pending(ctx, practice))
    return {
        "practice": practice,
        "files": received.files,
        "landed": received.landed,
        "duplicates": received.duplicates,
        "quarantined": received.quarantined,
        "held": received.held,
        "refused": received.refused,
        "unfinished": received.unfinished,
        "days": [p.day.isoformat() for p in landed],
        "waiting": len(deidentify.pending(ctx)),
    }


@without_values
def publish(object_name: str) -> dict[str, Any]:
    from medbill.pipelines import deidentify
    from medbill.pipelines import post as downstream
    from medbill.pipelines.context import Context

    ctx = Context.open()
    wanted = [p for p in deidentify.pending(ctx) if p.object == object_name]
    published = deidentify.publish(ctx, wanted)
    # notes are the end of their own road: nothing waits behind them but who reads them
    waiting = published if object_name == "notes" else downstream.pending(ctx)
    if object_name == "claims" and not waiting:
        from medbill.pipelines import scrub

        waiting = scrub.pending(ctx)
    return {"object": object_name, "published": [p.ref() for p in published], "waiting": len(waiting)}


@without_values
def post(which: dict[str, Any]) -> dict[str, Any]:
    from medbill.pipelines import post as pipeline
    from medbill.pipelines import triage as downstream
    from medbill.pipelines.context import Context

    ctx = Context.open()
    done = _each(pipeline.post, ctx, _partitions(which, pipeline.pending(ctx) if which["pending"] else []))
    return {**done, "waiting": len(downstream.pending(ctx))}


@without_values
def triage(which: dict[str, Any]) -> dict[str, Any]:
    from medbill.pipelines import triage as pipeline
    from medbill.pipelines.context import Context

    ctx = Context.open()
    done = _each(pipeline.triage, ctx, _partitions(which, pipeline.pending(ctx) if which["pending"] else []))
    return {**done, "waiting": 0}


@without_values
def scrub(which: dict[str, Any]) -> dict[str, Any]:
    from medbill.pipelines import scrub as pipeline
    from medbill.pipelines.context import Context

    ctx = Context.open()
    step = pipeline.Step(ctx)
    done = _each(step.scrub, ctx, _partitions(which, step.pending() if which["pending"] else [], "claims"))
    pipeline.tell(ctx)
    of_run = step.totals
    return {**done, "waiting": 0, "scrubbed": of_run["scrubbed"], "clean": of_run["clean"], "held": of_run["held"]}


@without_values
def report(practice: str) -> dict[str, Any]:
    from medbill.pipelines import report as pipeline
    from medbill.pipelines.context import Context

    ctx = Context.open()
    today = _today()
    out = ctx.settings.reports / practice / "denials" / today.isoformat()
    pipeline.denials(ctx, practice, today - timedelta(days=REPORT_DAYS), today, out, today)
    return {"practice": practice, "report": f"reports/{practice}/denials/{today.isoformat()}"}


@without_values
def apply(practice: str, connection: Mapping[str, Any]) -> dict[str, Any]:
    from medbill.pipelines import apply as pipeline
    from medbill.pipelines import connections
    from medbill.pipelines.context import Context

    ctx = Context.open()
    with connections.client(ctx, practice, connection) as writer:
        done = pipeline.apply(ctx, practice, writer)
    return {"practice": practice, "applied": done.applied, "failed": done.failed, "unknown": done.unknown}


@without_values
def seal() -> dict[str, Any]:
    from medbill.pipelines import guard
    from medbill.pipelines.context import Context

    return guard.seal(Context.open())


@without_values
def verify() -> dict[str, Any]:
    from medbill.pipelines import guard
    from medbill.pipelines.context import Context

    return guard.verify(Context.open())


@without_values
def intents(found: dict[str, Any]) -> dict[str, Any]:
    from medbill.pipelines import guard
    from medbill.pipelines.context import Context

    return guard.ended(Context.open(), found["unended"])


@without_values
def reconcile(practice: str, connection: Mapping[str, Any]) -> dict[str, Any]:
    from medbill.pipelines import connections, guard
    from medbill.pipelines.context import Context

    ctx = Context.open()
    with connections.client(ctx, practice, connection) as writer:
        return guard.reconcile(ctx, practice, writer)


@without_values
def purge() -> dict[str, Any]:
    from medbill.pipelines import guard
    from medbill.pipelines.context import Context

    return guard.clean(Context.open())


def _partitions(which: dict[str, Any], waiting: list[Any], object_name: str = "remittances") -> list[Any]:
    from medbill.pipelines.context import Partition

    own = [Partition(p, object_name, date.fromisoformat(which["day"])) for p in practices()] if which["day"] else []
    return own + [p for p in waiting if p not in own]


def _each(step: Any, ctx: Any, partitions: list[Any]) -> dict[str, Any]:
    """All partitions, each on its own: one that fails is raised when the others are done. Where database, ledger or keys
    are gone there is no use in going on."""
    done, failed = [], []
    for partition in partitions:
        try:
            counts = step(ctx, partition)
        except (StoreUnavailable, KeyUnavailable):
            raise
        except Exception as error:
            failed.append(error)
            continue
        if counts is not None:
            done.append(counts)
    if failed:
        raise failed[0]
    return {"partitions": len(done), "days": [d["day"] for d in done]}


def _today() -> date:
    """Today in UTC; MEDBILL_TODAY overrides it where a run must be repeatable."""
    return (
        date.fromisoformat(os.environ["MEDBILL_TODAY"]) if "MEDBILL_TODAY" in os.environ else datetime.now(UTC).date()
    )
