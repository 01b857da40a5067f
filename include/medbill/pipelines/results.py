"""Results of rules per partition: written whole under their content hash, then pointed to by one row."""

from __future__ import annotations

import hashlib
import time
from datetime import date
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from medbill.lineage import facts
from medbill.lineage.datasets import DatasetName, dataset
from medbill.pipelines.context import Context
from medbill.store import db, tables_io
from medbill.store.tables import results

#: Seconds for which retention surely takes nothing that was written: half its shortest time for superseded objects.
_FRESH = 86_400.0


def store(ctx: Context, prefix: str, tables: dict[str, pa.Table]) -> tuple[str, str]:
    """Store tables under prefix and their content hash; returns (object prefix, content hash).

    Same content: no write, unless it was written long ago. Then retention may take it for superseded at this moment, and
    must see that it is not.
    """
    files = {f"{name}.parquet": tables_io.parquet_bytes(table) for name, table in sorted(tables.items())}
    digest = hashlib.sha256()
    for name, data in files.items():
        digest.update(name.encode() + b"\0" + hashlib.sha256(data).digest())
    content_hash = digest.hexdigest()
    place = f"{prefix.rstrip('/')}/{content_hash[:32]}"
    facts.wrote(_dataset(prefix), sum(t.num_rows for t in tables.values()), sum(map(len, files.values())))
    for name, data in files.items():
        if not ctx.objects.put_new(f"{place}/{name}", data) and _stored_before(ctx, f"{place}/{name}"):
            ctx.objects.put(f"{place}/{name}", data)
    return place, content_hash


def _stored_before(ctx: Context, key: str) -> bool:
    written = next((e.written for e in ctx.objects.entries(key) if e.key == key), None)
    return written is None or time.time() - written > _FRESH


def load(ctx: Context, prefix: str) -> dict[str, pa.Table]:
    """The tables stored at a prefix, by name."""
    tables, size = {}, 0
    for key in ctx.objects.list(f"{prefix}/"):
        data = ctx.objects.get(key)
        size += len(data)
        tables[key.rsplit("/", 1)[-1].removesuffix(".parquet")] = tables_io.read_parquet(data)
    facts.read(_dataset(prefix), sum(t.num_rows for t in tables.values()), size)
    return tables


def _dataset(prefix: str) -> DatasetName:
    zone, _, kind, *_ = prefix.split("/")
    return dataset(zone, kind)


def write(ctx: Context, practice: str, kind: str, day: date, tables: dict[str, pa.Table]) -> tuple[str, str]:
    """Store the tables of one result; see store()."""
    return store(ctx, f"results/{practice}/{kind}/{day.isoformat()}", tables)


def point(
    connection: sa.Connection, practice: str, kind: str, day: date, written: tuple[str, str], counts: dict[str, Any]
) -> bool:
    """Make the written tables the partition's result; returns whether anything changed."""
    prefix, content_hash = written
    values = {"uri": prefix, "content_hash": content_hash, "counts": counts, "updated_at": sa.func.clock_timestamp()}
    done = connection.execute(
        insert(results)
        .values(practice=practice, kind=kind, day=day, **values)
        .on_conflict_do_update(
            index_elements=["practice", "kind", "day"],
            set_=values,
            where=sa.or_(
                results.c.content_hash != content_hash, results.c.counts != sa.cast(counts, results.c.counts.type)
            ),
        )
        .returning(results.c.day)
    )
    return done.first() is not None


def read(ctx: Context, practice: str, kind: str, start: date, end: date) -> dict[str, list[pa.Table]]:
    """Tables of all days from start to end, both included, by name, in day order."""
    with db.transaction(ctx.db, practice) as connection:
        prefixes = (
            connection.execute(
                sa.select(results.c.uri)
                .where(results.c.practice == practice, results.c.kind == kind, results.c.day.between(start, end))
                .order_by(results.c.day)
            )
            .scalars()
            .all()
        )
    found: dict[str, list[pa.Table]] = {}
    for prefix in prefixes:
        for name, table in load(ctx, prefix).items():
            found.setdefault(name, []).append(table)
    return found
