"""The tables of the denial report: what each one answers, its columns, and the SQL that fills it.

The questions are the files include/sql/denials_*.sql, run by DuckDB over Arrow tables. Shares and rates are added here,
because they need exact decimals and shares that add up to 100.0.
"""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from medbill.errors import PolicyError
from medbill.model.types import MONEY
from medbill.reports.exact import percent, shares

#: Percent with one decimal. Wide, because a rate of wrong amounts (a denial of millions on a charge of a cent) must fit too.
PERCENT = pa.decimal128(24, 1)

#: What every breakdown says of its group, after the columns that name the group. denials counts denying adjustments, claims counts
#: distinct claims (one claim may be in several groups). recoverable + lost + not_owed + settled = denied. share is of denied, in percent.
MEASURES = [
    pa.field("denials", pa.int64()),
    pa.field("claims", pa.int64()),
    pa.field("denied", MONEY),
    pa.field("share", PERCENT),
    pa.field("recoverable", MONEY),
    pa.field("lost", MONEY),
    pa.field("not_owed", MONEY),
    pa.field("settled", MONEY),
]


def _text(*names: str) -> list[pa.Field]:
    return [pa.field(name, pa.string()) for name in names]


def _counts(*names: str) -> list[pa.Field]:
    return [pa.field(name, pa.int64()) for name in names]


def _money(*names: str) -> list[pa.Field]:
    return [pa.field(name, MONEY) for name in names]


#: name of the file -> columns. `headline` has one row.
REPORT_TABLES: dict[str, pa.Schema] = {
    "headline": pa.schema(
        [
            *_money("denied"),
            *_counts("denials", "denied_claims"),
            *_money("recoverable"),
            *_counts("recoverable_claims"),
            *_money("due_soon"),
            *_counts("due_soon_claims"),
            *_money(
                "lost",
                "lost_deadline_passed",
                "lost_not_recoverable",
                "not_owed",
                "settled",
                "recoverable_when_denied",
            ),
            *_counts("claims_remitted"),
            *_money("charges_remitted"),
            *_counts("initially_denied_claims"),
            *_money("initially_denied"),
            *_counts("first_pass_claims", "overturned_claims"),
            pa.field("initial_denial_rate_claims", PERCENT),
            pa.field("initial_denial_rate_dollars", PERCENT),
            pa.field("first_pass_rate", PERCENT),
            pa.field("overturn_rate", PERCENT),
            *_counts("claims_first_unknown", "denials_undated"),
            *_money("denied_undated"),
        ]
    ),
    "top_drivers": pa.schema(
        [
            *_counts("rank"),
            *_text("payer_id", "payer", "category", "reason_code"),
            *MEASURES,
            pa.field("cumulative_share", PERCENT),
            *_text("actions"),
        ]
    ),
    "by_category": pa.schema([*_text("category"), *MEASURES]),
    "recoverable_by_category": pa.schema(
        [
            *_text("category"),
            *_money(
                "denied",
                "recoverable",
                "due_soon",
                "lost",
                "lost_not_recoverable",
                "lost_deadline_passed",
                "not_owed",
                "settled",
            ),
            pa.field("recoverable_share", PERCENT),
        ]
    ),
    "by_payer": pa.schema([*_text("payer_id", "payer"), *MEASURES]),
    "by_reason": pa.schema([*_text("group_code", "reason_code", "remark_codes", "category"), *MEASURES]),
    "by_procedure": pa.schema([*_text("procedure_code"), *MEASURES]),
    "by_provider": pa.schema([*_text("rendering_npi"), *MEASURES]),
    "by_age": pa.schema([*_text("age"), *MEASURES]),
    "by_week": pa.schema(
        [
            pa.field("first_day", pa.date32()),
            pa.field("last_day", pa.date32()),
            *MEASURES,
            *_counts("claims_remitted", "initially_denied_claims"),
            pa.field("initial_denial_rate", PERCENT),
        ]
    ),
    "work_list": pa.schema(
        [
            *_counts("rank"),
            *_text("claim_token", "payer", "category", "group_code", "reason_code", "remark_codes", "procedure_codes"),
            *_counts("denials"),
            *_money("denied", "recoverable"),
            pa.field("deadline", pa.date32()),
            *_counts("days_left"),
            *_text("action"),
            pa.field("appealable", pa.bool_()),
            *_counts("triage_priority"),
        ]
    ),
}

