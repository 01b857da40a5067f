"""`medbill platforms`: what each adapter can do and how sure we are of it; whether each account answers."""

from __future__ import annotations

import json
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="What the billing platforms' adapters can do; whether accounts answer.")

_AsJson = Annotated[bool, typer.Option("--json", help="one JSON object a line")]


@app.command()
def show(
    platform: Annotated[str | None, typer.Argument(help="Only this one.")] = None, as_json: _AsJson = False
) -> None:
    """Every operation with its certainty: spec (the vendor's text), seen (by others, live), code (of others), guess."""
    from medbill.platforms import registry

    for name in [platform] if platform else registry.NAMES:
        adapter = registry.adapter(name)
        kinds = "; ".join(f"{kind}: {', '.join(actions)}" for kind, actions in sorted(adapter.actions.items()))
        if not as_json:
            typer.echo(f"{name}  (a proposal becomes {kinds})")
        for operation, what in adapter.capabilities.items():
            if as_json:
                row = {"platform": name, "operation": operation, "certainty": what.certainty.value}
                typer.echo(json.dumps({**row, "request": what.request, "note": what.note}))
            else:
                note = f"\n{'':<39}{what.note}" if what.note else ""
                typer.echo(f"  {operation:<28} {what.certainty.value:<7} {what.request}{note}")


@app.command()
def check(
    practice: Annotated[str | None, typer.Option(help="Only this one.")] = None, as_json: _AsJson = False
) -> None:
    """One small read without patient data on every configured account; exit code 1 where one does not answer."""
    from medbill.errors import PlatformError
    from medbill.pipelines import connections
    from medbill.pipelines.context import Context

    ctx = Context.open()
    chosen = [ctx.settings.practice(practice)] if practice else ctx.settings.practices()
    failed = False
    for one in chosen:
        if one.platform is None:
            continue
        code, said = "OK", "answers"
        try:
            with connections.client(ctx, one.id, connections.from_env(one.platform, one.id)) as platform:
                platform.check()
        except PlatformError as error:
            code, said, failed = error.code, str(error), True
        if as_json:
            typer.echo(json.dumps({"practice": one.id, "platform": one.platform, "code": code}))
        else:
            typer.echo(f"{one.id:<16} {one.platform:<12} {said}")
    if failed:
        raise typer.Exit(1)
