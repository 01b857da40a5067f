"""Purging what the retention policy lets go: the own secrets first, so that copies die too, then the objects.

Each unit is a touch in the ledger: what is about to go, by rule, policy and object, then what went. A purge that dies
half-way leaves objects nobody can open, and rows that say so; the next run finds and erases them.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from medbill.audit.ledger import Event
from medbill.errors import StoreUnavailable
from medbill.pipelines import deidentify, results, retention, retention_policy, traces
from medbill.pipelines.context import Context, Partition
from medbill.pipelines.retention import Due, Kept
from medbill.pipelines.retention_policy import Retention
from medbill.store import db, envelope, temp
from medbill.store.tables import inbox_files, partitions, quarantine, token_grants, token_traces
from medbill.store.tables import results as results_table

#: Advisory lock that lets one purge at a time work; any constant will do.
_LOCK = 0x6D627075726765
KIND = "retention.purge"


@dataclass
class Purged:
    """Objects erased per rule; kept: (rule, why) -> how many stay. locked: erased in name, but a bucket keeps a version
    (unreadable: its secret is destroyed)."""

    erased: Counter[str] = field(default_factory=Counter)
    kept: Counter[tuple[str, str]] = field(default_factory=Counter)
    locked: int = 0


def run(ctx: Context, now: datetime | None = None, step: Callable[[], None] = lambda: None) -> Purged:
    """Purge everything the policy of the deployment lets go. step: called between units (tests stop here).

    Raises PolicyError; StoreUnavailable, with code PURGE_RUNNING where another purge is at work; LedgerUnavailable. What
    was purged until then stays purged, and a second run takes up the rest.
    """
    policy = retention_policy.load(ctx.settings.policies / "retention.yml")
    now = now or datetime.now(UTC)
    done = Purged()
    with _alone(ctx):
        for one in retention.due(ctx, policy, now):
            if isinstance(one, Kept):
                done.kept[one.rule, one.why] += 1
                continue
            step()
            erased, locked = unit(ctx, policy, one, now, step)
            done.erased[one.rule] += erased
            done.locked += locked
        home = ctx.settings.home
        folders = [("task_logs", "-", home / "airflow" / "logs"), ("temp", "-", temp.folder(home))]
        for practice in retention.practices(ctx):
            done.erased["token_grants"] += _grants(ctx, policy, practice, now)
            folders.append(("reports", practice, ctx.settings.reports / practice))
        for rule, practice, folder in folders:
            if policy.held(practice):
                done.kept[rule, "hold"] += 1
            else:
                done.erased[rule] += _aged_files(ctx, policy, rule, practice, folder, now)
    return done


def unit(
    ctx: Context, policy: Retention, due: Due, now: datetime, step: Callable[[], None] = lambda: None
) -> tuple[int, int]:
    """Purge one unit; (objects erased, of these still kept by the bucket). (0, 0) where it is needed again meanwhile."""
    event = _event(
        policy,
        due.rule,
        due.practice,
        due.resource,
        due.version,
        objects=len(due.keys),
        ids=[key.rpartition("/")[2].removesuffix(".sealed")[:80] for key in due.keys[: retention.MOST]],
        keys_hash=hashlib.sha256("\n".join(sorted(due.keys)).encode()).hexdigest(),
        records=len(due.refused),
    )
    with ctx.ledger.touch(event) as touch:
        if due.rule == "published_superseded" and due.partition is not None:
            _trace(ctx, due, due.partition)
        secrets = _mark(ctx, due, now)
        if secrets is None:
            touch.note(erased=0, needed_again=True)
            return 0, 0
        locked = 0
        for key in due.keys:
            step()
            locked += not ctx.objects.erase(key)
        touch.note(erased=len(due.keys), secrets=secrets, locked=locked)
    return len(due.keys), locked


def _mark(ctx: Context, due: Due, now: datetime) -> int | None:
    """Write down that the unit is gone and destroy its secrets, in one transaction; None where it is needed again."""
    by_zone: dict[str, list[str]] = defaultdict(list)
    for key in due.keys:
        if key.endswith(".sealed"):
            zone, context = retention.context_of(key)
            by_zone[zone].append(context)
    with db.transaction(ctx.db, due.practice) as connection:
        if due.version is not None and due.partition is not None:
            marked = connection.execute(
                sa.update(partitions)
                .where(*due.partition.where(partitions), partitions.c.landed_version == due.version)
                .values(landed_purged_at=now)
            )
            if marked.rowcount == 0:
                return None  # landed anew
        elif due.rule in ("published_superseded", "results_superseded") and _pointed_to(connection, due):
            return None
        if due.files:
            connection.execute(
                sa.update(inbox_files)
                .where(inbox_files.c.practice == due.practice, inbox_files.c.sha256.in_(due.files))
                .values(purged_at=now)
            )
        if due.refused:
            connection.execute(sa.update(quarantine).where(quarantine.c.id.in_(due.refused)).values(purged_at=now))
        return sum(envelope.destroy(connection, due.practice, zone, some) for zone, some in by_zone.items())


def _pointed_to(connection: sa.Connection, due: Due) -> bool:
    """Whether a superseded version is the current one again; its row stays locked, so that it cannot become so now."""
    folder = due.keys[0].rpartition("/")[0]
    _, _, name, day, _ = folder.split("/")
    table, column = (partitions, "object") if folder.startswith("deid/") else (results_table, "kind")
    pointer = table.c.published_uri if table is partitions else table.c.uri
    found = connection.execute(
        sa.select(pointer)
        .where(table.c.practice == due.practice, table.c[column] == name, table.c.day == day)
        .with_for_update()
    ).scalar()
    return bool(found == folder)


def _trace(ctx: Context, due: Due, partition: Partition) -> None:
    """Keep which tokens stood with which claim, where what is published now does not say so: shredding looks here."""
    folder = due.keys[0].rpartition("/")[0]
    now = traces.pairs(deidentify.read(ctx, partition))
    gone = sorted(traces.pairs(results.load(ctx, folder)) - now)
    with db.transaction(ctx.db, due.practice) as connection:
        for start in range(0, len(gone), 1000):
            connection.execute(
                insert(token_traces).on_conflict_do_nothing(),
                [{"practice": due.practice, "claim_token": c, "token": t} for c, t in gone[start : start + 1000]],
            )


def _grants(ctx: Context, policy: Retention, practice: str, now: datetime) -> int:
    """Grants of tokens to runs that ended long ago; they name tokens only, so one row in the ledger says it."""
    old = sa.and_(
        token_grants.c.practice == practice,
        token_grants.c.expires_at < now - timedelta(days=policy.days["token_grants"]),
    )
    with db.transaction(ctx.db, practice) as connection:
        found = connection.execute(sa.select(sa.func.count()).select_from(token_grants).where(old)).scalar_one()
    if not found:
        return 0
    with ctx.ledger.touch(_event(policy, "token_grants", practice, "expired", objects=found)) as touch:
        with db.transaction(ctx.db, practice) as connection:
            gone = connection.execute(sa.delete(token_grants).where(old)).rowcount
        touch.note(erased=gone)
    return gone


def _aged_files(ctx: Context, policy: Retention, rule: str, practice: str, folder: Path, now: datetime) -> int:
    """Files of a folder of the home by their age: reports, task logs, temporary files."""
    seconds = policy.days[rule] * 86_400.0 + (datetime.now(UTC) - now).total_seconds()
    waiting = sum(1 for file in folder.rglob("*") if file.is_file() and time.time() - file.lstat().st_mtime > seconds)
    if not waiting:
        return 0
    with ctx.ledger.touch(_event(policy, rule, practice, "files", objects=waiting)) as touch:
        gone = temp.empty(folder, seconds)
        touch.note(erased=gone)
    return gone


def _event(
    policy: Retention, rule: str, practice: str, resource: str, version: str | None = None, **details: Any
) -> Event:
    return Event(
        action="delete",
        kind=KIND,
        purpose="operations",
        practice=practice,
        resource=f"{rule}:{resource}",
        source_hash=version,
        details={"rule": rule, "policy": policy.version, "policy_hash": policy.hash, **details},
    )


@contextmanager
def _alone(ctx: Context) -> Iterator[None]:
    """One purge at a time, as long as its connection lives."""
    connection = ctx.db.connect().execution_options(isolation_level="AUTOCOMMIT")
    try:
        if not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(_LOCK))):
            raise StoreUnavailable("another purge is at work; nothing to do", code="PURGE_RUNNING")
        try:
            yield
        finally:
            connection.scalar(sa.select(sa.func.pg_advisory_unlock(_LOCK)))
    finally:
        connection.close()
