"""`medbill scrub`: check claims of a file before they are sent."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Check claims before they are sent.", add_completion=False)


@app.command()
def scrub(
    file: Annotated[
        Path | None, typer.Argument(help="claims as 837P, 837I or JSON Lines, see docs/rules/scrub.md")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", dir_okay=False, help="where to write the results; standard output if not given"),
    ] = None,
    as_of: Annotated[
        datetime | None, typer.Option("--as-of", formats=["%Y-%m-%d"], help="day of checking; today if not given")
    ] = None,
    status: Annotated[
        bool,
        typer.Option("--status", help="instead of a file: the clean-claim rate of each practice's published claims"),
    ] = False,
) -> None:
    """One JSON object per claim: pass, needs_review or fail, with what was found and what to do."""
    from medbill.errors import BadInput
    from medbill.rules.reference.tables import Reference
    from medbill.rules.scrub import read
    from medbill.rules.scrub.engine import Scrubber
    from medbill.rules.scrub.policy import load_payer_rules, load_policy
    from medbill.settings import Settings
    from medbill.store.objects import ObjectStore
    from medbill.x12 import claim837

    if status or file is None:
        if not status or file is not None:
            raise BadInput("give a file, or --status, and not both", code="FILE_UNREADABLE")
        return _status()
    settings = Settings.from_env()
    scrubber = Scrubber(
        Reference.open(ObjectStore(settings.objects)),
        load_policy(settings.policies),
        load_payer_rules(settings.policies),
        settings.sql,
    )
    day = (as_of or datetime.now().astimezone()).date()
    verdicts: Counter[str] = Counter()
    try:
        data = file.read_bytes()
    except OSError as error:
        raise BadInput(
            f"the file cannot be read ({type(error).__name__}); check path and rights", code="FILE_UNREADABLE"
        ) from None
    source: Iterable[read.Record]
    if b"{" not in data[:400] and b"ISA" in data[:400].replace(b"\0", b""):
        source = claim837.records(data)
    else:
        source = io.StringIO(data.decode("utf-8-sig", "replace"))
    sink = out.open("w", encoding="utf-8") if out else None
    with sink or nullcontext():
        for claims, lines in read.batches(source):
            for record in scrubber.scrub(claims, lines, day).records():
                verdicts[record["validation_result"]] += 1
                text = json.dumps(record, ensure_ascii=False)
                if sink:
                    sink.write(f"{text}\n")
                else:
                    typer.echo(text)
    total = sum(verdicts.values())
    summary = ", ".join(f"{verdicts[name]:,} {name}" for name in ("pass", "needs_review", "fail"))
    clean = f"; clean-claim rate {100 * verdicts['pass'] / total:.1f} %" if total else ""
    typer.echo(f"{total:,} claims: {summary}{clean}", err=True)


def _status() -> None:
    from medbill.pipelines import scrub as pipeline
    from medbill.pipelines.context import Context

    ctx = Context.open()
    found = pipeline.status(ctx, [practice.id for practice in ctx.settings.practices()])
    for s in found:
        typer.echo(
            f"{s.practice}: {s.claims:,} claims, clean-claim rate {s.clean_rate} %: {s.clean:,} pass, "
            f"{s.needs_review:,} needs_review, {s.failed:,} fail, {s.held:,} held until reference tables are loaded"
        )
    if not found:
        typer.echo("no claims are scrubbed yet; scrub_claims does it when claims are published")
