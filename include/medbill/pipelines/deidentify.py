"""deidentify: landed partitions become published, de-identified ones.

Publishing is one row update: readers see the old version or the new one, never half of one. A partition whose landed
version and policy are unchanged is left alone, so a re-run changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from medbill.audit.ledger import Event
from medbill.deid import check
from medbill.deid.policy import Policy
from medbill.deid.policy import load as load_policy
from medbill.errors import Purged, QualityGateClosed, TamperedData
from medbill.lineage import facts
from medbill.lineage.datasets import dataset
from medbill.pipelines import notes, results
from medbill.pipelines.context import Context, Partition, batches, column_sum
from medbill.quality import gates
from medbill.quality.gates import GateResult
from medbill.store import db
from medbill.store.tables import partitions, quarantine

if TYPE_CHECKING:
    from medbill.deid.egress import Guard
    from medbill.deid.egress_values import KnownValues
    from medbill.deid.text.engine import Engine
    from medbill.deid.vault import Vault

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
    """Landed partitions that are not published in their landed version under today's policy.

    One whose landed version was purged stays published as it is.
    """
    policy_hash = policy_hash_of(ctx)
    with db.transaction(ctx.db, db.EVERY_PRACTICE) as connection:
        rows = connection.execute(
            sa.select(
                partitions.c.practice,
                partitions.c.object,
                partitions.c.day,
                partitions.c.landed_version,
                partitions.c.published_version,
            )
            .where(partitions.c.landed_version.is_not(None), partitions.c.landed_purged_at.is_(None))
            .order_by(partitions.c.practice, partitions.c.object, partitions.c.day)
        ).all()
    return [
        Partition(r.practice, r.object, r.day)
        for r in rows
        if r.published_version != version_of(r.landed_version, policy_hash)
    ]


def publish(ctx: Context, wanted: list[Partition]) -> list[Partition]:
    """De-identify, gate and publish each partition; returns those whose published content changed.

    Raises, after the rest is done, TamperedData where what was landed is not there any more as it was, QualityGateClosed
    where a partition fails gate 2, Purged where what was landed is gone by the retention policy; nothing of those
    partitions is published.
    """
    policy, policy_hash = load_policy(ctx.settings.policies / "deidentification.yml"), policy_hash_of(ctx)
    due: list[_Due] = []
    changed: list[Partition] = []
    closed: list[Partition] = []
    damaged: list[Partition] = []
    purged: list[Partition] = []
    for partition in wanted:
        with db.transaction(ctx.db, partition.practice) as connection:
            row = connection.execute(sa.select(partitions).where(*partition.where(partitions))).mappings().one()
        version = version_of(row["landed_version"], policy_hash)
        if row["published_version"] != version and row["landed_purged_at"] is not None:
            purged.append(partition)
        elif row["published_version"] != version:
            look = ctx.objects.look(partition.landed_key(row["landed_version"]))
            if look is None:
                damaged.append(partition)
            else:
                due.append(_Due(partition, row["landed_version"], version, row["content_hash"], look.size))
    texts = _Texts(ctx)
    for batch in batches(due, lambda d: d.bytes):
        whole, made = [], []
        for d in batch:
            try:
                made.append(_deidentify(ctx, d, policy, texts))
                whole.append(d)
            except TamperedData:
                damaged.append(d.partition)
            except Purged:  # meanwhile
                purged.append(d.partition)
        if not whole:
            continue
        checked = gates.check_published(
            [(m.published, m.totals, m.leaks) for m in made], ctx.settings.great_expectations
        )
        for d, m, result in zip(whole, made, checked, strict=True):
            facts.checked_written(dataset("deid", d.partition.object), result.assertions())
            if not result.passed:
                closed.append(d.partition)
            elif _swap(ctx, d, m):
                changed.append(d.partition)
            _record_gate(ctx, d, m, result)
    if damaged:
        raise TamperedData(
            f"{len(damaged)} landed partition(s) are missing, altered or sealed under other keys ({_named(damaged)}); "
            "nothing of them is published: restore the objects, or land the days again"
        )
    if purged:
        raise Purged(
            f"what was landed of {len(purged)} partition(s) was purged under the retention policy ({_named(purged)}); "
            "what is published of them stays as it is: land the days again to publish them anew"
        )
    if closed:
        raise QualityGateClosed(
            f"gate 2 refused {len(closed)} partition(s) ({_named(closed)}); nothing of them is published, see the ledger"
        )
    return changed


def _named(wanted: list[Partition]) -> str:
    return ", ".join(f"{p.object}/{p.day}" for p in wanted)


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
    """refused: notes that stay behind, by token, with the reason."""

    published: dict[str, pa.Table]
    totals: dict[str, dict[str, int | Decimal]]
    leaks: int
    refused: dict[str, str]


class _Texts:
    """The free-text engine and what the egress guard knows of each practice, loaded once per task and only for free text."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._engine: Engine | None = None
        self._known: dict[str, KnownValues] = {}

    def engine(self) -> Engine:
        if self._engine is None:
            from medbill.deid.text.engine import loaded

            self._engine = loaded(self._ctx.settings.deid_model)
        return self._engine

    def guard(self, practice: str, vault: Vault, public: Iterable[str]) -> Guard:
        from medbill.deid.egress import Guard
        from medbill.deid.egress_values import KnownValues, VaultSource

        if practice not in self._known:
            self._known[practice] = KnownValues(VaultSource(vault, self._ctx.ledger))
        return Guard(self._known[practice], self._ctx.ledger, public)


