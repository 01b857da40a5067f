"""report_denials: the denial root-cause report over the published partitions and triage results."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import sqlalchemy as sa

from medbill.model.published import PUBLISHED_REMITTANCE_CLAIMS
from medbill.model.results import DENIALS
from medbill.pipelines import deidentify, results
from medbill.pipelines.context import Context, Partition
from medbill.reports import denials as report
from medbill.store import db
from medbill.store.tables import partitions

#: A denial may be overturned long after it was made: claims are read this far beyond the range.
_HISTORY = timedelta(days=365)


def denials_tables(ctx: Context, practice: str, start: date, end: date) -> tuple[pa.Table, pa.Table]:
    """(denials, claims): denials of the partitions of the range; remittance claims with payment_date, payer_id, payer_name."""
    found = results.read(ctx, practice, "denials", start - _HISTORY, end + _HISTORY).get("denials", [])
    with db.transaction(ctx.db) as connection:
        days = (
            connection.execute(
                sa.select(partitions.c.day)
                .where(
                    partitions.c.practice == practice,
                    partitions.c.object == "remittances",
                    partitions.c.published_uri.is_not(None),
                    partitions.c.day.between(start - _HISTORY, end + _HISTORY),
                )
                .order_by(partitions.c.day)
            )
            .scalars()
            .all()
        )
    schema = PUBLISHED_REMITTANCE_CLAIMS
    for name, kind in (("payment_date", pa.date32()), ("payer_id", pa.string()), ("payer_name", pa.string())):
        schema = schema.append(pa.field(name, kind))
    claims = [schema.empty_table()]
    for day in days:
        tables = deidentify.read(ctx, Partition(practice, "remittances", day))
        payers = tables["remittances"].select(["remittance_key", "payment_date", "payer_id", "payer_name"])
        claims.append(
            tables["claims"].join(payers, "remittance_key").sort_by("claim_key").select(schema.names).cast(schema)
        )
    return pa.concat_tables([DENIALS.empty_table(), *found]), pa.concat_tables(claims)


def denials(ctx: Context, practice: str, start: date, end: date, out: Path, as_of: date) -> report.ReportPaths:
    """Write the report of one practice over payment dates start to end into out."""
    found, claims = denials_tables(ctx, practice, start, end)
    return report.build(found, claims, start, end, ctx.settings.practice(practice), out, as_of)
