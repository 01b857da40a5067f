"""`medbill proposals`: what is proposed, a person's decision on it, and writing approved ones back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from medbill.errors import DecisionRefused, MedbillError

app = typer.Typer(help="List, approve, edit, reject, retry and apply proposals.", no_args_is_help=True)

_AsJson = Annotated[bool, typer.Option("--json", help="one JSON object a line")]
_Actor = Annotated[
    str,
    typer.Option(
        "--actor", help="who decides: a person's name", default_factory=lambda: os.environ.get("MEDBILL_ACTOR", "")
    ),
]
_Practice = Annotated[str | None, typer.Option("--practice", help="only this practice")]
_Kind = Annotated[
    str | None, typer.Option("--kind", help="posting, denial_follow_up, underpayment_dispute or coder_review")
]
_Day = Annotated[datetime | None, typer.Option("--day", formats=["%Y-%m-%d"], help="only this partition day")]


@app.command("list")
def list_proposals(
    status: Annotated[
        str | None, typer.Option(help="proposed, approved, edited, rejected, applied, failed, expired")
    ] = None,
    kind: _Kind = None,
    day: _Day = None,
    practice: _Practice = None,
    as_json: _AsJson = False,
) -> None:
    """Proposals, the most urgent and largest first."""
    from medbill.proposals import lifecycle, render

    with _connection() as connection:
        rows = lifecycle.list_(connection, practice=practice, status=status, kind=kind, day=day.date() if day else None)
    for row in rows:
        if as_json:
            typer.echo(json.dumps(row, default=str))
        else:
            typer.echo(
                f"{row['id']}  {row['day']}  {row['status']:<9} {row['kind']:<20} {render.dollars(row['amount']):>12}  {row['title']}"
            )
    if not rows and not as_json:
        typer.echo("no proposals")


@app.command()
def show(id: str, as_json: _AsJson = False) -> None:
    """One proposal: what would be written back, its hash, its history."""
    from medbill.proposals import lifecycle

    with _connection() as connection:
        row = lifecycle.show(connection, id)
    if as_json:
        typer.echo(json.dumps(row, default=str))
        return
    _print(row)
    for e in row["events"]:
        note = f"  {e['note']}" if e["note"] else ""
        typer.echo(
            f"  {e['created_at']:%Y-%m-%d %H:%M} {e['event']} by {e['actor']}, content {e['content_hash'][:12]}{note}"
        )
    for w in row["write_backs"]:
        error = f" ({w['error_code']})" if w["error_code"] else ""
        typer.echo(f"  {w['platform']} {w['action']}: {w['status']}{error}")


@app.command()
def approve(
    ids: Annotated[list[str] | None, typer.Argument(help="proposal ids")] = None,
    *,
    actor: _Actor,
    hash: Annotated[str | None, typer.Option("--hash", help="content hash you decided on; asks where absent")] = None,
    note: str | None = None,
    all_: Annotated[bool, typer.Option("--all", help="everything proposed of --kind and --day")] = False,
    kind: _Kind = None,
    day: _Day = None,
    practice: _Practice = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask after showing")] = False,
) -> None:
    """Approve proposals exactly as shown. Without --hash their content is shown first, and you are asked."""
    from medbill.audit.people import require_person
    from medbill.proposals import lifecycle

    require_person(actor)
    if all_ == bool(ids) or (all_ and hash) or (all_ and (kind is None or day is None)):
        raise typer.BadParameter("give proposal ids, or --all with --kind and --day")
    if hash is not None and len(ids or []) != 1:
        raise typer.BadParameter("--hash goes with exactly one proposal id")
    with _connection() as connection:
        if all_:
            found = lifecycle.list_(
                connection, practice=practice, status="proposed", kind=kind, day=day.date() if day else None
            )
            shown = [lifecycle.show(connection, row["id"]) for row in found]
        else:
            shown = [lifecycle.show(connection, i) for i in ids or []]
    for row in shown:
        _allowed(row, actor)
    decisions = [(row["id"], hash or row["content_hash"]) for row in shown]
    if not decisions:
        typer.echo("nothing to approve")
        return
    if hash is None:
        for row in shown:
            _print(row)
        if not yes:
            typer.confirm(f"approve {len(decisions)} proposal(s) as shown, as {actor}?", abort=True)
    refused, practices = 0, {row["id"]: row["practice"] for row in shown}
    for id, content in decisions:
        try:
            with _connection(practices[id]) as connection:
                lifecycle.approve(connection, id, content, actor, note)
        except DecisionRefused as error:
            refused += 1
            typer.echo(f"{id}  {error}", err=True)
            continue
        _record(id, shown, actor, "approved", content)
        typer.echo(f"{id}  approved")
    if refused:
        raise typer.Exit(1)


@app.command()
def reject(
    id: str,
    *,
    actor: _Actor,
    note: Annotated[str, typer.Option("--note", help="why")] = "",
    hash: Annotated[str | None, typer.Option("--hash", help="content hash you decided on")] = None,
) -> None:
    """Reject a proposal, saying why."""
    from medbill.proposals import lifecycle

    with _connection() as connection:
        row = lifecycle.show(connection, id)
    _allowed(row, actor)
    with _connection(row["practice"]) as connection:
        lifecycle.reject(connection, id, actor, note, hash)
    _record(id, [row], actor, "rejected", row["content_hash"])
    typer.echo(f"{id}  rejected")


@app.command()
def retry(
    id: str,
    *,
    actor: _Actor,
    note: Annotated[str | None, typer.Option("--note", help="what was put right")] = None,
    hash: Annotated[str | None, typer.Option("--hash", help="content hash you mean")] = None,
) -> None:
    """Write a failed proposal back after all, as it was approved; the platform is looked at before anything is sent."""
    from medbill.proposals import lifecycle

    with _connection() as connection:
        row = lifecycle.show(connection, id)
    _allowed(row, actor)
    with _connection(row["practice"]) as connection:
        lifecycle.retry(connection, id, actor, note, hash)
    _record(id, [row], actor, "retried", row["content_hash"])
    typer.echo(f"{id}  to be written back again")


@app.command()
def edit(
    id: str,
    *,
    actor: _Actor,
    file: Annotated[Path, typer.Option("--file", help="JSON of the edited payload (see show --json)")],
    hash: Annotated[str | None, typer.Option("--hash", help="content hash the edit was made from")] = None,
    note: str | None = None,
) -> None:
    """Approve a proposal with changes. The file holds the whole payload; amounts must still add up."""
    from medbill.proposals import lifecycle

    try:
        payload: Any = json.loads(file.read_text(encoding="utf-8"), parse_float=str)
    except (OSError, ValueError) as error:
        raise DecisionRefused(f"the file is no readable JSON ({type(error).__name__})") from None
    if not isinstance(payload, dict):
        raise DecisionRefused("the file must hold one JSON object, the payload")
    with _connection() as connection:
        row = lifecycle.show(connection, id)
    _allowed(row, actor)
    with _connection(row["practice"]) as connection:
        new_hash = lifecycle.edit(connection, id, hash or row["content_hash"], payload, actor, note)
    _record(id, [row], actor, "edited", new_hash)
    typer.echo(f"{id}  edited and approved, content {new_hash}")


@app.command()
def apply(practice: _Practice = None, as_json: _AsJson = False) -> None:
    """Write approved proposals back to the billing platform now (the DAG apply_proposals does it by itself)."""
    from medbill.errors import PlatformError
    from medbill.pipelines import apply as pipeline
    from medbill.pipelines import connections
    from medbill.pipelines.context import Context

    ctx = Context.open()
    chosen = [ctx.settings.practice(practice)] if practice else ctx.settings.practices()
    failed = False
    for name, platform in [(p.id, p.platform) for p in chosen if p.platform is not None]:
        try:
            with connections.client(ctx, name, connections.from_env(platform, name)) as writer:
                done = pipeline.apply(ctx, name, writer)
        except PlatformError as error:  # one practice's platform does not hold up the others
            typer.echo(f"{name}: {error}", err=True)
            failed = True
            continue
        failed = failed or done.failed > 0
        if as_json:
            typer.echo(json.dumps({"practice": name, **asdict(done)}))
        else:
            rest = f", {done.waiting} to be tried again" if done.waiting else ""
            typer.echo(f"{name}: {done.applied} written back, {done.failed} failed, {done.unknown} unknown{rest}")
    if failed:
        raise typer.Exit(1)


@app.command()
def work(practice: _Practice = None, as_json: _AsJson = False) -> None:
    """Approved write-backs that no platform takes by API: to be done by hand, the most urgent first."""
    from medbill.proposals import work as queue

    with _connection() as connection:
        items = queue.open_items(connection, practice)
    for item in items:
        if as_json:
            typer.echo(json.dumps(item, default=str))
        else:
            due = f"  by {item['due_on']}" if item["due_on"] else ""
            typer.echo(f"{item['idempotency_key']}  {item['practice']}  {item['title']}{due}")
    if not items and not as_json:
        typer.echo("nothing to do by hand")


@app.command("done")
def work_done(key: str, *, actor: _Actor, practice: Annotated[str, typer.Option(help="whose item it is")]) -> None:
    """Say that a work item was done by hand."""
    from medbill.proposals import work as queue

    with _connection(practice) as connection:
        queue.done(connection, key, actor)
    typer.echo(f"{key}  done")


def _print(row: dict[str, Any]) -> None:
    from medbill.proposals import render

    typer.echo(f"{row['id']}  {row['status']}  {row['kind']} of {row['day']}, {render.dollars(row['amount'])}")
    typer.echo(render.title(row["kind"], row["payload"]))
    typer.echo(render.text(row["kind"], row["claim_token"], row["payload"]))
    expires = f"  expires {row['expires_on']}" if row["expires_on"] else ""
    typer.echo(f"content {row['content_hash']}{expires}\n")


def _allowed(row: dict[str, Any], actor: str) -> None:
    """Raises DecisionRefused unless a role of the person decides on such proposals; a refusal is in the ledger."""
    from medbill.audit.ledger import Event
    from medbill.audit.roles import decide
    from medbill.settings import Settings

    event = Event(
        action="update",
        kind="proposal.decision",
        purpose="payment",
        practice=row["practice"],
        resource=f"proposal:{row['id']}",
        subject_token=row["claim_token"],
        source_hash=row["content_hash"],
    )
    decide(Settings.from_env(), actor, row["kind"], event)


def _record(id: str, shown: list[dict[str, Any]], actor: str, decision: str, content: str) -> None:
    """A ledger row beside the event: the decision stands already, so a ledger that is down is told, not fatal."""
    from medbill.audit.ledger import Event, Ledger, RunContext

    row = next(r for r in shown if r["id"] == id)
    event = Event(
        action="update",
        kind="proposal.decision",
        purpose="payment",
        practice=row["practice"],
        resource=f"proposal:{id}",
        subject_token=row["claim_token"],
        source_hash=content,
        details={"decision": decision},
    )
    try:
        Ledger(_engine(), RunContext(on_behalf_of=actor.strip())).record(event)
    except MedbillError as error:
        typer.echo(f"the decision is stored, but the ledger has no row of it: {error}", err=True)


def _engine() -> Any:
    from medbill.settings import Settings
    from medbill.store import db

    return db.engine(Settings.from_env().database_url)


@contextmanager
def _connection(practice: str | None = None) -> Iterator[Any]:
    """A transaction of one practice; without one, of all, to read only."""
    from medbill.store import db

    with db.transaction(_engine(), practice or db.EVERY_PRACTICE) as connection:
        yield connection
