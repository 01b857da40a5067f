"""`medbill era`: read 835 files on the command line."""

from __future__ import annotations

import shutil
import sys
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medbill.errors import BadInput

if TYPE_CHECKING:
    import pyarrow as pa

    from medbill.x12.tables import EraTables

app = typer.Typer(
    help="Read 835 remittance files.", no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False
)

_ROWS_PER_GROUP = 16_384


@app.callback()
def _root() -> None:
    pass


@app.command()
def read(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, readable=True, help="835 files.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the Parquet tables.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object with the totals on stdout.")] = False,
) -> None:
    """Read FILES into tables and show their totals and problems.

    Exit code 2 and nothing on stdout where one of them is not X12 at all.
    """
    from medbill.x12 import era

    totals = era.Totals()
    try:
        with _Writers(out) as writers:
            for batch in era.batches(files):
                totals.add(batch)
                writers.add(batch)
    except BadInput as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None
    summary = totals.summary()
    print(to_json(summary) if as_json else to_text(summary))


class _Writers:
    """One Parquet file per table, written row group by row group; the folder gets them only when all are complete."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._part: Path | None = None
        self._open: dict[str, Any] = {}
        self._waiting: dict[str, list[pa.Table]] = {}

    def __enter__(self) -> _Writers:
        if self._folder is not None:
            import pyarrow.parquet as pq

            from medbill.model.remittances import ERA_TABLES

            self._folder.mkdir(parents=True, exist_ok=True)
            self._part = Path(tempfile.mkdtemp(prefix=".part-", dir=self._folder))
            for name, schema in ERA_TABLES.items():
                self._open[name] = pq.ParquetWriter(self._part / f"{name}.parquet", schema, compression="zstd")
                self._waiting[name] = []
        return self

    def add(self, batch: EraTables) -> None:
        for name in self._open:
            waiting = self._waiting[name]
            waiting.append(batch.table(name))
            if sum(table.num_rows for table in waiting) >= _ROWS_PER_GROUP:
                self._flush(name)

    def _flush(self, name: str) -> None:
        import pyarrow as pa

        if self._waiting[name]:
            self._open[name].write_table(pa.concat_tables(self._waiting[name]))
            self._waiting[name] = []

    def __exit__(self, kind: object, value: object, trace: object) -> None:
        if self._part is None or self._folder is None:
            return
        try:
            for name, writer in self._open.items():
                if kind is None:
                    self._flush(name)
                writer.close()
            if kind is None:
                for name in self._open:
                    (self._part / f"{name}.parquet").replace(self._folder / f"{name}.parquet")
        finally:
            shutil.rmtree(self._part, ignore_errors=True)


def to_json(value: Any, indent: int = 0) -> str:
    """JSON with amounts (Decimal) as numbers of exactly two decimals, which the json module cannot write."""
    import json

    inner = " " * (indent + 2)
    if isinstance(value, Decimal):
        return f"{value:.2f}"
    if isinstance(value, dict) and value:
        items = [f"{inner}{json.dumps(k)}: {to_json(v, indent + 2)}" for k, v in value.items()]
        return "{\n" + ",\n".join(items) + "\n" + " " * indent + "}"
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(inner + to_json(v, indent + 2) for v in value) + "\n" + " " * indent + "]"
    return json.dumps(value)


def to_text(summary: dict[str, Any]) -> str:
    """The same totals for a person; at most twenty problems in full."""
    counts = (
        ("transactions", "transactions"),
        ("claims", "claims"),
        ("service lines", "service_lines"),
        ("adjustments", "adjustments"),
        ("provider adjustments", "provider_adjustments"),
        ("reversals", "reversals"),
        ("unbalanced claims", "unbalanced_claims"),
    )
    amounts = (
        ("charge", "charge"),
        ("paid", "paid"),
        ("patient responsibility", "patient_responsibility"),
        ("provider adjustment amount", "provider_adjustment_amount"),
        ("payment", "payment"),
    )
    lines = [f"{label:27}{summary[name]:>18,}" for label, name in counts]
    lines += [""] + [f"{label:27}{summary[name]:>18,.2f}" for label, name in amounts]
    if summary["by_group_and_reason"]:
        lines += ["", "adjustments by group and reason"]
        lines += [f"  {reason:22}{amount:>18,.2f}" for reason, amount in summary["by_group_and_reason"].items()]
    problems = summary["problems"]
    lines += ["", f"{len(problems)} problems" if problems else "no problems"]
    lines += [f"  {p['severity']:8}{p['code']}: {p['message']} ({p['where']})" for p in problems[:20]]
    if len(problems) > 20:
        lines.append(f"  and {len(problems) - 20} more; --json lists them all")
    return "\n".join(lines)


if __name__ == "__main__":
    app()
