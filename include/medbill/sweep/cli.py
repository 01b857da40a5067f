"""`medbill phi-sweep`: is there a value that may be nowhere? Exit code 0: no; 1: yes; 2: a place could not be searched."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

import typer

from medbill.errors import BadInput, MedbillError
from medbill.settings import Settings

app = typer.Typer(
    help="Search every place where bytes rest for values that may be nowhere.", invoke_without_command=True
)

_Pairs = Annotated[list[str] | None, typer.Option("--place", help="NAME=FOLDER, FILE or s3://…; adds or replaces it.")]
_Without = Annotated[list[str] | None, typer.Option("--without", help="NAME=REASON: a place that is not searched.")]


@app.callback()
def run(
    context: typer.Context,
    canaries: Annotated[
        Path | None, typer.Option("--canaries", help='JSON Lines: {"kind": "ssn", "value": "…"}')
    ] = None,
    place: _Pairs = None,
    without: _Without = None,
    temp: Annotated[
        list[Path] | None, typer.Option("--temp", help="folder of temporary files; may be given again")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the whole report as JSON")] = False,
) -> None:
    """Search every place for every canary. No value is printed: a canary is its kind and its line in the file."""
    if context.invoked_subcommand is not None:
        return
    from medbill.sweep.canaries import read
    from medbill.sweep.plan import Told, plan
    from medbill.sweep.run import CANNOT, details, sweep

    if canaries is None:
        raise typer.BadParameter("say which file of canaries: --canaries FILE")
    where: dict[str, list[str]] = {}
    for name, value in _pairs(place):
        where.setdefault(name, []).append(value)
    told = Told(where, dict(_pairs(without)), temp or ())
    try:
        found = read(canaries)
        planned = plan(Settings.from_env(), canaries, told)
    except MedbillError as error:
        typer.echo(error, err=True)
        raise typer.Exit(CANNOT) from None
    report = sweep(found, planned, (lambda _: None) if as_json else typer.echo)
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=1))
    else:
        for text in details(report):
            typer.echo(text)
        total = sum(s.bytes for s in report.searched)
        typer.echo(
            f"{report.canaries} canaries, {total:,} bytes, {report.hits} hits, {len(report.problems)} not searched"
        )
    raise typer.Exit(report.code)


@app.command()
def plant(
    inbox: Annotated[Path | None, typer.Option(help="default: the stack's")] = None,
    state: Annotated[Path | None, typer.Option(help="the sandbox's folder; default: the stack's")] = None,
    seed: Annotated[int, typer.Option(help="Another number gives other values.")] = 1,
) -> None:
    """Plant identifiers of every kind into the sandbox's practice, which was seeded before; prints the file of canaries."""
    from medbill.sandbox.seed import CANARIES_FILE, SEEDED_FILE, TRUTH_FILE, seed_practice
    from medbill.stack.files import Home

    settings = Settings.from_env()
    folder = state or Home(settings.home).sandbox
    try:
        known = json.loads((folder / SEEDED_FILE).read_text())
        last = date.fromisoformat(json.loads((folder / TRUTH_FILE).read_text())["last_day"])
    except (OSError, ValueError, KeyError):
        raise BadInput(
            "the state folder has no practice; run `medbill sandbox seed` first", code="SANDBOX_NOT_SEEDED"
        ) from None
    seed_practice(
        inbox or Path(settings.inbox),
        folder,
        last + timedelta(days=1),
        seed=known["seed"],
        claims=known["claims"],
        days=known["days"],
        canaries=seed,
    )
    typer.echo(folder / CANARIES_FILE)


def _pairs(texts: list[str] | None) -> list[tuple[str, str]]:
    pairs = [text.partition("=") for text in texts or ()]
    if any(not name or not value for name, _, value in pairs):
        raise typer.BadParameter("NAME=VALUE")
    return [(name, value) for name, _, value in pairs]
