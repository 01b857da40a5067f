"""extract_<platform>: the practice's billed claims become landing partitions, one per service day."""

from __future__ import annotations

import hashlib
from datetime import date, timedelta
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from medbill.audit.ledger import Event
from medbill.errors import QualityGateClosed
from medbill.pipelines.context import Context, Partition
from medbill.platforms.base import ClaimSource
from medbill.quality import gates
from medbill.store import db, tables_io
from medbill.store.tables import partitions, watermarks

#: A claim may change after its visit: each extraction looks back this far behind its watermark.
OVERLAP = timedelta(days=7)
FIRST_LOOK_BACK = timedelta(days=120)


def window(ctx: Context, practice: str, source: str, today: date) -> tuple[date, date]:
    """The service dates to ask for: from the watermark less the overlap to today, both included."""
    with db.transaction(ctx.db) as connection:
        mark = connection.execute(
            sa.select(watermarks.c.watermark).where(watermarks.c.practice == practice, watermarks.c.source == source)
        ).scalar()
    start = date.fromisoformat(mark) - OVERLAP if mark else today - FIRST_LOOK_BACK
    return start, today


def extract(ctx: Context, practice: str, platform: str, source: ClaimSource, start: date, end: date) -> list[Partition]:
    """Ask the platform for the claims of a window and land each service day; returns the days whose content changed.

    Raises PlatformError where the platform does not answer; the watermark then stays where it was.
    """
    event = Event(
        action="read",
        kind="platform.extract",
        purpose="payment",
        practice=practice,
        resource=f"{platform}/claims",
        details={"from": start.isoformat(), "to": end.isoformat()},
    )
    with ctx.ledger.touch(event) as touch:
        extracted = source.extract(start, end)
        changed = _land(ctx, practice, extracted.tables)
        touch.note(
            claims=extracted.tables["claims"].num_rows,
            partitions=len(changed),
            **{f"refused.{code}": count for code, count in sorted(extracted.refused.items())},
        )
    with db.transaction(ctx.db) as connection:
        connection.execute(
            insert(watermarks)
            .values(practice=practice, source=f"{platform}.claims", watermark=end.isoformat())
            .on_conflict_do_update(
                index_elements=["practice", "source"],
                set_={
                    "watermark": sa.func.greatest(watermarks.c.watermark, end.isoformat()),
                    "updated_at": sa.func.clock_timestamp(),
                },
            )
        )
    return changed


def _land(ctx: Context, practice: str, tables: dict[str, pa.Table]) -> list[Partition]:
    claims, lines = tables["claims"], tables["claim_lines"]
    changed = []
    for day in sorted(d for d in pc.unique(claims["service_date"]).to_pylist() if d is not None):
        partition = Partition(practice, "claims", day)
        of_day = claims.filter(pc.equal(claims["service_date"], pa.scalar(day, pa.date32()))).sort_by("claim_id")
        ids = of_day["claim_id"].combine_chunks()
        its_lines = lines.filter(pc.is_in(lines["claim_id"], value_set=ids)).sort_by(
            [("claim_id", "ascending"), ("line_number", "ascending")]
        )
        day_tables = {"claims": of_day, "claim_lines": its_lines}
        payload = tables_io.seal_tables(day_tables)
        version = hashlib.sha256(payload).hexdigest()
        with db.transaction(ctx.db) as connection:
            have = connection.execute(
                sa.select(partitions.c.landed_version).where(
                    partitions.c.practice == practice, partitions.c.object == "claims", partitions.c.day == day
                )
            ).scalar()
        if have == version:
            continue
        result = gates.check_claims([day_tables], ctx.settings.great_expectations)[0]
        if not result.passed:
            raise QualityGateClosed(
                f"the platform's claims of {day} fail gate 1 ({', '.join(result.failed_expectations)}); nothing of that day is landed"
            )
        uri = ctx.objects.put(
            partition.key("landing", version) + ".sealed",
            ctx.envelopes.seal(practice, "landing", f"claims:{day}:{version}", payload),
        )
        counts = {
            "claims_in": of_day.num_rows,
            "claims_landed": of_day.num_rows,
            "charge_in": str(pc.sum(of_day["charge"]).as_py() or Decimal("0.00")),
        }
        values = {
            "landed_version": version,
            "landed_uri": uri,
            "landed_at": sa.func.clock_timestamp(),
            "counts": counts,
        }
        with db.transaction(ctx.db) as connection:
            connection.execute(
                insert(partitions)
                .values(practice=practice, object="claims", day=day, **values)
                .on_conflict_do_update(index_elements=["practice", "object", "day"], set_=values)
            )
        changed.append(partition)
    return changed
