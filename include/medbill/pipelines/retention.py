"""What the retention policy lets go, and what is still needed whatever its age. Nothing is deleted here (medbill.pipelines.purge).

Every rule looks at one folder of objects or one group of rows at a time, so memory does not grow with what is kept.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import Any

import pyarrow.compute as pc
import sqlalchemy as sa

from medbill.pipelines import deidentify, receive
from medbill.pipelines.context import Context, Partition
from medbill.pipelines.retention_policy import Retention
from medbill.store import db
from medbill.store.objects import Entry
from medbill.store.tables import holds, inbox_files, partitions, proposals, quarantine, results

#: A proposal in one of these states may still be decided, sent or retried.
OPEN_PROPOSALS = ("proposed", "approved", "edited", "failed")
#: Objects one ledger row speaks of.
MOST = 100
_SEALED = re.compile(r"(?:^|/)((?:landing|quarantine)/[^?#]+\.sealed)$")


@dataclass(frozen=True)
class Due:
    """Something to purge: object keys, and the rows that say they are there. version: of the landed partition."""

    rule: str
    practice: str
    resource: str
    keys: tuple[str, ...] = ()
    partition: Partition | None = None
    version: str | None = None
    files: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kept:
    """Something old enough that stays. why: hold, pending, quarantined, held, proposals."""

    rule: str
    practice: str
    why: str


@dataclass(frozen=True)
class Landed:
    """What speaks for keeping a landed partition. newest: when it or the youngest of its files was landed."""

    newest: datetime
    published: bool
    whole: bool  # no file waits to be landed with it
    held_files: int = 0
    quarantined: int = 0
    held_claims: int = 0
    proposals: int = 0
    on_hold: bool = False


def why_kept(state: Landed, now: datetime, days: int) -> str | None:
    """Why a landed partition stays; None where it may go. 'young' is the only reason that passes by itself."""
    if state.newest > now - timedelta(days=days):
        return "young"
    if state.on_hold:
        return "hold"
    if not (state.published and state.whole):
        return "pending"
    if state.held_files or state.held_claims:
        return "held"
    if state.quarantined:
        return "quarantined"
    return "proposals" if state.proposals else None


def due(ctx: Context, policy: Retention, now: datetime) -> Iterator[Due | Kept]:
    """Everything the policy lets go of objects, and what it would but for a reason, practice by practice."""
    for practice in practices(ctx):
        yield from _landed(ctx, policy, practice, now)
        yield from _quarantined(ctx, policy, practice, now)
        yield from _leftovers(ctx, policy, practice, now)
        yield from _superseded(ctx, policy, practice, now)
        yield from _aged(ctx, policy, practice, now)


def practices(ctx: Context) -> list[str]:
    """Of practices.yml, and those that were once."""
    with db.transaction(ctx.db, db.EVERY_PRACTICE) as connection:
        stored = connection.scalars(sa.select(partitions.c.practice).distinct()).all()
    return sorted({p.id for p in ctx.settings.practices()} | set(stored))


def context_of(key: str) -> tuple[str, str]:
    """(zone, context) an object of the landing or quarantine zone is sealed for; the reverse of how keys are made."""
    zone, _, name, *rest = key.removesuffix(".sealed").split("/")
    return zone, ":".join(["file" if name == "files" else name, *rest])


def key_of(uri: str | None) -> str | None:
    """The key of a sealed object in a URI or key as tables hold it."""
    found = _SEALED.search(uri or "")
    return found[1] if found else None


def landed_state(ctx: Context, policy: Retention, partition: Partition, row: Any) -> tuple[Landed, list[str]]:
    """What speaks for keeping a landed partition, and the hashes of its files. row: of table partitions."""
    tokens = _claim_tokens(ctx, partition)
    version = deidentify.version_of(row.landed_version, deidentify.policy_hash_of(ctx))
    with db.transaction(ctx.db, partition.practice) as connection:
        files = connection.execute(
            sa.select(inbox_files.c.sha256, inbox_files.c.status, inbox_files.c.created_at)
            .where(*partition.where(inbox_files))
            .order_by(inbox_files.c.sha256)
        ).all()
        mine = [f for f in files if f.status == "landed"]
        refused = sa.select(sa.func.count()).where(
            *partition.where(quarantine),
            quarantine.c.level != "file",
            quarantine.c.status == "open",
            quarantine.c.purged_at.is_(None),
        )
        of_day = partition.object == "remittances"
        waiting = sa.select(sa.func.count()).where(
            holds.c.practice == partition.practice,
            holds.c.status == "open",
            sa.or_(holds.c.day == partition.day if of_day else sa.false(), holds.c.claim_token.in_(tokens)),
        )
        proposed = sa.select(sa.func.count()).where(
            proposals.c.practice == partition.practice,
            proposals.c.status.in_(OPEN_PROPOSALS),
            sa.or_(proposals.c.day == partition.day if of_day else sa.false(), proposals.c.claim_token.in_(tokens)),
        )
        state = Landed(
            newest=max([row.landed_at, *(f.created_at for f in mine)]),
            published=row.published_version == version,
            whole=not of_day or receive.version_of(f.sha256 for f in mine) == row.landed_version,
            held_files=sum(f.status == "held" for f in files),
            quarantined=connection.execute(refused).scalar_one(),
            held_claims=connection.execute(waiting).scalar_one(),
            proposals=connection.execute(proposed).scalar_one(),
            on_hold=policy.held(partition.practice, partition.object, partition.day),
        )
    return state, [f.sha256 for f in mine]


def landed_due(rule: str, partition: Partition, version: str, files: list[str]) -> Due:
    """A landed version with the inbox files it was read from."""
    keys = [partition.landed_key(version), *(f"landing/{partition.practice}/files/{sha}.sealed" for sha in files)]
    resource = f"{partition.object}/{partition.day}"
    return Due(rule, partition.practice, resource, tuple(keys), partition, version, tuple(files))


def _landed(ctx: Context, policy: Retention, practice: str, now: datetime) -> Iterator[Due | Kept]:
    with db.transaction(ctx.db, practice) as connection:
        rows = connection.execute(
            sa.select(partitions)
            .where(
                partitions.c.practice == practice,
                partitions.c.landed_version.is_not(None),
                partitions.c.landed_purged_at.is_(None),
                partitions.c.landed_at < now - timedelta(days=policy.days["landing"]),
            )
            .order_by(partitions.c.object, partitions.c.day)
        ).all()
    for row in rows:
        partition = Partition(practice, row.object, row.day)
        state, files = landed_state(ctx, policy, partition, row)
        why = why_kept(state, now, policy.days["landing"])
        if why is None:
            yield landed_due("landing", partition, row.landed_version, files)
        elif why != "young":
            yield Kept("landing", practice, why)


def _claim_tokens(ctx: Context, partition: Partition) -> list[str]:
    """Of the claims a published partition speaks of."""
    found: set[str] = set()
    for table in deidentify.read(ctx, partition).values():
        if "claim_token" in table.column_names:
            found |= set(pc.unique(table["claim_token"]).drop_null().to_pylist())
    return sorted(found)


def _quarantined(ctx: Context, policy: Retention, practice: str, now: datetime) -> Iterator[Due | Kept]:
    """Refused files and records by the object that holds them; a note's bytes are the landed version's, and go with it."""
    query = (
        sa.select(
            quarantine.c.uri,
            sa.func.min(quarantine.c.object).label("object"),
            sa.func.min(quarantine.c.day).label("day"),
            sa.func.array_agg(quarantine.c.id).label("ids"),
            sa.func.array_agg(quarantine.c.record_key).label("records"),
            sa.func.bool_or(quarantine.c.level == "file").label("is_file"),
        )
        .where(quarantine.c.practice == practice, quarantine.c.purged_at.is_(None))
        .group_by(quarantine.c.uri)
        .having(sa.func.max(quarantine.c.created_at) < now - timedelta(days=policy.days["quarantine"]))
        .order_by(quarantine.c.uri)
    )
    with db.transaction(ctx.db, practice) as connection:
        rows = connection.execute(query).all()
    for row in rows:
        if policy.held(practice, row.object, row.day):
            yield Kept("quarantine", practice, "hold")
            continue
        key = key_of(row.uri)
        of_landed = key is not None and key.startswith("landing/") and not row.is_file
        yield Due(
            "quarantine",
            practice,
            f"{row.object}/{row.day or 'no day'}",
            () if key is None or of_landed else (key,),
            files=tuple(sorted(set(row.records))) if row.is_file else (),
            refused=tuple(sorted(row.ids)),
        )


def _leftovers(ctx: Context, policy: Retention, practice: str, now: datetime) -> Iterator[Due | Kept]:
    """Sealed objects that nothing points to: superseded versions, of runs that died, and of a purge that did."""
    before = now - timedelta(days=policy.days["landing_superseded"])
    for zone in ("landing", "quarantine"):
        for folder, some in _folders(ctx, f"{zone}/{practice}/"):
            parts = folder.split("/")
            name, day = parts[2] if len(parts) > 2 else "", _day(parts[3]) if len(parts) > 3 else None
            if policy.held(practice, None if name == "files" else name, day):
                continue
            if name == "files":
                gone = _unknown_files(ctx, practice, some, before)
            elif day is not None:
                gone = _unused(ctx, Partition(practice, name, day), zone, some, before)
            else:
                continue
            if gone:
                resource = folder.partition("/")[2].partition("/")[2]
                yield Due("landing_superseded", practice, f"{zone}/{resource}", tuple(gone))


def _unknown_files(ctx: Context, practice: str, some: list[Entry], before: datetime) -> list[str]:
    names = {entry.key: entry.key.rpartition("/")[2].removesuffix(".sealed") for entry in some}
    with db.transaction(ctx.db, practice) as connection:
        purged: dict[str, bool] = dict(
            connection.execute(
                sa.select(inbox_files.c.sha256, inbox_files.c.purged_at.is_not(None)).where(
                    inbox_files.c.practice == practice, inbox_files.c.sha256.in_(set(names.values()))
                )
            ).all()
        )
    return [e.key for e in some if purged.get(names[e.key], _older(e, before))]


def _unused(ctx: Context, partition: Partition, zone: str, some: list[Entry], before: datetime) -> list[str]:
    with db.transaction(ctx.db, partition.practice) as connection:
        row = connection.execute(sa.select(partitions).where(*partition.where(partitions))).one_or_none()
        refused = connection.execute(
            sa.select(quarantine.c.uri, quarantine.c.purged_at).where(*partition.where(quarantine))
        ).all()
    needed = {key_of(r.uri) for r in refused if r.purged_at is None}
    dead = {key_of(r.uri) for r in refused if r.purged_at is not None and zone == "quarantine"}
    settled = True
    if zone == "landing" and row is not None and row.landed_version is not None:
        current = partition.landed_key(row.landed_version)
        (needed if row.landed_purged_at is None else dead).add(current)
        settled = row.landed_at < before
    return [e.key for e in some if e.key not in needed and (e.key in dead or (settled and _older(e, before)))]


def _superseded(ctx: Context, policy: Retention, practice: str, now: datetime) -> Iterator[Due | Kept]:
    """Published versions and results that others replaced."""
    for zone, rule in (("deid", "published_superseded"), ("results", "results_superseded")):
        before = now - timedelta(days=policy.days[rule])
        for folder, some in _folders(ctx, f"{zone}/{practice}/"):
            parts = folder.split("/")
            day = _day(parts[3]) if len(parts) == 5 else None
            if day is None or not all(_older(entry, before) for entry in some):
                continue
            pointed = _pointed(ctx, zone, practice, parts[2], day)
            if pointed is not None and (pointed[0] == folder or pointed[1] >= before):
                continue
            if policy.held(practice, parts[2], day):
                yield Kept(rule, practice, "hold")
                continue
            partition = Partition(practice, parts[2], day) if zone == "deid" else None
            yield Due(rule, practice, "/".join(parts[2:]), tuple(e.key for e in some), partition)


def _pointed(ctx: Context, zone: str, practice: str, name: str, day: date) -> tuple[str, datetime] | None:
    """Where the partition or result points to, and since when."""
    if zone == "deid":
        query = sa.select(partitions.c.published_uri, partitions.c.published_at).where(
            *Partition(practice, name, day).where(partitions), partitions.c.published_uri.is_not(None)
        )
    else:
        query = sa.select(results.c.uri, results.c.updated_at).where(
            results.c.practice == practice, results.c.kind == name, results.c.day == day
        )
    with db.transaction(ctx.db, practice) as connection:
        row = connection.execute(query).one_or_none()
    return None if row is None else (row[0], row[1])


def _aged(ctx: Context, policy: Retention, practice: str, now: datetime) -> Iterator[Due | Kept]:
    before = now - timedelta(days=policy.days["replay"])
    for folder, some in _folders(ctx, f"replay/{practice}/"):
        if policy.held(practice):
            return
        if gone := [entry.key for entry in some if _older(entry, before)]:
            yield Due("replay", practice, folder.partition("/")[2].partition("/")[2] or "all", tuple(gone))


def _folders(ctx: Context, prefix: str) -> Iterator[tuple[str, list[Entry]]]:
    """The objects below a prefix, folder by folder, a hundred of one folder at a time."""
    for folder, entries in groupby(ctx.objects.entries(prefix), key=lambda entry: entry.key.rpartition("/")[0]):
        for some in _hundreds(entries):
            yield folder, some


def _hundreds(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    some: list[Entry] = []
    for entry in entries:
        some.append(entry)
        if len(some) == MOST:
            yield some
            some = []
    if some:
        yield some


def _older(entry: Entry, before: datetime) -> bool:
    return datetime.fromtimestamp(entry.written, UTC) < before


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def counts(found: Iterable[Due | Kept]) -> dict[tuple[str, str], int]:
    """(rule, 'due' or why it is kept) -> objects due, or how many are kept."""
    totals: dict[tuple[str, str], int] = defaultdict(int)
    for one in found:
        if isinstance(one, Due):
            totals[one.rule, "due"] += max(1, len(one.keys))
        else:
            totals[one.rule, one.why] += 1
    return dict(totals)
