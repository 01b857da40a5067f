"""`medbill audit`: verify and search the ledger. Prints ids, codes, counts and tokens; the ledger holds nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import sqlalchemy as sa
import typer

from medbill.audit.ledger import Event, Ledger, RunContext
from medbill.audit.tables import CHAINS, number, rows
from medbill.audit.verify import verify as recompute
from medbill.errors import MedbillError
from medbill.settings import Settings
from medbill.store import db

app = typer.Typer(help="Verify and search the ledger.", no_args_is_help=True)


def _engine() -> sa.Engine:
    return db.engine(Settings.from_env().database_url)


@app.command()
def verify(
    open_after: Annotated[
        float, typer.Option(help="Hours after which an intent without an outcome is a problem.")
    ] = 6.0,
) -> None:
    """Recompute all hashes, links and heads. Exit code 0: nothing wrong; 1: problems, one per line."""
    report = recompute(_engine(), timedelta(hours=open_after))
    typer.echo(
        f"rows {report.rows}  chains {report.chains}  problems {len(report.problems)}  running {report.open_intents}"
    )
    for problem in report.problems:
        row = "" if problem.number is None else f" row {problem.number}"
        typer.echo(f"{problem.code}{row}: {problem.message}")
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def search(
    purpose: Annotated[str | None, typer.Option(help="Purpose of use, e.g. payment.")] = None,
    actor: Annotated[str | None, typer.Option(help="Service, or the person it acted for.")] = None,
    dag: Annotated[str | None, typer.Option(help="Airflow DAG id.")] = None,
    run: Annotated[str | None, typer.Option(help="Airflow DAG run id.")] = None,
    kind: Annotated[str | None, typer.Option(help="Kind of event; a trailing * matches all that begin so.")] = None,
    subject: Annotated[str | None, typer.Option(help="Subject token.")] = None,
    outcome: Annotated[str | None, typer.Option(help="intent, success, failure, abandoned, ...")] = None,
    since: Annotated[datetime | None, typer.Option(help="Recorded at or after (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(help="Recorded before (UTC).")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many rows, the newest.")] = 1000,
) -> None:
    """Print rows as JSON lines, oldest first."""
    query = sa.select(rows)
    for column, value in (
        (rows.c.purpose, purpose),
        (rows.c.dag_id, dag),
        (rows.c.run_id, run),
        (rows.c.subject_token, subject),
        (rows.c.outcome, outcome),
    ):
        if value is not None:
            query = query.where(column == value)
    if actor is not None:
        query = query.where(sa.or_(rows.c.actor == actor, rows.c.on_behalf_of == actor))
    if kind is not None:
        wanted = kind.removesuffix("*")
        query = query.where(rows.c.kind.startswith(wanted, autoescape=True) if kind != wanted else rows.c.kind == kind)
    if since is not None:
        query = query.where(rows.c.recorded_at >= since.replace(tzinfo=UTC))
    if until is not None:
        query = query.where(rows.c.recorded_at < until.replace(tzinfo=UTC))
    newest = query.order_by(rows.c.recorded_at.desc(), rows.c.chain.desc(), rows.c.seq.desc()).limit(limit)
    with db.transaction(_engine()) as connection:
        found = connection.execute(newest).mappings().all()
    for row in reversed(found):
        typer.echo(json.dumps(_printed(row), ensure_ascii=False))


@app.command()
def show(seq: Annotated[int, typer.Argument(help="Number of the row, as search prints it.")]) -> None:
    """Print one row with its hashes."""
    row = _row(seq)
    hashes = {name: bytes(row[name]).hex() for name in ("prev_hash", "row_hash")}
    typer.echo(json.dumps({**_printed(row), **hashes}, ensure_ascii=False, indent=2))


@app.command()
def abandon(seq: Annotated[int, typer.Argument(help="Number of an intent row without an outcome.")]) -> None:
    """Close the intent of a task that died, once somebody has looked into it. MEDBILL_ACTOR must say who."""
    if not os.environ.get("MEDBILL_ACTOR"):
        raise MedbillError("set MEDBILL_ACTOR to your user name; the ledger records who decides", code="ACTOR_MISSING")
    row = _row(seq)
    with db.transaction(_engine()) as connection:
        closed = connection.execute(sa.select(rows.c.chain).where(rows.c.intent == row["event_id"]).limit(1)).first()
    if row["outcome"] != "intent" or closed is not None:
        raise MedbillError("the row is not an open intent", code="NOT_AN_OPEN_INTENT")
    event = Event(
        action=row["action"],
        kind=row["kind"],
        purpose=row["purpose"],
        practice=row["practice"],
        resource=row["resource"],
        subject_token=row["subject_token"],
        source_hash=row["source_hash"],
    )
    typer.echo(f"row {Ledger(_engine(), RunContext.from_env()).abandon(event, row['event_id'])}")


def _row(seq: int) -> Mapping[Any, Any]:
    with db.transaction(_engine()) as connection:
        row = (
            connection.execute(sa.select(rows).where(rows.c.chain == seq % CHAINS, rows.c.seq == seq // CHAINS))
            .mappings()
            .one_or_none()
        )
    if row is None:
        raise MedbillError("the ledger has no row of this number", code="NO_SUCH_ROW")
    return row


def _printed(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        "number": number(row["chain"], row["seq"]),
        "chain": row["chain"],
        "seq": row["seq"],
        "recorded_at": row["recorded_at"].astimezone(UTC).isoformat(timespec="microseconds"),
        **json.loads(bytes(row["payload"])),
    }
