"""`medbill inbox`: files, quarantine and holds, and a person's word on a held file."""

from __future__ import annotations

import json
import os
from typing import Annotated, Any

import sqlalchemy as sa
import typer

app = typer.Typer(help="What came in, what is quarantined or held, and a person's word on it.", no_args_is_help=True)

_AsJson = Annotated[bool, typer.Option("--json", help="one JSON object a line")]
_PracticeOption = Annotated[str | None, typer.Option("--practice", help="only this practice")]


def _print(rows: list[dict[str, Any]], as_json: bool) -> None:
    for row in rows:
        typer.echo(
            json.dumps(row, default=str)
            if as_json
            else "  ".join(f"{v if v is not None else '-'}" for v in row.values())
        )
    if not rows and not as_json:
        typer.echo("nothing")


def _select(table: sa.Table, columns: list[str], *where: sa.ColumnElement[bool]) -> list[dict[str, Any]]:
    from medbill.settings import Settings
    from medbill.store import db

    with db.transaction(db.engine(Settings.from_env().database_url), db.EVERY_PRACTICE) as connection:
        query = sa.select(*[table.c[c] for c in columns]).where(*where).order_by(*[table.c[c] for c in columns])
        return [dict(row) for row in connection.execute(query).mappings()]


@app.command("list")
def list_files(status: str | None = None, practice: _PracticeOption = None, as_json: _AsJson = False) -> None:
    """Files that came in: practice, day, status, reason, version of the name, hash."""
    from medbill.store.tables import inbox_files as t

    where = [t.c.status == status] if status else []
    where += [t.c.practice == practice] if practice else []
    _print(_select(t, ["practice", "day", "status", "reason_code", "version", "sha256"], *where), as_json)


@app.command()
def quarantine(practice: _PracticeOption = None, as_json: _AsJson = False) -> None:
    """Files and records a gate refused, with their reasons."""
    from medbill.store.tables import quarantine as t

    where = [t.c.practice == practice] if practice else []
    _print(
        _select(
            t,
            ["practice", "day", "level", "record_key", "reason_code", "reason", "claims", "charge", "paid", "status"],
            *where,
        ),
        as_json,
    )


@app.command()
def holds(practice: _PracticeOption = None, as_json: _AsJson = False) -> None:
    """Remittance claims that wait for a person before anything is proposed."""
    from medbill.store.tables import holds as t

    where = [t.c.status == "open"] + ([t.c.practice == practice] if practice else [])
    _print(_select(t, ["practice", "day", "claim_key", "reason_code", "reason", "charge", "paid"], *where), as_json)


def _decide(practice: str, sha256: str, actor: str, accept: bool) -> None:
    from medbill.audit.roles import permit
    from medbill.pipelines import receive
    from medbill.pipelines.context import Context
    from medbill.settings import Settings

    actor = permit(Settings.from_env(), actor, "release")
    receive.release(Context.for_person(actor), practice, sha256, actor=actor, accept=accept)
    typer.echo("released: the next receive_remittances run lands it" if accept else "quarantined")


_Actor = Annotated[
    str, typer.Option("--actor", help="who decides", default_factory=lambda: os.environ.get("MEDBILL_ACTOR", ""))
]


@app.command()
def release(practice: str, sha256: str, actor: _Actor) -> None:
    """Let a held file in as a further file of its day."""
    _decide(practice, sha256, actor, accept=True)


@app.command()
def reject(practice: str, sha256: str, actor: _Actor) -> None:
    """Send a held file to quarantine."""
    _decide(practice, sha256, actor, accept=False)
