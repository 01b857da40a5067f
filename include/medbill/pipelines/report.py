"""report_denials: the denial root-cause report over the published partitions and triage results."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from medbill.lineage import facts
from medbill.lineage.datasets import dataset
from medbill.model.published import PUBLISHED_REMITTANCE_CLAIMS, PUBLISHED_SERVICE_LINES
from medbill.model.results import DENIALS
from medbill.pipelines import deidentify, results
from medbill.pipelines.context import Context, Partition
from medbill.reports import denials as report
from medbill.store import db
from medbill.store.tables import holds, partitions

#: A denial may be overturned long after it was made: claims are read this far beyond the range.
_HISTORY = timedelta(days=365)


@dataclass(frozen=True)
class DenialTables:
    """denials: as triaged. claims: remittance claims with payment_date, payer_id, payer_name. service_lines: of these.

    Claims on hold are left out of claims and service_lines: nobody has said yet whose they are.
    """

    denials: pa.Table
    claims: pa.Table
    service_lines: pa.Table


def denials_tables(ctx: Context, practice: str, start: date, end: date) -> DenialTables:
    """What the report is made of, from a year before start to a year after end: a denial may be settled long after."""
    first, last = start - _HISTORY, end + _HISTORY
    found = results.read(ctx, practice, "denials", first, last).get("denials", [])
    with db.transaction(ctx.db, practice) as connection:
        days = (
            connection.execute(
                sa.select(partitions.c.day)
                .where(
                    partitions.c.practice == practice,
                    partitions.c.object == "remittances",
                    partitions.c.published_uri.is_not(None),
                    partitions.c.day.between(first, last),
                )
                .order_by(partitions.c.day)
            )
            .scalars()
            .all()
        )
        held = pa.array(
            connection.execute(
                sa.select(holds.c.claim_key).where(
                    holds.c.practice == practice, holds.c.status == "open", holds.c.day.between(first, last)
                )
            )
            .scalars()
            .all(),
            pa.string(),
        )
    schema = PUBLISHED_REMITTANCE_CLAIMS
    for name, kind in (("payment_date", pa.date32()), ("payer_id", pa.string()), ("payer_name", pa.string())):
        schema = schema.append(pa.field(name, kind))
    claims, lines = [schema.empty_table()], [PUBLISHED_SERVICE_LINES.empty_table()]
    for day in days:
        tables = deidentify.read(ctx, Partition(practice, "remittances", day))
        payments, joined = tables["remittances"], tables["claims"]
        of_claim = pc.index_in(joined["remittance_key"], value_set=payments["remittance_key"].combine_chunks())
        for name in ("payment_date", "payer_id", "payer_name"):
            joined = joined.append_column(name, pc.take(payments[name], of_claim))
        joined = joined.cast(schema)
        claims.append(joined.filter(pc.invert(pc.is_in(joined["claim_key"], value_set=held))))
        of_day = tables["service_lines"]
        lines.append(of_day.filter(pc.invert(pc.is_in(of_day["claim_key"], value_set=held))))
    return DenialTables(
        pa.concat_tables([DENIALS.empty_table(), *found]), pa.concat_tables(claims), pa.concat_tables(lines)
    )


def denials(ctx: Context, practice: str, start: date, end: date, out: Path, as_of: date) -> report.ReportPaths:
    """Write the report of one practice over payment dates start to end into out."""
    tables = denials_tables(ctx, practice, start, end)
    facts.wrote(dataset("reports", "denials"), tables.denials.num_rows)
    return report.build(
        tables.denials,
        tables.claims,
        start,
        end,
        ctx.settings.practice(practice),
        out,
        as_of,
        service_lines=tables.service_lines,
    )
