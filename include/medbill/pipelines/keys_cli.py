"""`medbill keys`: which master key wraps which data key, new master keys, the first keyring. Never prints key material."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medbill.errors import BadInput, KeyUnavailable, MedbillError

if TYPE_CHECKING:
    from medbill.pipelines.context import Context

app = typer.Typer(help="Show and rotate the keys everything is sealed under.", no_args_is_help=True)


@app.command()
def status(
    check: Annotated[bool, typer.Option("--check", help="Unwrap every data key; exit code 1 where one fails.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON.")] = False,
) -> None:
    """List every data key by practice, purpose and version, with the master key that wraps it.

    The newest version of a purpose seals; older ones open what they sealed.
    """
    from medbill.pipelines.context import Context

    ctx = Context.open()
    rows: list[dict[str, Any]] = []
    for key in ctx.envelopes.versions():
        row = {
            "practice": key.practice,
            "purpose": key.purpose,
            "version": key.version,
            "since": key.created_at.date().isoformat(),
            "master_key": key.master_key,
        }
        if check:
            row["opens"] = _opens(ctx, key.practice, key.purpose, key.version)
        rows.append(row)
    current = _current(ctx)
    if as_json:
        typer.echo(json.dumps({"current_master_key": current, "data_keys": rows}))
    else:
        typer.echo(f"wrapping now: {current}\n")
        head = ["practice", "purpose", "version", "since", "master_key", *(["opens"] if check else [])]
        lines = [head, *([str(row[name]) for name in head] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    if any(row.get("opens", "yes") != "yes" for row in rows):
        raise typer.Exit(1)


@app.command()
def rotate(
    actor: Annotated[str, typer.Option("--actor", help="Who decides: a person's name.", envvar="MEDBILL_ACTOR")],
    former: Annotated[
        str | None, typer.Option("--former", help="Also move what this keyring file or kms:// address wrapped.")
    ] = None,
) -> None:
    """Wrap every data key of every practice under a new master key version; what is sealed stays as it is.

    A local keyring gets the new version here. A KMS key is rotated or replaced at AWS: then this moves the data keys to
    the key MEDBILL_KEYRING names, from those it names as former. May be run again at any time.
    """
    from medbill.audit.ledger import Event
    from medbill.audit.roles import permit
    from medbill.pipelines.context import Context
    from medbill.settings import Settings
    from medbill.store.keys import LocalKeyring, open_keys

    ctx = Context.for_person(permit(Settings.from_env(), actor, "keys"))
    older = None if former is None else open_keys(Settings.from_env({**os.environ, "MEDBILL_KEYRING": former}))
    event = Event(action="update", kind="keys.rotate", purpose="operations", practice="-", resource="data keys")
    with ctx.ledger.touch(event) as touch:
        if isinstance(ctx.keys, LocalKeyring):
            ctx.keys.rotate()
        touch.note(master_key=ctx.keys.current)
        done = ctx.envelopes.rewrap(older)
        touch.note(keys=done.keys, left=done.left)
    typer.echo(f"{done.keys} data keys wrapped anew, under {_current(ctx)}")
    if done.left:
        typer.echo(f"{done.left} are damaged and stay as they are: medbill keys status --check names them", err=True)
        raise typer.Exit(1)


@app.command()
def create(file: Annotated[Path, typer.Argument(help="The new keyring; must not exist.")]) -> None:
    """Make the first keyring of a deployment, with rights 0600. A running installation has one: never replace it."""
    from medbill.store.keys import LocalKeyring

    if file.exists():
        raise BadInput(
            "there is a file of this name, and a keyring is never replaced; choose another", code="FILE_EXISTS"
        )
    keyring = LocalKeyring(file)
    keyring.data_key({}, first=True)  # the keyring is made with its first key, and this one is for nothing
    typer.echo(f"made {keyring.current}; back the file up, apart from the data")


def _current(ctx: Context) -> str:
    """The master key that wraps new data keys: keyring id and version, or the KMS key as it is configured."""
    try:
        return ctx.keys.current
    except KeyUnavailable:
        return "none: the keyring is missing"


def _opens(ctx: Context, practice: str, purpose: str, version: int) -> str:
    try:
        ctx.envelopes.data_key(practice, purpose, version)
    except MedbillError as error:
        return error.code
    return "yes"
