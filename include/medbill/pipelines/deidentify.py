"""deidentify: landed partitions become published, de-identified ones.

Publishing is one row update: readers see the old version or the new one, never half of one. A partition whose landed
version and policy are unchanged is left alone, so a re-run changes nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from decimal import Decimal

import pyarrow as pa
import sqlalchemy as sa

from medbill.audit.ledger import Event
from medbill.deid import check
from medbill.deid.policy import Policy
from medbill.deid.policy import load as load_policy
from medbill.errors import QualityGateClosed
from medbill.pipelines import results
from medbill.pipelines.context import Context, Partition, batches, column_sum
from medbill.quality import gates
from medbill.quality.gates import GateResult
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
    due = []
    for partition in wanted:
        with db.transaction(ctx.db) as connection:
            row = connection.execute(sa.select(partitions).where(*partition.where(partitions))).mappings().one()
        version = _version(row["landed_version"], policy_hash)
        if row["published_version"] != version:
            sealed = ctx.objects.get(partition.key("landing", row["landed_version"]) + ".sealed")
            due.append(_Due(partition, row["landed_version"], version, row["content_hash"], len(sealed)))
    changed, closed = [], []
    for batch in batches(due, lambda d: d.bytes):
        made = [_deidentify(ctx, d, policy) for d in batch]
        checked = gates.check_published(
            [(m.published, m.totals, m.leaks) for m in made], ctx.settings.great_expectations
        )
        for d, m, result in zip(batch, made, checked, strict=True):
            if not result.passed:
                closed.append(d.partition)
            elif _swap(ctx, d, m.published):
                changed.append(d.partition)
            _record_gate(ctx, d, m, result)
    if closed:
        days = ", ".join(f"{p.object}/{p.day}" for p in closed)
        raise QualityGateClosed(
            f"gate 2 refused {len(closed)} partition(s) ({days}); nothing of them is published, see the ledger"
        )
    return changed


@dataclass(frozen=True)
class _Due:
    """A landed partition that is not published in this version; content_hash is what is published of it now."""

    partition: Partition
    landed: str
    version: str
    content_hash: str | None
    bytes: int


@dataclass(frozen=True)
class _Made:
    published: dict[str, pa.Table]
    totals: dict[str, dict[str, int | Decimal]]
    leaks: int


def _deidentify(ctx: Context, due: _Due, policy: Policy) -> _Made:
    partition, practice = due.partition, due.partition.practice
    vault = ctx.vault(practice)
    event = Event(
        action="read",
        kind="landing.deidentify",
        purpose="payment",
        practice=practice,
        resource=f"{partition.object}/{partition.day}",
        source_hash=due.landed,
    )
    with ctx.ledger.touch(event) as touch:
        originals = tables_io.open_tables(
            ctx.envelopes.open(
                practice,
                "landing",
                f"{partition.object}:{partition.day}:{due.landed}",
                ctx.objects.get(partition.key("landing", due.landed) + ".sealed"),
            )
        )
        published = {
            name: policy.apply(partition.object, name, table, vault)
            for name, table in sorted(originals.items())
            if policy.covers(partition.object, name)
        }
        leaks = sum(leak.count for leak in check.leaks(published, originals, policy, partition.object))
        touch.note(leaks=leaks, **{f"rows.{name}": table.num_rows for name, table in published.items()})
    return _Made(published, totals(originals), leaks)


def _swap(ctx: Context, due: _Due, published: dict[str, pa.Table]) -> bool:
    """Store the tables under their content hash and point the partition at them; whether its content changed."""
    prefix, content_hash = results.store(ctx, due.partition.key("deid", ""), published)
    counts = {f"{name}_published": table.num_rows for name, table in published.items()}
    with db.transaction(ctx.db) as connection:
        swapped = connection.execute(
            sa.update(partitions)
            # landed anew meanwhile: that version's own run publishes
            .where(*due.partition.where(partitions), partitions.c.landed_version == due.landed)
            .values(
                published_version=due.version,
                published_uri=prefix,
                content_hash=content_hash,
                published_at=sa.func.clock_timestamp(),
                counts=partitions.c.counts.op("||")(sa.cast(counts, partitions.c.counts.type)),
            )
        )
    return swapped.rowcount == 1 and due.content_hash != content_hash


def _record_gate(ctx: Context, due: _Due, made: _Made, result: GateResult) -> None:
    ctx.ledger.record(
        Event(
            action="execute",
            kind="gate.published",
            purpose="payment",
            practice=due.partition.practice,
            resource=f"{due.partition.object}/{due.partition.day}",
            source_hash=due.landed,
            details={"leaks": made.leaks, "failed": len(result.failed_expectations)},
        ),
        outcome="success" if result.passed else "failure",
    )


def totals(tables: dict[str, pa.Table]) -> dict[str, dict[str, int | Decimal]]:
    """Rows and sums per table: what the published partition must equal to the cent."""
    return {
        name: {
            "rows": table.num_rows,
            **{c: column_sum(table, c) for c in _MONEY_COLUMNS.get(name, ()) if c in table.column_names},
        }
        for name, table in tables.items()
        if name != "problems"
    }


def read(ctx: Context, partition: Partition) -> dict[str, pa.Table]:
    """The published tables of a partition; empty dict where nothing is published."""
    with db.transaction(ctx.db) as connection:
        prefix = connection.execute(sa.select(partitions.c.published_uri).where(*partition.where(partitions))).scalar()
    return results.load(ctx, prefix) if prefix is not None else {}


def _policy_hash(ctx: Context) -> str:
    return hashlib.sha256((ctx.settings.policies / "deidentification.yml").read_bytes()).hexdigest()


def _version(landed: str, policy_hash: str) -> str:
    return hashlib.sha256(f"{DEIDENTIFY_VERSION}\n{landed}\n{policy_hash}".encode()).hexdigest()
