"""`medbill audit`: verify and search the ledger. Prints ids, codes, counts and tokens; the ledger holds nothing else."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import sqlalchemy as sa
import typer

from medbill.audit import find
from medbill.audit.anchor import Anchor
from medbill.audit.find import Search
from medbill.audit.ledger import KNOWN_DETAILS, Event, Ledger, RunContext
from medbill.audit.roles import permit
from medbill.audit.seal import Places, rotate, seal
from medbill.audit.signing import load_public, public_path
from medbill.audit.tables import CHAINS, number, rows
from medbill.audit.verify import verify as recompute
from medbill.audit.worm import worm
from medbill.errors import BadInput, MedbillError, StoreUnavailable
from medbill.settings import Settings
from medbill.store import db

app = typer.Typer(help="Verify, seal and search the ledger.", no_args_is_help=True)

_Purpose = Annotated[str | None, typer.Option(help="Purpose of use, e.g. payment.")]
_Actor = Annotated[str | None, typer.Option(help="Service, or the person it acted for.")]
_Dag = Annotated[str | None, typer.Option(help="Airflow DAG id.")]
_Run = Annotated[str | None, typer.Option(help="Airflow DAG run id.")]
_Kind = Annotated[str | None, typer.Option(help="Kind of event; a trailing * matches all that begin so.")]
_Claim = Annotated[str | None, typer.Option("--claim", "--subject", help="The row's subject, e.g. a claim token.")]
_Token = Annotated[str | None, typer.Option(help="A vault token, as subject or in the details.")]
_Proposal = Annotated[str | None, typer.Option(help="Id of a proposal, or the hash of its content.")]
_Detail = Annotated[list[str] | None, typer.Option(help=f"KEY=VALUE of a known detail: {', '.join(KNOWN_DETAILS)}.")]
_Outcome = Annotated[str | None, typer.Option(help="intent, success, failure, abandoned, ...")]
_Since = Annotated[datetime | None, typer.Option(help="Recorded at or after (UTC).")]
_Until = Annotated[datetime | None, typer.Option(help="Recorded before (UTC).")]
_Place = Annotated[str | None, typer.Option(help="Where checkpoints are: a folder or s3://bucket/prefix.")]


def _engine() -> sa.Engine:
    return db.engine(Settings.from_env().audit_url)


@app.command()
def verify(
    open_after: Annotated[
        float, typer.Option(help="Hours after which an intent without an outcome is a problem.")
    ] = 6.0,
    checkpoints: _Place = None,
    public_key: Annotated[
        Path | None, typer.Option(help="PEM file of the key that must have signed; else the first checkpoint's counts.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that recompute.")] = None,
) -> None:
    """Recompute all hashes, links and heads, and hold them against the checkpoints. Exit code 0: nothing wrong; 1: problems,
    one per line. Warnings (a late checkpoint) leave it 0."""
    places = Places.of(Settings.from_env())
    pinned = public_key or (places.public_key if places.public_key.exists() else None)
    anchor = Anchor(worm(checkpoints or places.checkpoints), load_public(pinned) if pinned else None)
    report = recompute(_engine(), timedelta(hours=open_after), anchor, workers)
    typer.echo(
        f"rows {report.rows}  chains {report.chains}  problems {len(report.problems)}  running {report.open_intents}"
    )
    if checkpoints or report.checkpoints:
        by = "a pinned key" if pinned else "the first checkpoint's key"
        typer.echo(f"checkpoints {report.checkpoints}  rows sealed {report.sealed}  signed by {by}")
    for problem in report.problems:
        row = "" if problem.number is None else f" row {problem.number}"
        typer.echo(f"{problem.code}{row}: {problem.message}")
    for warning in report.warnings:
        typer.echo(f"warning {warning.code}: {warning.message}")
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def checkpoint(
    checkpoints: _Place = None,
    every: Annotated[
        float | None, typer.Option(min=1, max=300, help="Keep running and make one every so many seconds.")
    ] = None,
) -> None:
    """Seal all committed rows into a signed checkpoint in write-once storage; without new rows it is a sign of life.

    With --every, storage or a database that is down is told and tried again; an altered ledger or a wrong key ends it.
    """
    settings = Settings.from_env()
    places = Places.of(settings)
    store, stop = worm(checkpoints or places.checkpoints), threading.Event()
    while True:
        try:
            made = seal(db.engine(settings.seal_url), store, places.key)
            typer.echo(f"checkpoint {made.number}  rows sealed {made.rows}  digest {made.digest.hex()}")
        except StoreUnavailable as error:
            if every is None:
                raise
            typer.echo(str(error), err=True)
        if every is None or stop.wait(every):
            return


@app.command()
def rotate_signing_key(checkpoints: _Place = None) -> None:
    """Make a checkpoint that hands the signing over to a new key, which then lies in the place of the old one.

    MEDBILL_ACTOR must say who. Verifiers that pin the old key accept the new one from there on; give them its public half
    at leisure. A sealer on another machine needs the new key file at once.
    """
    settings = Settings.from_env()
    permit(settings, os.environ.get("MEDBILL_ACTOR"), "keys")
    places = Places.of(settings)
    event = Event("update", "audit.rotate_signing_key", "operations", "-", "audit:signing_key")
    with Ledger(db.engine(settings.database_url), RunContext.from_env()).touch(event) as touch:
        made = rotate(db.engine(settings.seal_url), worm(checkpoints or places.checkpoints), places.key)
        new = made.next_signer.hex()
        touch.note(checkpoint=made.number, former=made.signer.hex(), successor=new)
    typer.echo(f"checkpoint {made.number} hands over to {new}; its public half is in {public_path(places.key).name}")


@app.command()
def search(
    claim: _Claim = None,
    token: _Token = None,
    actor: _Actor = None,
    purpose: _Purpose = None,
    dag: _Dag = None,
    run: _Run = None,
    kind: _Kind = None,
    proposal: _Proposal = None,
    detail: _Detail = None,
    outcome: _Outcome = None,
    since: _Since = None,
    until: _Until = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many rows, the newest.")] = 1000,
) -> None:
    """Print rows as JSON lines, oldest first."""
    wanted = Search(
        claim, token, actor, purpose, None, dag, run, kind, outcome, proposal, _details(detail), since, until
    )
    for row in find.newest(_engine(), wanted, limit):
        typer.echo(_json(find.as_dict(row)))


class _Format(StrEnum):
    jsonl = "jsonl"
    fhir = "fhir"


@app.command()
def export(
    format: Annotated[_Format, typer.Option(help="jsonl: rows with their hashes; fhir: AuditEvent R4, one a line.")],
    claim: _Claim = None,
    token: _Token = None,
    actor: _Actor = None,
    purpose: _Purpose = None,
    dag: _Dag = None,
    run: _Run = None,
    kind: _Kind = None,
    proposal: _Proposal = None,
    detail: _Detail = None,
    outcome: _Outcome = None,
    since: _Since = None,
    until: _Until = None,
) -> None:
    """Print all rows that match, oldest first. FHIR resources are checked before they are printed."""
    from medbill.audit.fhir import audit_event

    wanted = Search(
        claim, token, actor, purpose, None, dag, run, kind, outcome, proposal, _details(detail), since, until
    )
    for row in find.stream(_engine(), wanted):
        if format is _Format.jsonl:
            typer.echo(_json({**find.as_dict(row), **_hashes(row)}))
            continue
        try:
            typer.echo(_json(audit_event(row)))
        except (ValueError, KeyError):
            at = number(row["chain"], row["seq"])
            raise BadInput(f"row {at} is no valid AuditEvent; run `medbill audit verify`", code="NOT_FHIR") from None


@app.command()
def disclosures(
    subject: Annotated[
        list[str], typer.Option(help="Token of the individual or of one of their claims; may be given often.")
    ],
    since: _Since = None,
    until: _Until = None,
    include_exempt: Annotated[
        bool,
        typer.Option(help="Also treatment, payment, operations and the individual's own, which the rule leaves out."),
    ] = False,
) -> None:
    """Accounting of disclosures of one individual (45 CFR 164.528), the last six years, as JSON lines."""
    from medbill.audit.disclosures import disclosures as account

    for one in account(_engine(), subject, since=since, until=until, include_exempt=include_exempt):
        typer.echo(_json(dataclasses.asdict(one)))


@app.command()
def show(id: Annotated[str, typer.Argument(help="Number of the row, as search prints it, or its event id.")]) -> None:
    """Print one row with its hashes."""
    row = _row(id)
    typer.echo(json.dumps({**find.as_dict(row), **_hashes(row)}, ensure_ascii=False, indent=2))


@app.command()
def abandon(id: Annotated[str, typer.Argument(help="Number of an intent row without an outcome.")]) -> None:
    """Close the intent of a task that died, once somebody has looked into it. MEDBILL_ACTOR must say who."""
    permit(Settings.from_env(), os.environ.get("MEDBILL_ACTOR"), "abandon")
    row = _row(id)
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
    typer.echo(
        f"row {Ledger(db.engine(Settings.from_env().database_url), RunContext.from_env()).abandon(event, row['event_id'])}"
    )


def _row(id: str) -> Mapping[Any, Any]:
    query = sa.select(rows)
    if id.isascii() and id.isdigit() and len(id) < 19:
        query = query.where(rows.c.chain == int(id) % CHAINS, rows.c.seq == int(id) // CHAINS)
    else:
        try:
            query = query.where(rows.c.event_id == str(uuid.UUID(id)))
        except ValueError:
            raise BadInput("a row is shown by its number or its event id", code="NO_SUCH_ROW") from None
    with db.transaction(_engine()) as connection:
        row = connection.execute(query).mappings().first()
    if row is None:
        raise MedbillError("the ledger has no such row", code="NO_SUCH_ROW")
    return row


def _details(pairs: list[str] | None) -> dict[str, str]:
    wanted = {key: value for key, _, value in (pair.partition("=") for pair in pairs or [])}
    if not set(wanted) <= set(KNOWN_DETAILS):
        raise BadInput(f"--detail takes KEY=VALUE, KEY one of {', '.join(KNOWN_DETAILS)}", code="DETAIL_UNKNOWN")
    return wanted


def _hashes(row: Mapping[Any, Any]) -> dict[str, str]:
    return {name: bytes(row[name]).hex() for name in ("prev_hash", "row_hash")}


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False)
