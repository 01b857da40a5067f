"""`medbill reference`: load official tables, and say which are in force."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from medbill.rules.reference.load import Version

app = typer.Typer(help="Load official code sets and edits; say which are in force.", no_args_is_help=True)

_DATE = ["%Y-%m-%d"]
_Json = Annotated[bool, typer.Option("--json", help="one JSON object a line")]


@app.callback()
def _reference() -> None:
    pass


@app.command("load")
def load_files(
    files: Annotated[list[Path], typer.Argument(help="all files of one release, as published")],
    kind: Annotated[str, typer.Option("--kind", help="what they are; see docs/rules/reference.md")],
    version: Annotated[str | None, typer.Option("--version", help="where the names do not say")] = None,
    start: Annotated[datetime | None, typer.Option("--effective-from", formats=_DATE)] = None,
    end: Annotated[datetime | None, typer.Option("--effective-to", formats=_DATE)] = None,
    as_json: _Json = False,
) -> None:
    """Load one release. The same files again change nothing."""
    from medbill.rules.reference import load
    from medbill.settings import Settings
    from medbill.store.objects import ObjectStore

    made, new = load.load(
        ObjectStore(Settings.from_env().objects),
        kind,
        files,
        version=version,
        start=start.date() if start else None,
        end=end.date() if end else None,
    )
    if as_json:
        typer.echo(json.dumps({"new": new, **_described(made)}))
        return
    typer.echo(f"{'loaded' if new else 'already loaded'}: {_line(made)}")


@app.command()
def status(
    day: Annotated[
        datetime | None,
        typer.Option("--on", formats=_DATE, help="mark what judges this service date; today if not given"),
    ] = None,
    as_json: _Json = False,
) -> None:
    """Every loaded release, and kinds of which none is in force on the day."""
    from medbill.rules.reference import load
    from medbill.settings import Settings
    from medbill.store.objects import ObjectStore

    found = load.versions(ObjectStore(Settings.from_env().objects))
    on = day.date() if day else datetime.now().astimezone().date()
    for kind in load.READERS:
        of_kind = [v for v in found if v.kind == kind]
        judge = next((v for v in reversed(of_kind) if v.covers(on)), None)
        for v in of_kind:
            if as_json:
                typer.echo(json.dumps({**_described(v), "in_force": v is judge}))
            else:
                typer.echo(f"{'*' if v is judge else ' '} {_line(v)}")
        if judge is None:
            if as_json:
                typer.echo(json.dumps({"kind": kind, "version": None, "in_force": False}))
            else:
                typer.echo(f"! {kind}: none in force on {on}")


def _described(v: Version) -> dict[str, object]:
    found: dict[str, object] = json.loads(json.dumps(asdict(v), default=str))
    return found


def _line(v: Version) -> str:
    rows = ", ".join(f"{t.rows:,} {t.name}" for t in v.tables)
    return f"{v.kind} {v.version}: {v.start} to {v.end or 'open'}, {rows}, SHA-256 {v.files[0].sha256[:12]}"
