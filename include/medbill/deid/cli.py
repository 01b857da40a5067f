"""`medbill deid run` and `medbill deid explain`: free text in JSON Lines, de-identified."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from medbill.errors import BadInput, MedbillError

app = typer.Typer(help="De-identify free text.", no_args_is_help=True)
#: Documents per batch: bounds memory, and is what one vault transaction covers.
BATCH = 500


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", errors="surrogatepass") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise BadInput(f"line {number} is not JSON; each line is an object with id and text") from error
            if not isinstance(row, dict) or "id" not in row or not isinstance(row.get("text"), str):
                raise BadInput(f"line {number} lacks id or text; each line is an object with id and text")
            yield row


def _records(path: Path | None) -> dict[str, dict[str, Any]]:
    """Records by id: lines of {"id", "record": {...}}, or {"id", field: value, ...}."""
    out: dict[str, dict[str, Any]] = {}
    if path is None:
        return out
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                key = str(row["id"])
                record = row.get("record", {k: v for k, v in row.items() if k != "id"})
            except (ValueError, KeyError, AttributeError, TypeError) as error:
                raise BadInput(f"line {number} of the records is not an object with an id") from error
            out[key] = record if isinstance(record, dict) else {}
    return out


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row["text"])
        if len(batch) >= BATCH or size > 5_000_000:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _record(row: dict[str, Any], records: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    own = row.get("record")
    merged = {**records.get(str(row["id"]), {}), **(own if isinstance(own, dict) else {})}
    return merged or None


@contextmanager
def _vault(practice: str | None, source: Path) -> Iterator[Any]:
    """The practice's vault, open while a ledger row says that this file is being read into it."""
    from medbill.audit.ledger import Event, Ledger, RunContext
    from medbill.deid.vault import Vault
    from medbill.settings import Settings
    from medbill.store import db
    from medbill.store.keys import LocalKeyring

    settings = Settings.from_env()
    chosen = settings.practice(practice) if practice else settings.practices()[0]
    engine = db.engine(settings.database_url)
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    event = Event(
        action="create", kind="deid.run", purpose="operations", practice=chosen.id, resource="file", source_hash=digest
    )
    with Ledger(engine, RunContext.from_env()).touch(event):
        yield Vault(engine, LocalKeyring(settings.keyring), chosen.id)


def _fail(error: MedbillError) -> typer.Exit:
    typer.echo(str(error), err=True)
    return typer.Exit(2 if isinstance(error, BadInput) else 1)


@app.command()
def run(
    source: Annotated[
        Path, typer.Argument(help='JSON Lines: {"id", "text", optional "record"}.', exists=True, dir_okay=False)
    ],
    out: Annotated[Path, typer.Option("--out", help='JSON Lines: {"id", "text", "spans"}.')],
    records: Annotated[Path | None, typer.Option("--records", help="Structured records by id.", exists=True)] = None,
    model: Annotated[str | None, typer.Option("--model", help="A language model, e.g. en_core_web_sm.")] = None,
    practice: Annotated[
        str | None, typer.Option("--practice", help="Whose vault; the first of practices.yml by default.")
    ] = None,
    no_vault: Annotated[
        bool, typer.Option("--no-vault", help="Random tokens of this run only; nothing can be revealed.")
    ] = False,
) -> None:
    """De-identify every text; offsets of the spans refer to the text as given.

    A text that cannot be searched in time is left out of the output and counted; the exit code is then 3.
    """
    from medbill.deid.text.engine import Engine, RunTokens
    from medbill.deid.text.errors import TextTooHard

    refused = done = found = 0
    partial = out.with_name(out.name + ".partial")
    try:
        known = _records(records)
        engine = Engine(model)
        with (
            nullcontext(RunTokens()) if no_vault else _vault(practice, source) as tokens,
            partial.open("w", encoding="utf-8") as sink,
        ):
            for batch in _batches(_rows(source)):
                try:
                    results = engine.deidentify([r["text"] for r in batch], [_record(r, known) for r in batch], tokens)
                    pairs = list(zip(batch, results, strict=True))
                except TextTooHard:
                    pairs = []
                    for row in batch:
                        try:
                            pairs.append((row, engine.deidentify([row["text"]], [_record(row, known)], tokens)[0]))
                        except TextTooHard:
                            refused += 1
                for row, result in pairs:
                    spans = [{"start": s.start, "end": s.end, "type": s.type, "token": s.token} for s in result.spans]
                    sink.write(json.dumps({"id": row["id"], "text": result.text, "spans": spans}) + "\n")
                    done += 1
                    found += len(spans)
        partial.replace(out)
    except MedbillError as error:
        partial.unlink(missing_ok=True)
        raise _fail(error) from error
    typer.echo(json.dumps({"documents": done, "identifiers": found, "refused": refused}))
    if refused:
        raise typer.Exit(3)


@app.command()
def explain(
    source: Annotated[Path, typer.Argument(help="JSON Lines as for run, or - for one text on standard input.")],
    records: Annotated[Path | None, typer.Option("--records", exists=True)] = None,
    model: Annotated[str | None, typer.Option("--model")] = None,
    values: Annotated[
        bool, typer.Option("--values", help="Show the identifiers themselves: for test data only.")
    ] = False,
) -> None:
    """Show which detector fired where. Without --values nothing of the text is shown."""
    from medbill.deid.text.engine import Engine

    try:
        known = _records(records)
        engine = Engine(model)
        rows: Iterator[dict[str, Any]]
        rows = iter([{"id": "-", "text": sys.stdin.read()}]) if str(source) == "-" else _rows(source)
        for batch in _batches(rows):
            spans = engine.analyze([r["text"] for r in batch], [_record(r, known) for r in batch])
            for row, found in zip(batch, spans, strict=True):
                for s in found:
                    line: dict[str, Any] = {"id": row["id"], **s._asdict()}
                    if values:
                        line["value"] = row["text"][s.start : s.end]
                    typer.echo(json.dumps(line))
    except MedbillError as error:
        raise _fail(error) from error


if __name__ == "__main__":
    app()