def _deidentify(ctx: Context, due: _Due, policy: Policy, texts: _Texts) -> _Made:
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
        originals = ctx.landed(partition, due.landed)
        facts.read(dataset("landing", partition.object), sum(t.num_rows for t in originals.values()), due.bytes)
        free_text: dict[str, pa.Array] = {}
        refused: dict[str, str] = {}
        leaks = 0
        if partition.object == "notes":
            guard = texts.guard(practice, vault, _public(ctx, partition))
            done = notes.deidentify(originals["notes"], vault, texts.engine(), guard)
            originals = {"notes": done.table}
            free_text["notes"], refused, leaks = done.texts, done.refused, notes.leaks(done.texts, guard)
            touch.note(refused=len(refused), **{f"identifiers.{k}": n for k, n in sorted(done.identifiers.items())})
        published = {
            name: policy.apply(partition.object, name, table, vault, free_text.get(name))
            for name, table in sorted(originals.items())
            if policy.covers(partition.object, name)
        }
        leaks += sum(leak.count for leak in check.leaks(published, originals, policy, partition.object))
        touch.note(leaks=leaks, **{f"rows.{name}": table.num_rows for name, table in published.items()})
    return _Made(published, totals(originals), leaks, refused)


def _public(ctx: Context, notes_of: Partition) -> list[str]:
    """Names that may stand in a text although the vault may know the like: the practice's own, and the day's payers."""
    claims = read(ctx, Partition(notes_of.practice, "claims", notes_of.day)).get("claims")
    payers = [] if claims is None else pc.unique(claims["payer_name"]).drop_null().to_pylist()
    return [ctx.settings.practice(notes_of.practice).name, *payers]


def _swap(ctx: Context, due: _Due, made: _Made) -> bool:
    """Store the tables under their content hash and point the partition at them; whether its content changed."""
    prefix, content_hash = results.store(ctx, due.partition.key("deid", ""), made.published)
    counts = {f"{name}_published": table.num_rows for name, table in made.published.items()}
    if due.partition.object == "notes":
        counts["notes_quarantined"] = len(made.refused)
    with db.transaction(ctx.db, due.partition.practice) as connection:
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
        if swapped.rowcount == 1 and due.partition.object == "notes":
            _quarantine(connection, due, made.refused)
    return swapped.rowcount == 1 and due.content_hash != content_hash


def _quarantine(connection: sa.Connection, due: _Due, refused: dict[str, str]) -> None:
    """Exactly the refused notes of a partition in quarantine; those of an earlier version that are no more refused go."""
    p = due.partition
    ids = {token: _quarantine_id(p, token, code) for token, code in refused.items()}
    connection.execute(
        sa.delete(quarantine).where(
            *p.where(quarantine), quarantine.c.level == "note", quarantine.c.id.not_in(list(ids.values()))
        )
    )
    for token, code in sorted(refused.items()):
        connection.execute(
            insert(quarantine)
            .values(
                id=ids[token],
                practice=p.practice,
                object=p.object,
                day=p.day,
                level="note",
                record_key=token,
                reason_code=code,
                reason=notes.REASONS[code],
                uri=p.landed_key(due.landed),
            )
            .on_conflict_do_nothing()
        )


def _quarantine_id(partition: Partition, token: str, code: str) -> str:
    return hashlib.sha256("\n".join([*partition.ref().values(), token, code]).encode()).hexdigest()[:32]


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
    with db.transaction(ctx.db, partition.practice) as connection:
        prefix = connection.execute(sa.select(partitions.c.published_uri).where(*partition.where(partitions))).scalar()
    return results.load(ctx, prefix) if prefix is not None else {}


def policy_hash_of(ctx: Context) -> str:
    """SHA-256 of the de-identification policy of now."""
    return hashlib.sha256((ctx.settings.policies / "deidentification.yml").read_bytes()).hexdigest()


def version_of(landed: str, policy_hash: str) -> str:
    """The published version that is made of a landed one under a policy."""
    return hashlib.sha256(f"{DEIDENTIFY_VERSION}\n{landed}\n{policy_hash}".encode()).hexdigest()
