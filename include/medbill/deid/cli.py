"""`medbill deid run`, `explain` and `reveal`: free text in JSON Lines, de-identified and back."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from medbill.errors import BadInput, MedbillError

app = typer.Typer(help="De-identify free text.", no_args_is_help=True)
#: Documents per batch: bounds memory, and is what one vault transaction covers.
BATCH = 500
#: Bytes of input from which it pays to start several processes.
MANY = 1_000_000


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
def _vault(practice: str | None, source: Path) -> Iterator[tuple[Any, Any]]:
    """The practice's vault and the way back, open while a ledger row says that this file is being read into it."""
    from medbill.audit.ledger import Event

    chosen, vault, ledger, door = _door(practice, None)
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    event = Event(
        action="create", kind="deid.run", purpose="operations", practice=chosen, resource="file", source_hash=digest
    )
    with ledger.touch(event):
        yield vault, door


def _door(practice: str | None, actor: str | None) -> tuple[str, Any, Any, Any]:
    """Id of the practice, its vault, the ledger and the re-identification, on behalf of a person where one is named."""
    from medbill.audit.ledger import Ledger, RunContext
    from medbill.deid.reidentify import Reidentifier, load
    from medbill.deid.vault import Vault
    from medbill.settings import Settings
    from medbill.store import db
    from medbill.store.keys import open_keys

    settings = Settings.from_env()
    chosen = settings.practice(practice) if practice else settings.practices()[0]
    engine = db.engine(settings.database_url)
    context = RunContext.from_env()
    ledger = Ledger(engine, replace(context, on_behalf_of=actor) if actor else context)
    vault = Vault(engine, open_keys(settings), chosen.id)
    purposes = load(settings.policies / "reidentification.yml")
    return chosen.id, vault, ledger, Reidentifier(engine, vault, ledger, chosen.id, purposes)


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
    purpose: Annotated[
        str, typer.Option("--purpose", help="What the tokens may be revealed for later; see reidentification.yml.")
    ] = "review",
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", min=1, help="Processes that search; by default one, or one for each processor from 1 MB on."
        ),
    ] = None,
    allow_several_patients: Annotated[
        bool, typer.Option("--allow-several-patients", help="Publish notes that name more than one patient too.")
    ] = False,
) -> None:
    """De-identify every text; offsets of the spans refer to the text as given.

    A text that cannot be searched in time, or that names more than one patient, is left out of the output and counted; the
    exit code is then 3. The ids of the latter are written to standard error, for a person to look at. With a vault the
    summary names the run its tokens were issued to, which `medbill deid reveal` asks for.
    """
    from medbill.deid.reidentify import tokens_in
    from medbill.deid.text.engine import RunTokens, each, loaded
    from medbill.deid.text.patients import more_than_one
    from medbill.deid.text.workers import Workers, processors

    refused = held = done = found = 0
    count = workers or (1 if source.stat().st_size < MANY else processors())
    issued_to = None if no_vault else f"deid-{uuid.uuid4()}"
    partial = out.with_name(out.name + ".partial")
    try:
        known = _records(records)
        with (
            nullcontext(loaded(model)) if count == 1 else Workers(model, count) as engine,
            nullcontext((RunTokens(), None)) if no_vault else _vault(practice, source) as (tokens, door),
            partial.open("w", encoding="utf-8") as sink,
        ):
            for batch in _batches(_rows(source)):
                results = each(engine, [r["text"] for r in batch], [_record(r, known) for r in batch], tokens)
                written: list[str] = []
                for row, result in zip(batch, results, strict=True):
                    if result is None:
                        refused += 1
                        continue
                    if not allow_several_patients and more_than_one(row["text"], result.spans, _record(row, known)):
                        typer.echo(f"held, names more than one patient: {row['id']}", err=True)
                        held += 1
                        continue
                    spans = [{"start": s.start, "end": s.end, "type": s.type, "token": s.token} for s in result.spans]
                    sink.write(json.dumps({"id": row["id"], "text": result.text, "spans": spans}) + "\n")
                    written += tokens_in(result.text)
                    done += 1
                    found += len(spans)
                if door is not None and written:
                    door.issue(issued_to, purpose, written)
        partial.replace(out)
    except MedbillError as error:
        partial.unlink(missing_ok=True)
        raise _fail(error) from error
    summary: dict[str, Any] = {"documents": done, "identifiers": found, "refused": refused, "held": held}
    typer.echo(json.dumps(summary | ({"run": issued_to, "purpose": purpose} if issued_to else {})))
    if refused or held:
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


@app.command()
def reveal(
    source: Annotated[Path, typer.Argument(help='JSON Lines: {"id", "text"}.', exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Option("--out", help="The same lines in clear; only you may read the file.")],
    purpose: Annotated[str, typer.Option("--purpose", help="What for; see reidentification.yml.")],
    issued_to: Annotated[str, typer.Option("--run", help="The run the tokens were issued to.")],
    actor: Annotated[
        str,
        typer.Option(
            "--actor", help="For whom: a person's name.", default_factory=lambda: os.environ.get("MEDBILL_ACTOR", "")
        ),
    ],
    practice: Annotated[str | None, typer.Option("--practice", help="Whose vault; the first by default.")] = None,
) -> None:
    """Put the values back in the place of tokens, as far as the purpose needs them. Leaves rows in the ledger.

    One token that was altered, or not issued to the run for this purpose, and nothing at all is revealed.
    """
    from medbill.audit.roles import permit
    from medbill.settings import Settings

    partial = out.with_name(out.name + ".partial")
    texts = 0
    try:
        *_, door = _door(practice, permit(Settings.from_env(), actor, "reveal"))
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as sink:
            for batch in _batches(_rows(source)):
                for row, text in zip(batch, door.restore(issued_to, purpose, [r["text"] for r in batch]), strict=True):
                    sink.write(json.dumps({"id": row["id"], "text": text}) + "\n")
                    texts += 1
        partial.replace(out)
    except MedbillError as error:
        partial.unlink(missing_ok=True)
        raise _fail(error) from error
    typer.echo(json.dumps({"documents": texts}))


if __name__ == "__main__":
    app()
