"""The denial root-cause report: why claims were denied, what it costs, what can still be done, and by when.

De-identified in, de-identified out: claims appear as vault tokens, never as what stands behind them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

from medbill.errors import BadInput
from medbill.reports import files, page
from medbill.reports.tables import denial_tables
from medbill.settings import Practice, Settings

#: Rows of the work list on the page; the CSV has all.
WORK_LIST_ROWS = 25


@dataclass(frozen=True)
class ReportPaths:
    """What build wrote. csv and parquet: table name -> file. summary: the content of summary.json."""

    html: Path
    csv: dict[str, Path]
    parquet: dict[str, Path]
    summary_file: Path
    summary: dict[str, Any]


def build(
    denials: pa.Table,
    claims: pa.Table,
    start: date,
    end: date,
    practice: Practice,
    out: Path,
    as_of: date,
    *,
    service_lines: pa.Table | None = None,
    work_list_rows: int = WORK_LIST_ROWS,
) -> ReportPaths:
    """Write the report for payment dates start to end, both inclusive, into the folder out.

    denials: model.results.DENIALS; claims: model.published.PUBLISHED_REMITTANCE_CLAIMS with payment_date, payer_id and
    payer_name of their remittance. Both should reach well before start and after end (a year is good): what came first and
    what came later decides on the first-pass and overturn rates. service_lines (PUBLISHED_SERVICE_LINES) makes "paid since"
    exact by line; without it a later payment settles all denials of its claim. as_of is the day from which age and
    deadlines are counted. The same input gives the same bytes.

    Writes denials.html, summary.json, csv/<table>.csv and parquet/<table>.parquet (medbill.reports.tables.REPORT_TABLES).
    Raises BadInput where start is after end, StoreUnavailable where the folder takes no file.
    """
    if start > end:
        raise BadInput("the report's first day is after its last day", code="BAD_DATE_RANGE")
    tables = denial_tables(denials, claims, service_lines, start, end, as_of, Settings.from_env().sql)
    summary = _summary(tables, practice, start, end, as_of)
    html = page.render(tables, practice, start, end, as_of, work_list_rows)
    csv_paths, parquet_paths = {}, {}
    for name, table in tables.items():
        csv_paths[name] = files.write(out / "csv" / f"{name}.csv", files.csv_bytes(table))
        parquet_paths[name] = files.write(out / "parquet" / f"{name}.parquet", files.parquet_bytes(table))
    summary_file = files.write(out / "summary.json", (json.dumps(summary, indent=2) + "\n").encode())
    # Last, so that a page is never newer than its tables.
    page_file = files.write(out / "denials.html", html.encode())
    return ReportPaths(page_file, csv_paths, parquet_paths, summary_file, summary)


def _summary(tables: dict[str, pa.Table], practice: Practice, start: date, end: date, as_of: date) -> dict[str, Any]:
    """Headline figures for programs: counts as numbers, money and percentages as exact decimal strings, null where undefined."""
    head = tables["headline"].to_pylist()[0]
    return {
        "report": "denials",
        "practice": practice.id,
        "from": start.isoformat(),
        "to": end.isoformat(),
        "as_of": as_of.isoformat(),
        "figures": {name: f"{value:f}" if isinstance(value, Decimal) else value for name, value in head.items()},
        "rows": {name: table.num_rows for name, table in tables.items()},
    }
