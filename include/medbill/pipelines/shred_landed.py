"""One patient in what was landed: sealed objects that hold a value of this patient's are found by opening every one.

There is no index from patients to objects that could leak or go stale: the landing zone is short-lived, and each object is
opened once, alone. An object that is published already is not needed any more and goes whole, before its time; one that
is still needed stays and is counted, so that shredding refuses to end half-done. Refused records share an object with
those of other patients: it is sealed anew without this patient's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from medbill.deid.vault import normalised
from medbill.errors import Purged, StoreUnavailable
from medbill.pipelines import purge, retention
from medbill.pipelines.context import Context, Partition
from medbill.pipelines.retention import Due
from medbill.pipelines.retention_policy import Retention
from medbill.store import db, envelope, tables_io
from medbill.store.tables import inbox_files, partitions, quarantine
from medbill.x12 import era

_SHORTEST = 4  # characters of a value that is looked for: shorter ones are everybody's
_MAGIC = b"MBT1"


@dataclass
class Landed:
    """objects: purged. rewritten: sealed anew without the patient. needed: hold the patient and cannot go yet."""

    objects: int = 0
    rewritten: int = 0
    needed: int = 0


class Values:
    """The values of one patient, as a test of what an object holds."""

    def __init__(self, values: Iterable[str]) -> None:
        self._forms = {form for form in map(normalised, values) if len(form) >= _SHORTEST}
        some = "|".join(re.escape(form) for form in sorted(self._forms, key=len, reverse=True))
        self._inside = re.compile(rf"(?<![^\W_])(?:{some})(?![^\W_])") if some else None

    def in_text(self, text: str) -> bool:
        return self._inside is not None and self._inside.search(normalised(text)) is not None

    def rows(self, table: pa.Table) -> list[bool]:
        """Whether a row of a table holds a value, in any text column: cell by cell, and within free text."""
        found = [False] * table.num_rows
        for name in table.column_names:
            column = table[name]
            if not pa.types.is_string(column.type):
                continue
            hits = {
                text
                for text in pc.unique(column).to_pylist()
                if text is not None and (normalised(text) in self._forms or (name == "text" and self.in_text(text)))
            }
            if hits:
                found = [one or cell in hits for one, cell in zip(found, column.to_pylist(), strict=True)]
        return found

    def in_object(self, data: bytes) -> bool:
        """Whether an object as it was sealed holds one: a container of tables, or a file as it came."""
        if data[:4] == _MAGIC:
            return any(any(self.rows(table)) for table in tables_io.open_tables(data).values())
        with suppress(Exception):  # what cannot be read as an 835 is read as text, and so is what its reader leaves out
            read = era.read([data])
            if any(any(self.rows(read.table(name))) for name in era.TABLES):
                return True
        return any(self.in_text(data.decode(encoding, "replace")) for encoding in ("utf-8", "utf-16-le", "utf-16-be"))


def shred(ctx: Context, policy: Retention, practice: str, values: Values, now: datetime) -> Landed:
    """Purge or rewrite every sealed object of a practice that holds one of the values; may be run again at any time."""
    done = Landed()
    for zone in ("landing", "quarantine"):
        for entry in ctx.objects.entries(f"{zone}/{practice}/"):
            data = _open(ctx, practice, entry.key)
            if data is None or not values.in_object(data):
                continue
            _, _, name, *rest = entry.key.removesuffix(".sealed").split("/")
            if name == "files":
                _file(ctx, policy, practice, entry.key, rest[0], now, done)
            elif zone == "quarantine":
                _records(ctx, policy, Partition.of({"practice": practice, "object": name, "day": rest[0]}), entry.key,
                         data, values, now, done)  # fmt: skip
            else:
                partition = Partition.of({"practice": practice, "object": name, "day": rest[0]})
                _version(ctx, policy, partition, rest[1], now, done)
    return done


def _open(ctx: Context, practice: str, key: str) -> bytes | None:
    """None where the object is gone, or its key: then nobody reads it."""
    zone, context = retention.context_of(key)
    try:
        return ctx.envelopes.open_object(practice, zone, context, ctx.objects.get(key))
    except Purged:
        return None
    except StoreUnavailable as error:
        if error.code == "OBJECT_MISSING":
            return None
        raise


def _file(ctx: Context, policy: Retention, practice: str, key: str, sha256: str, now: datetime, done: Landed) -> None:
    with db.transaction(ctx.db, practice) as connection:
        row = connection.execute(
            sa.select(inbox_files).where(inbox_files.c.practice == practice, inbox_files.c.sha256 == sha256)
        ).one_or_none()
    if row is None or row.purged_at is not None:
        _go(ctx, policy, Due("shred", practice, "files", (key,)), now, done)
    elif row.status == "quarantined":
        refused = _refused(ctx, practice, quarantine.c.record_key == sha256, quarantine.c.level == "file")
        due = Due("shred", practice, "files", (key,), files=(sha256,), refused=tuple(refused))
        _go(ctx, policy, due, now, done)
    elif row.status == "held" or row.day is None:
        done.needed += 1
    else:
        partition = Partition(practice, row.object, row.day)
        with db.transaction(ctx.db, practice) as connection:
            version = connection.execute(
                sa.select(partitions.c.landed_version).where(*partition.where(partitions))
            ).scalar()
        if version is None:
            done.needed += 1
        else:
            _version(ctx, policy, partition, version, now, done)


def _version(ctx: Context, policy: Retention, partition: Partition, version: str, now: datetime, done: Landed) -> None:
    with db.transaction(ctx.db, partition.practice) as connection:
        row = connection.execute(sa.select(partitions).where(*partition.where(partitions))).one_or_none()
    resource = f"{partition.object}/{partition.day}"
    if policy.held(partition.practice, partition.object, partition.day):
        done.needed += 1
    elif row is None or row.landed_version != version or row.landed_purged_at is not None:
        _go(ctx, policy, Due("shred", partition.practice, resource, (partition.landed_key(version),)), now, done)
    else:
        state, files = retention.landed_state(ctx, policy, partition, row)
        if not (state.published and state.whole):
            done.needed += 1
            return
        due = retention.landed_due("shred", partition, version, files)
        notes = _refused(ctx, partition.practice, quarantine.c.level == "note", *partition.where(quarantine))
        _go(ctx, policy, Due(**{**vars(due), "refused": tuple(notes)}), now, done)


def _records(
    ctx: Context,
    policy: Retention,
    partition: Partition,
    key: str,
    data: bytes,
    values: Values,
    now: datetime,
    done: Landed,
) -> None:
    """Seal the refused records of a day anew without this patient's, and let the old object go."""
    if policy.held(partition.practice, partition.object, partition.day):
        done.needed += 1
        return
    tables = tables_io.open_tables(data)
    mine = {
        claim
        for table in tables.values()
        if "claim_key" in table.column_names
        for claim, hit in zip(table["claim_key"].to_pylist(), values.rows(table), strict=True)
        if hit
    }
    rest = {name: _without(table, mine, values) for name, table in tables.items()}
    payload = tables_io.seal_tables(rest)
    digest = hashlib.sha256(payload).hexdigest()
    fresh = partition.key("quarantine", digest) + ".sealed"
    context = f"{partition.object}:{partition.day}:{digest}"
    uri = ctx.objects.put(fresh, ctx.envelopes.seal_object(partition.practice, "quarantine", context, payload))
    with db.transaction(ctx.db, partition.practice) as connection:
        rows = connection.execute(
            sa.select(quarantine.c.id, quarantine.c.record_key, quarantine.c.uri)
            .where(*partition.where(quarantine), quarantine.c.purged_at.is_(None))
            .with_for_update()
        ).all()
        of_object = [row for row in rows if retention.key_of(row.uri) == key]
        for row in of_object:
            gone: dict[str, Any] = {"purged_at": now} if row.record_key in mine else {"uri": uri}
            connection.execute(sa.update(quarantine).where(quarantine.c.id == row.id).values(**gone))
        envelope.destroy(connection, partition.practice, *_of_zone(key))
    _go(ctx, policy, Due("shred", partition.practice, f"{partition.object}/{partition.day}", (key,)), now, Landed())
    done.rewritten += 1


def _of_zone(key: str) -> tuple[str, list[str]]:
    zone, context = retention.context_of(key)
    return zone, [context]


def _without(table: pa.Table, claims: set[str], values: Values) -> pa.Table:
    hits = values.rows(table)
    if "claim_key" in table.column_names:
        hits = [hit or key in claims for hit, key in zip(hits, table["claim_key"].to_pylist(), strict=True)]
    return table.filter(pa.array([not hit for hit in hits], pa.bool_()))


def _refused(ctx: Context, practice: str, *where: sa.ColumnElement[bool]) -> Iterator[str]:
    with db.transaction(ctx.db, practice) as connection:
        query = sa.select(quarantine.c.id).where(
            quarantine.c.practice == practice, quarantine.c.purged_at.is_(None), *where
        )
        return iter(connection.scalars(query).all())


def _go(ctx: Context, policy: Retention, due: Due, now: datetime, done: Landed) -> None:
    erased, _ = purge.unit(ctx, policy, due, now)
    done.objects += erased
