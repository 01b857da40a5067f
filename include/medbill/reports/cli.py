"""`medbill report`: reports over what is published."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Make reports.", no_args_is_help=True)

_DATE = ["%Y-%m-%d"]


@app.callback()
def _reports() -> None:
    pass


@app.command()
def denials(
    start: Annotated[datetime, typer.Option("--from", formats=_DATE, help="first payment date")],
    end: Annotated[datetime, typer.Option("--to", formats=_DATE, help="last payment date")],
    out: Annotated[Path, typer.Option("--out", file_okay=False, help="folder to write into")],
    practice: Annotated[
        str | None, typer.Option("--practice", help="practice id; needed where there are several")
    ] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option("--as-of", formats=_DATE, help="day to count age and deadlines from; today if not given"),
    ] = None,
) -> None:
    """Denial root causes of one practice: an HTML page, and its tables as CSV and Parquet."""
    from decimal import Decimal

    from medbill.errors import PolicyError
    from medbill.pipelines import report
    from medbill.pipelines.context import Context
    from medbill.reports.exact import dollars, plural

    ctx = Context.open()
    if practice is None:
        known = [p.id for p in ctx.settings.practices()]
        if len(known) != 1:
            raise PolicyError("practices.yml has several practices: say which with --practice")
        practice = known[0]
    clock = as_of or datetime.now().astimezone()
    made = report.denials(ctx, practice, start.date(), end.date(), out, clock.date())
    head = made.summary["figures"]
    if head["denials"]:
        typer.echo(
            f"{dollars(Decimal(head['denied']))} denied on {plural(head['denied_claims'], 'claim')}, "
            f"{dollars(Decimal(head['recoverable']))} recoverable, {dollars(Decimal(head['due_soon']))} due within 14 days"
        )
    else:
        typer.echo("no denials in this period")
    typer.echo(made.html)
