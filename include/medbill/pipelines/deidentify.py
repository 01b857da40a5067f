"""deidentify: landed partitions become published, de-identified ones.

Publishing is one row update: readers see the old version or the new one, never half of one. A partition whose landed
version and policy are unchanged is left alone, so a re-run changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from medbill.audit.ledger import Event
from medbill.deid import check
from medbill.deid.policy import Policy
from medbill.deid.policy import load as load_policy
from medbill.errors import QualityGateClosed
from medbill.pipelines.context import Context, Partition
from medbill.quality import gates
from medbill.store import db, tables_io
from medbill.store.tables import partitions

#: Raise it when this stage makes something else of the same landed partition under the same policy.
DEIDENTIFY_VERSION = "1"
_MONEY_COLUMNS = {
    "claims": ("charge", "paid", "adjustment_total"),
    "service_lines": ("charge", "paid"),
    "adjustments": ("amount",),
    "provider_adjustments": ("amount",),
    "remittances": ("payment_amount", "paid"),
    "claim_lines": ("charge",),
}


def pending(ctx: Context) -> list[Partition]:
    """Landed partitions that are not published in their landed version under today's policy."""
    policy_hash = _policy_hash(ctx)
    with db.transaction(ctx.db) as connection:
        rows = connection.execute(
            sa.select(
                partitions.c.practice,
                partitions.c.object,
                partitions.c.day,
                partitions.c.landed_version,
                partitions.c.published_version,
            )
            .where(partitions.c.landed_version.is_not(None))
            .order_by(partitions.c.practice, partitions.c.object, partitions.c.day)
        ).all()
    return [
        Partition(r.practice, r.object, r.day)
        for r in rows
        if r.published_version != _version(r.landed_version, policy_hash)
    ]


def publish(ctx: Context, wanted: list[Partition]) -> list[Partition]:
    """De-identify, gate and publish each partition; returns those whose published content changed.

    Raises QualityGateClosed after the rest is done where a partition fails gate 2; nothing of that partition is published.
    """
    policy, policy_hash = load_policy(ctx.settings.policies / "deidentification.yml"), _policy_hash(ctx)
    changed, closed = [], []
    for partition in wanted:
        with db.transaction(ctx.db) as connection:
            row = connection.execute(sa.select(partitions).where(*_is(partition))).mappings().one()
        version = _version(row["landed_version"], policy_hash)
        if row["published_version"] == version:
            continue
        try:
            if _publish_one(ctx, partition, policy, row, version):
                changed.append(partition)
        except QualityGateClosed:
            closed.append(partition)
    if closed:
        days = ", ".join(f"{p.object}/{p.day}" for p in closed)
        raise QualityGateClosed(
            f"gate 2 refused {len(closed)} partition(s) ({days}); nothing of them is published, see the ledger"
        )
    return changed


def _publish_one(ctx: Context, partition: Partition, policy: Policy, row: Mapping[Any, Any], version: str) -> bool:
    practice, landed = partition.practice, row["landed_version"]
    vault = ctx.vault(practice)
    event = Event(
        action="read",
        kind="landing.deidentify",
        purpose="payment",
        practice=practice,
        resource=f"{partition.object}/{partition.day}",
        source_hash=landed,
    )
    with ctx.ledger.touch(event) as touch:
        sealed = ctx.objects.get(partition.key("landing", landed) + ".sealed")
        originals = tables_io.open_tables(
            ctx.envelopes.open(practice, "landing", f"{partition.object}:{partition.day}:{landed}", sealed)
        )
        published = {
            name: policy.apply(partition.object, name, table, vault)
            for name, table in sorted(originals.items())
            if policy.covers(partition.object, name)
        }
        leaks = check.leaks(published, originals, policy, partition.object)
        result = gates.check_published(
            [(published, totals(originals), sum(leak.count for leak in leaks))], ctx.settings.great_expectations
        )[0]
        touch.note(
            leaks=len(leaks),
            gate="passed" if result.passed else "closed",
            failed=",".join(result.failed_expectations)[:500],
        )
        if not result.passed:
            raise QualityGateClosed("gate 2 refused the partition; nothing of it is published")
    files = {f"{name}.parquet": tables_io.parquet_bytes(table) for name, table in sorted(published.items())}
    digest = hashlib.sha256()
    for name, data in files.items():
        digest.update(name.encode() + b"\0" + hashlib.sha256(data).digest())
    content_hash = digest.hexdigest()
    prefix = partition.key("deid", content_hash[:32])
    for name, data in files.items():
        ctx.objects.put_new(f"{prefix}/{name}", data)
    counts = {f"{name}_published": table.num_rows for name, table in published.items()}
    with db.transaction(ctx.db) as connection:
        swapped = connection.execute(
            sa.update(partitions)
            .where(*_is(partition), partitions.c.landed_version == landed)  # landed anew meanwhile: that run publishes
            .values(
                published_version=version,
                published_uri=prefix,
                content_hash=content_hash,
                published_at=sa.func.clock_timestamp(),
                counts=partitions.c.counts.op("||")(sa.cast(counts, partitions.c.counts.type)),
            )
        )
    return swapped.rowcount == 1 and row["content_hash"] != content_hash


def totals(tables: dict[str, pa.Table]) -> dict[str, dict[str, int | Decimal]]:
    """Rows and sums per table: what the published partition must equal to the cent."""
    return {
        name: {
            "rows": table.num_rows,
            **{
                c: pc.sum(table[c]).as_py() or Decimal(0)
                for c in _MONEY_COLUMNS.get(name, ())
                if c in table.column_names
            },
        }
        for name, table in tables.items()
        if name != "problems"
    }


def read(ctx: Context, partition: Partition) -> dict[str, pa.Table]:
    """The published tables of a partition; empty dict where nothing is published."""
    with db.transaction(ctx.db) as connection:
        prefix = connection.execute(sa.select(partitions.c.published_uri).where(*_is(partition))).scalar()
    if prefix is None:
        return {}
    return {
        key.rsplit("/", 1)[-1].removesuffix(".parquet"): tables_io.read_parquet(ctx.objects.get(key))
        for key in ctx.objects.list(f"{prefix}/")
    }


def _policy_hash(ctx: Context) -> str:
    return hashlib.sha256((ctx.settings.policies / "deidentification.yml").read_bytes()).hexdigest()


def _version(landed: str, policy_hash: str) -> str:
    return hashlib.sha256(f"{DEIDENTIFY_VERSION}\n{landed}\n{policy_hash}".encode()).hexdigest()


def _is(partition: Partition) -> list[sa.ColumnElement[bool]]:
    return [
        partitions.c.practice == partition.practice,
        partitions.c.object == partition.object,
        partitions.c.day == partition.day,
    ]
