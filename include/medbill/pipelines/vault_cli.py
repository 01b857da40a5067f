"""`medbill vault`: new keys for the token vault, and shredding of one patient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from medbill.pipelines.context import Context

app = typer.Typer(help="Rotate the vault's keys; shred one patient.", no_args_is_help=True)

_Practice = Annotated[str, typer.Option("--practice", help="Whose vault.")]
_Actor = Annotated[str, typer.Option("--actor", help="Who decides: a person's name.", envvar="MEDBILL_ACTOR")]


@app.command()
def rotate(practice: _Practice, actor: _Actor) -> None:
    """Seal and index every value under new keys, then delete the old ones. Tokens stay; work goes on meanwhile."""
    from medbill.audit.ledger import Event

    ctx = _context(actor, practice, "keys")
    event = Event(action="update", kind="vault.rotate", purpose="operations", practice=practice, resource="vault")
    with ctx.ledger.touch(event) as touch:
        done = ctx.vault(practice).rotate()
        touch.note(values=done.values, left=done.left)
    typer.echo(f"{done.values} values under new keys")
    if done.left:
        typer.echo(f"{done.left} could not be opened: they stay, and the older keys with them", err=True)
        raise typer.Exit(1)


@app.command()
def shred(
    patient: Annotated[str, typer.Argument(help="The patient, by the PATIENT token of the published claims.")],
    practice: _Practice,
    actor: _Actor,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Make what the vault knows of one patient unreadable, for good and for everybody, and what was landed of them."""
    from medbill.pipelines import shred as pipeline

    ctx = _context(actor, practice, "shred")
    if not yes:
        count = len(pipeline.tokens_of(ctx, practice, patient))
        typer.confirm(f"shred {count} values of one patient? They cannot be brought back", abort=True)
    done = pipeline.shred(ctx, practice, patient)
    typer.echo(f"{done.values} values shredded, {done.objects} landed objects purged, {done.rewritten} sealed anew")


def _context(actor: str, practice: str, command: str) -> Context:
    from medbill.audit.roles import permit
    from medbill.pipelines.context import Context
    from medbill.settings import Settings

    ctx = Context.for_person(permit(Settings.from_env(), actor, command))
    ctx.settings.practice(practice)
    return ctx
