"""extract_<platform>: the practice's billed claims become landing partitions, one per service day."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from medbill.audit.ledger import Event
from medbill.errors import QualityGateClosed
from medbill.lineage import facts
from medbill.lineage.datasets import dataset
from medbill.model.claims import NOTES
from medbill.pipelines.context import Context, Partition, batches, column_sum
from medbill.platforms.base import ClaimSource
from medbill.quality import gates
from medbill.store import db, tables_io
from medbill.store.tables import partitions, watermarks

#: A claim may change after its visit: each extraction looks back this far behind its watermark.
OVERLAP = timedelta(days=7)
FIRST_LOOK_BACK = timedelta(days=120)


def window(ctx: Context, practice: str, source: str, today: date) -> tuple[date, date]:
    """The service dates to ask for: from the watermark less the overlap to today, both included."""
    with db.transaction(ctx.db, practice) as connection:
        mark = connection.execute(
            sa.select(watermarks.c.watermark).where(watermarks.c.practice == practice, watermarks.c.source == source)
        ).scalar()
    start = date.fromisoformat(mark) - OVERLAP if mark else today - FIRST_LOOK_BACK
    return start, today


def extract(ctx: Context, practice: str, platform: str, source: ClaimSource, start: date, end: date) -> list[Partition]:
    """Ask the platform for the claims of a window, with their notes, and land each service day; returns what changed.

    Raises PlatformError where the platform does not answer; the watermark then stays where it was.
    """
    event = Event(
        action="read",
        kind="platform.extract",
        purpose="payment",
        practice=practice,
        resource=f"{platform}/claims",
        details={
            "from": start.isoformat(),
            "to": end.isoformat(),
            "fields": [f"{name}.{field}" for name, kept in sorted(source.scope.items()) for field in kept],
        },
    )
    with ctx.ledger.touch(event) as touch:
        extracted = source.extract(start, end)
        tables, outside = _within(extracted.tables, start, end)
        refused = {**extracted.refused, **({"OUTSIDE_WINDOW": outside} if outside else {})}
        notes = _notes_of(extracted.notes, tables["claims"])
        facts.read(dataset("platform", "claims"), tables["claims"].num_rows)
        changed = _land(ctx, practice, tables, notes, start, end)
        touch.note(
            claims=tables["claims"].num_rows,
            notes=notes.num_rows,
            partitions=len(changed),
            **{f"refused.{code}": count for code, count in sorted(refused.items())},
            **{f"unknown.{name}": count for name, count in sorted(extracted.unknown.items())},
        )
    with db.transaction(ctx.db, practice) as connection:
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


def _within(tables: dict[str, pa.Table], start: date, end: date) -> tuple[dict[str, pa.Table], int]:
    """The claims of the days asked for, and how many others came: a day landed from some of its claims loses the rest."""
    claims, lines = tables["claims"], tables["claim_lines"]
    days = claims["service_date"]
    inside = pc.and_(
        pc.greater_equal(days, pa.scalar(start, pa.date32())), pc.less_equal(days, pa.scalar(end, pa.date32()))
    )
    kept = claims.filter(pc.fill_null(inside, False))
    its_lines = lines.filter(pc.is_in(lines["claim_id"], value_set=kept["claim_id"].combine_chunks()))
    return {"claims": kept, "claim_lines": its_lines}, claims.num_rows - kept.num_rows


def _notes_of(notes: pa.Table, claims: pa.Table) -> pa.Table:
    """The notes of these claims, each with the service day of its claim."""
    of_claims = notes.filter(pc.is_in(notes["claim_id"], value_set=claims["claim_id"].combine_chunks()))
    return of_claims.join(claims.select(["claim_id", "service_date"]), "claim_id", join_type="inner")


@dataclass(frozen=True)
class _Day:
    """The claims, or the notes, of one service day whose content is not what is landed."""

    partition: Partition
    tables: dict[str, pa.Table]
    payload: bytes
    version: str


def _land(
    ctx: Context, practice: str, tables: dict[str, pa.Table], notes: pa.Table, start: date, end: date
) -> list[Partition]:
    """Land each service day of the window that changed, of claims and of notes.

    Raises QualityGateClosed after the rest is landed where a day fails gate 1.
    """
    changed, closed = [], []
    for days, check in (
        (_changed_days(ctx, practice, tables, start, end), gates.check_claims),
        (_changed_notes(ctx, practice, notes, start, end), gates.check_notes),
    ):
        for batch in batches(days, lambda d: len(d.payload)):
            checked = check([d.tables for d in batch], ctx.settings.great_expectations)
            for d, result in zip(batch, checked, strict=True):
                facts.checked_read(dataset("platform", "claims"), result.assertions())
                if result.passed:
                    _write(ctx, d)
                    changed.append(d.partition)
                else:
                    closed.append(d.partition)
    if closed:
        days_closed = ", ".join(f"{p.object}/{p.day}" for p in closed)
        raise QualityGateClosed(f"{days_closed} of the platform fail gate 1; nothing of them is landed")
    return changed


def _landed(ctx: Context, practice: str, object_name: str) -> dict[date, str | None]:
    """Landed version of each service day."""
    with db.transaction(ctx.db, practice) as connection:
        return dict(
            connection.execute(
                sa.select(partitions.c.day, partitions.c.landed_version).where(
                    partitions.c.practice == practice, partitions.c.object == object_name
                )
            ).all()
        )


def _changed_notes(ctx: Context, practice: str, notes: pa.Table, start: date, end: date) -> list[_Day]:
    have = _landed(ctx, practice, "notes")
    found = []
    named = set(pc.unique(notes["service_date"]).to_pylist())
    for day in sorted(named | {d for d in have if start <= d <= end}):
        of_day = notes.filter(pc.equal(notes["service_date"], pa.scalar(day, pa.date32())))
        table = (
            of_day.select(NOTES.names)
            .cast(NOTES)
            .sort_by([("claim_id", "ascending"), ("note_type", "ascending"), ("note_id", "ascending")])
        )
        found += _if_changed(Partition(practice, "notes", day), {"notes": table}, have.get(day))
    return found


def _if_changed(partition: Partition, tables: dict[str, pa.Table], landed: str | None) -> list[_Day]:
    payload = tables_io.seal_tables(tables)
    version = hashlib.sha256(payload).hexdigest()
    return [] if landed == version else [_Day(partition, tables, payload, version)]


def _changed_days(ctx: Context, practice: str, tables: dict[str, pa.Table], start: date, end: date) -> list[_Day]:
    claims, lines = tables["claims"], tables["claim_lines"]
    have = _landed(ctx, practice, "claims")
    found = []
    named = {d for d in pc.unique(claims["service_date"]).to_pylist() if d is not None}
    # a day that had claims and has none any more: they were moved, and must not be found on both days
    emptied = {d for d in have if start <= d <= end}
    for day in sorted(named | emptied):
        of_day = claims.filter(pc.equal(claims["service_date"], pa.scalar(day, pa.date32()))).sort_by("claim_id")
        its_lines = lines.filter(pc.is_in(lines["claim_id"], value_set=of_day["claim_id"].combine_chunks())).sort_by(
            [("claim_id", "ascending"), ("line_number", "ascending")]
        )
        day_tables = {"claims": of_day, "claim_lines": its_lines}
        found += _if_changed(Partition(practice, "claims", day), day_tables, have.get(day))
    return found


def _write(ctx: Context, d: _Day) -> None:
    partition = d.partition
    uri = ctx.land(partition, d.version, d.payload)
    facts.wrote(dataset("landing", partition.object), sum(t.num_rows for t in d.tables.values()), len(d.payload))
    if partition.object == "notes":
        counts = {"notes_landed": d.tables["notes"].num_rows}
    else:
        claims = d.tables["claims"]
        counts = {
            "claims_in": claims.num_rows,
            "claims_landed": claims.num_rows,
            "charge_in": str(column_sum(claims, "charge")),
        }
    values: dict[str, Any] = {
        "landed_version": d.version,
        "landed_uri": uri,
        "landed_at": sa.func.clock_timestamp(),
        "landed_purged_at": None,
    }
    with db.transaction(ctx.db, partition.practice) as connection:
        connection.execute(
            insert(partitions)
            .values(practice=partition.practice, object=partition.object, day=partition.day, counts=counts, **values)
            .on_conflict_do_update(
                index_elements=["practice", "object", "day"],
                set_={**values, "counts": partitions.c.counts.op("||")(sa.cast(counts, partitions.c.counts.type))},
            )
        )