_QUESTIONS = {
    "headline": "denials_headline",
    "top_drivers": "denials_top_drivers",
    "by_category": "denials_by_category",
    "recoverable_by_category": "denials_recoverable",
    "by_payer": "denials_by_payer",
    "by_reason": "denials_by_reason",
    "by_procedure": "denials_by_procedure",
    "by_provider": "denials_by_provider",
    "by_age": "denials_by_age",
    "by_week": "denials_by_week",
    "work_list": "denials_work_list",
}

_LINES = pa.schema(
    [
        pa.field("claim_key", pa.string()),
        pa.field("line_token", pa.string()),
        pa.field("procedure_code", pa.string()),
        pa.field("paid", MONEY),
    ]
)


def denial_tables(
    denials: pa.Table,
    claims: pa.Table,
    service_lines: pa.Table | None,
    start: date,
    end: date,
    as_of: date,
    sql: Path,
) -> dict[str, pa.Table]:
    """The tables of REPORT_TABLES for payment dates start to end inclusive.

    denials and claims may reach beyond the period, and should: what happened to a claim before and after it decides on first
    answers and overturned denials. sql is the folder of the questions. Raises PolicyError where one is missing.
    """
    lines = _LINES.empty_table() if service_lines is None else service_lines.select(_LINES.names)
    parameters = {"start": start, "end": end, "as_of": as_of}
    # No threads and no extensions: small data, the same row order each time, nothing fetched.
    with duckdb.connect(
        config={
            "threads": 1,
            "enable_external_access": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "temp_directory": "",  # nothing is spilled
        }
    ) as connection:

        def ask(question: str) -> pa.Table:
            try:
                text = (sql / f"{question}.sql").read_text(encoding="utf-8")
            except OSError as error:
                raise PolicyError(f"the report question {question}.sql is missing from the SQL folder") from error
            code = re.sub(r"--[^\n]*", "", text)
            used = {name: parameters[name] for name in re.findall(r"\$(\w+)", code)}
            return connection.sql(text, params=used or None).to_arrow_table()

        connection.register("denials", denials)
        connection.register("claims", claims)
        connection.register("lines", lines)
        connection.register("answers", ask("denials_answers"))
        connection.register("claim_answers", ask("denials_claims"))
        connection.register("facts", ask("denials_facts"))
        found = {name: ask(question) for name, question in _QUESTIONS.items()}
    return {name: _complete(name, table) for name, table in found.items()}


def _complete(name: str, table: pa.Table) -> pa.Table:
    """Add shares and rates, then give the table its declared columns."""
    rows = table.to_pylist()
    for row, share in zip(rows, shares([r["denied"] for r in rows]), strict=True):
        row["share"] = share
    if name == "top_drivers":
        running = Decimal("0.0")
        for row in rows:
            running += row["share"] or Decimal(0)
            row["cumulative_share"] = running if row["share"] is not None else None
    elif name == "recoverable_by_category":
        for row in rows:
            row["recoverable_share"] = percent(row["recoverable"], row["denied"])
    elif name == "by_week":
        for row in rows:
            row["initial_denial_rate"] = percent(row["initially_denied_claims"], row["claims_remitted"])
    elif name == "headline":
        for row in rows:
            row["initial_denial_rate_claims"] = percent(row["initially_denied_claims"], row["claims_remitted"])
            row["initial_denial_rate_dollars"] = percent(row["initially_denied"], row["charges_remitted"])
            row["first_pass_rate"] = percent(row["first_pass_claims"], row["claims_remitted"])
            row["overturn_rate"] = percent(row["overturned_claims"], row["initially_denied_claims"])
    return pa.Table.from_pylist(rows, schema=REPORT_TABLES[name])


def total(table: pa.Table, column: str) -> Any:
    """Sum of a column; of an empty one, zero of its own kind."""
    value = pc.sum(table[column]).as_py()
    if value is None:
        return Decimal("0.00") if pa.types.is_decimal(table.schema.field(column).type) else 0
    return value
