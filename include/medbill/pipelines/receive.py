"""receive_remittances: inbox files become sealed landing partitions, each record gated once.

A file leaves the inbox only after it is sealed in the store and written down in inbox_files, with the payments it
reports. The same bytes again are a no-op; the same name with other bytes waits for a person; what is no 835 goes to
quarantine with its reason; what somebody still writes is left for the next scan.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from medbill.audit.ledger import Event
from medbill.errors import BadInput, DecisionRefused, Purged, StoreUnavailable
from medbill.lineage import facts
from medbill.lineage.datasets import dataset
from medbill.pipelines import keys, payments
from medbill.pipelines.context import Context, Partition, batches, column_sum
from medbill.quality import gates
from medbill.quality.gates import GateResult, Refusal
from medbill.store import db, tables_io
from medbill.store.objects import Look, ObjectStore
from medbill.store.tables import inbox_files, partitions, quarantine
from medbill.x12 import era

#: Part of every landed version: raise it when the reader or the gate changes what it makes of the same bytes.
LANDING_VERSION = "1"
_EARLIEST = date(2000, 1, 1)


@dataclass(frozen=True)
class Received:
    """Counts of one scan of an inbox, and the partitions it touched.

    refused: files that stay in the inbox because of a name the store does not take, or more than 2 GiB. unfinished: files
    that stay because somebody still writes them.
    """

    files: int
    landed: int
    duplicates: int
    quarantined: int
    held: int
    refused: int
    unfinished: int
    partitions: list[Partition]


def scan(ctx: Context, practice: str) -> Received:
    """Take every file of the practice's inbox into the store. Raises StoreUnavailable; what was taken stays taken."""
    inbox = ObjectStore(ctx.settings.inbox)
    payments.enter_missing(ctx, practice)
    outcomes: list[str] = []
    touched: set[Partition] = set()
    names = [name for name in inbox.list(f"{practice}/") if not name.rsplit("/", 1)[-1].startswith(".")]
    unsettled = _unsettled(ctx, inbox, names)
    for name in names:
        if name in unsettled:
            outcomes.append("unfinished")
            continue
        try:
            status, day = _take(ctx, practice, inbox, name)
        except BadInput:  # the ledger has its code; the others are taken all the same
            status, day = "refused", None
        outcomes.append(status)
        if status == "landed" and day is not None:
            touched.add(Partition(practice, "remittances", day))
    return Received(
        files=len(names) - outcomes.count("gone"),
        landed=outcomes.count("landed"),
        duplicates=outcomes.count("duplicate"),
        quarantined=outcomes.count("quarantined"),
        held=outcomes.count("held"),
        refused=outcomes.count("refused"),
        unfinished=outcomes.count("unfinished"),
        partitions=sorted(touched, key=lambda p: p.day),
    )


def _unsettled(ctx: Context, inbox: ObjectStore, names: list[str]) -> set[str]:
    """Files that change between two looks. Only a file written just now needs the second look, one wait serves them all."""
    first = {name: look for name in names if (look := _look(inbox, name)) and _younger(look, ctx.settings.inbox_settle)}
    if first:
        time.sleep(ctx.settings.inbox_settle)
    return {name for name, look in first.items() if _look(inbox, name) != look}


def _look(inbox: ObjectStore, name: str) -> Look | None:
    try:
        return inbox.look(name)
    except BadInput:  # such a name is refused when it is taken, with a row in the ledger
        return None


def _younger(look: Look, seconds: float) -> bool:
    """Whether a file was written so few seconds ago. A date in the future, a wrong clock's, makes none young for good."""
    return look.written is not None and abs(time.time() - look.written) < seconds


def _take(ctx: Context, practice: str, inbox: ObjectStore, name: str) -> tuple[str, date | None]:
    event = Event(action="read", kind="inbox.read", purpose="payment", practice=practice, resource="inbox")
    with ctx.ledger.touch(event) as touch:
        try:
            look = inbox.look(name)
            data = inbox.get(name)
        except StoreUnavailable as error:
            if error.code != "OBJECT_MISSING":
                raise
            touch.note(result="gone")  # another scan was faster
            return "gone", None
        sha256 = hashlib.sha256(data).hexdigest()
        touch.note(file=sha256, bytes=len(data))
        with db.transaction(ctx.db, practice) as connection:
            seen = connection.execute(
                sa.select(inbox_files.c.status).where(
                    inbox_files.c.practice == practice, inbox_files.c.sha256 == sha256
                )
            ).scalar()
        if seen is not None:
            touch.note(result="duplicate", left=_clear(inbox, name, look))
            return "duplicate", None
        refusal, tables = _refuse_file(data)
        if look is not None and _younger(look, ctx.settings.inbox_patience) and _lacks_its_end(data, tables):
            touch.note(result="unfinished")
            return "unfinished", None
        base = pa.array([name.rsplit("/", 1)[-1].strip() or "blank"])  # a blank text has no token
        name_index = ctx.vault(practice).tokenize("FILE", base)[0].as_py()
        with db.transaction(ctx.db, practice) as connection:
            version = (
                1
                + connection.execute(
                    sa.select(sa.func.count()).where(
                        inbox_files.c.practice == practice, inbox_files.c.name_index == name_index
                    )
                ).scalar_one()
            )
        status, code, reason = "landed", None, None
        if refusal is not None:
            status, (code, reason) = "quarantined", refusal
        elif version > 1:
            status, code = "held", "NAME_REUSED"
            reason = "a file of this name came before with other content; release or reject it (medbill inbox)"
        zone = "quarantine" if status == "quarantined" else "landing"
        uri = ctx.objects.put(
            f"{zone}/{practice}/files/{sha256}.sealed",
            ctx.envelopes.seal_object(practice, zone, f"file:{sha256}", data),
        )
        day = _day(data)
        paid = payments.identify(ctx, practice, sha256, tables) if tables is not None and status == "landed" else []
        with db.transaction(ctx.db, practice) as connection:
            first = connection.execute(
                insert(inbox_files)
                .values(
                    practice=practice,
                    sha256=sha256,
                    name_index=name_index,
                    object="remittances",
                    day=day,
                    bytes=len(data),
                    status=status,
                    reason_code=code,
                    reason=reason,
                    uri=uri,
                    version=version,
                )
                .on_conflict_do_nothing()
                .returning(inbox_files.c.sha256)
            ).first()
            if first is None:  # another scan took the same bytes meanwhile
                status, code = "duplicate", None
            if status == "landed":
                payments.enter(connection, paid)
            if status == "quarantined":
                _quarantine_rows(
                    connection,
                    [
                        _row(
                            practice,
                            day,
                            "file",
                            sha256,
                            str(code),
                            str(reason),
                            uri,
                            claims=0,
                            charge=Decimal(0),
                            paid=Decimal(0),
                        )
                    ],
                )
        touch.note(result=status, reason_code=code, left=_clear(inbox, name, look))
        return status, day


def _clear(inbox: ObjectStore, name: str, look: Look | None) -> bool:
    """Delete what was read; whether it is left, because meanwhile something else stands under the name."""
    if inbox.look(name) != look:
        return True
    inbox.delete(name)
    return False


def _refuse_file(data: bytes) -> tuple[tuple[str, str] | None, dict[str, pa.Table] | None]:
    """Reason code and reason where the file cannot be read as an 835 at all; the reader's tables where it could read it."""
    if not data.strip():
        return ("EMPTY_FILE", "the file is empty; ask the sender to send it again"), None
    try:
        read = era.read([data])
    except BadInput as error:
        return (error.code, "the file is no X12 interchange; check what the sender put under this name"), None
    except Exception:
        # a defect of the reader; the next files must not wait for it, and its text may quote the file
        return ("READER_FAILED", "the reader failed on this file; keep the sealed file and report the defect"), None
    tables = {name: read.table(name) for name in era.TABLES}
    if read.remittances.num_rows == 0:
        return ("NO_REMITTANCE", "the interchange holds no 835 transaction; route it to where it belongs"), tables
    return None, tables


def _lacks_its_end(data: bytes, tables: dict[str, pa.Table] | None) -> bool:
    """Whether a file may be the beginning of an 835: nothing yet, a header cut off, or an interchange without its IEA."""
    if tables is not None:
        return "TRUNCATED" in tables["problems"]["code"].to_pylist()
    start = data.strip(b"\0 \t\r\n\xef\xbb\xbf\xff\xfe")[:5].replace(b"\0", b"")
    return b"ISA".startswith(start[:3])


def _day(data: bytes) -> date:
    today = datetime.now(UTC).date()
    try:
        found = era.interchange_date(data)
    except Exception:  # as in _refuse_file
        found = None
    return found if found is not None and _EARLIEST <= found <= today else today


def release(ctx: Context, practice: str, sha256: str, *, actor: str, accept: bool) -> Partition | None:
    """A person's word on a held file: accept lands it as a further file of its day, otherwise it is quarantined.

    Its payments count from now on, behind those of every file that landed before.
    """
    paid = payments.of_sealed(ctx, practice, sha256) if accept and _is_held(ctx, practice, sha256) else []
    with db.transaction(ctx.db, practice) as connection:
        row = (
            connection.execute(
                sa.select(inbox_files)
                .where(
                    inbox_files.c.practice == practice, inbox_files.c.sha256 == sha256, inbox_files.c.status == "held"
                )
                .with_for_update()
            )
            .mappings()
            .first()
        )
        if row is None:
            raise DecisionRefused("no held file with this hash; see `medbill inbox list --status held`")
        connection.execute(
            sa.update(inbox_files)
            .where(inbox_files.c.practice == practice, inbox_files.c.sha256 == sha256)
            .values(status="landed" if accept else "quarantined", reason_code=None if accept else "REJECTED_BY_PERSON")
        )
        if accept:
            payments.enter(connection, paid)
        else:
            _quarantine_rows(
                connection,
                [
                    _row(
                        practice,
                        row["day"],
                        "file",
                        sha256,
                        "REJECTED_BY_PERSON",
                        "a person rejected this file",
                        row["uri"],
                        claims=0,
                        charge=Decimal(0),
                        paid=Decimal(0),
                    )
                ],
            )
    ctx.ledger.record(
        Event(
            action="update",
            kind="inbox.decision",
            purpose="payment",
            practice=practice,
            resource=f"file:{sha256}",
            details={"accepted": accept, "decided_by": actor},
        )
    )
    return Partition(practice, "remittances", row["day"]) if accept else None


def _is_held(ctx: Context, practice: str, sha256: str) -> bool:
    with db.transaction(ctx.db, practice) as connection:
        status = connection.execute(
            sa.select(inbox_files.c.status).where(inbox_files.c.practice == practice, inbox_files.c.sha256 == sha256)
        ).scalar()
    return status == "held"


def pending(ctx: Context, practice: str) -> list[Partition]:
    """Partitions with landed files that their landed version does not hold yet (a run that died in between leaves them).

    A day whose files were purged stays as it is. Files that came for such a day since are of today.
    """
    _redate(ctx, practice)
    with db.transaction(ctx.db, practice) as connection:
        days = connection.execute(
            sa.select(inbox_files.c.day, sa.func.array_agg(inbox_files.c.sha256))
            .where(inbox_files.c.practice == practice, inbox_files.c.status == "landed")
            .group_by(inbox_files.c.day)
            .having(sa.func.count(inbox_files.c.purged_at) == 0)
        ).all()
        landed = dict(
            connection.execute(
                sa.select(partitions.c.day, partitions.c.landed_version).where(
                    partitions.c.practice == practice, partitions.c.object == "remittances"
                )
            ).all()
        )
    return [
        Partition(practice, "remittances", day) for day, files in sorted(days) if landed.get(day) != version_of(files)
    ]


def _redate(ctx: Context, practice: str) -> None:
    """Files that landed for a day whose other files were purged belong to today: that day can not be read whole any more."""
    purged = sa.select(inbox_files.c.day).where(
        inbox_files.c.practice == practice, inbox_files.c.status == "landed", inbox_files.c.purged_at.is_not(None)
    )
    with db.transaction(ctx.db, practice) as connection:
        connection.execute(
            sa.update(inbox_files)
            .where(
                inbox_files.c.practice == practice,
                inbox_files.c.status == "landed",
                inbox_files.c.purged_at.is_(None),
                inbox_files.c.day.in_(purged),
            )
            .values(day=datetime.now(UTC).date())
        )


def version_of(files: Iterable[str]) -> str:
    """The landed version that holds exactly these files, by hash."""
    return hashlib.sha256("\n".join([LANDING_VERSION, *sorted(files)]).encode()).hexdigest()


def land(ctx: Context, wanted: list[Partition]) -> list[Partition]:
    """Read the files of each partition, gate them, seal what passed as the landed version, quarantine what did not.

    Returns the partitions whose landed version changed. records in = landed + quarantined, to the claim and the cent.
    Raises Purged, after the rest is landed, where files of a partition to be read are gone by the retention policy.
    """
    due, purged = [], 0
    for partition in wanted:
        with db.transaction(ctx.db, partition.practice) as connection:
            files = connection.execute(
                sa.select(inbox_files.c.sha256, inbox_files.c.bytes, inbox_files.c.purged_at)
                .where(
                    inbox_files.c.practice == partition.practice,
                    inbox_files.c.object == partition.object,
                    inbox_files.c.day == partition.day,
                    inbox_files.c.status == "landed",
                )
                .order_by(inbox_files.c.sha256)
            ).all()
            have = connection.execute(
                sa.select(partitions.c.landed_version).where(*partition.where(partitions))
            ).scalar()
        version = version_of([f.sha256 for f in files])
        if have == version or not files:
            continue
        if any(f.purged_at is not None for f in files):
            purged += 1
            continue
        due.append(_Due(partition, [f.sha256 for f in files], version, sum(f.bytes for f in files)))
    for batch in batches(due, lambda d: d.bytes):
        read = [_read(ctx, d) for d in batch]
        for d, tables, result in zip(
            batch, read, gates.check_landing(read, ctx.settings.great_expectations), strict=True
        ):
            facts.checked_read(dataset("inbox", "remittances"), result.assertions())
            _write(ctx, d, tables, result)
    if purged:
        raise Purged(
            f"files of {purged} day(s) were purged under the retention policy and cannot be read again; what is landed and "
            "published of them stays as it is"
        )
    return [d.partition for d in due]


@dataclass(frozen=True)
class _Due:
    """A partition whose files (by hash, sorted) are not landed in this version yet."""

    partition: Partition
    files: list[str]
    version: str
    bytes: int


def _read(ctx: Context, due: _Due) -> dict[str, pa.Table]:
    practice = due.partition.practice
    event = Event(
        action="read",
        kind="landing.read",
        purpose="payment",
        practice=practice,
        resource=f"remittances/{due.partition.day}",
        source_hash=due.version,
        details={"files": len(due.files)},
    )
    with ctx.ledger.touch(event) as touch:
        read = era.read([ctx.landed_file(practice, sha256) for sha256 in due.files])
        touch.note(claims=read.claims.num_rows)
    facts.read(dataset("inbox", "remittances"), read.claims.num_rows, due.bytes)
    return keys.with_keys({name: read.table(name) for name in era.TABLES}, due.files)


def _write(ctx: Context, due: _Due, tables: dict[str, pa.Table], result: GateResult) -> None:
    partition, practice, version = due.partition, due.partition.practice, due.version
    bad_remittances = {r.remittance_index for r in result.refused if r.level == "transaction"}
    bad_claims = {r.claim_index for r in result.refused if r.level == "claim" and r.claim_index is not None}
    passed, refused = keys.split(tables, bad_remittances, bad_claims)
    payload = tables_io.seal_tables(passed)
    uri = ctx.land(partition, version, payload)
    facts.wrote(dataset("landing", partition.object), sum(t.num_rows for t in passed.values()), len(payload))
    rows = _refusal_rows(ctx, partition, tables, refused, result.refused)
    counts: dict[str, Any] = {
        "files": len(due.files),
        "transactions_in": tables["remittances"].num_rows,
        "claims_in": tables["claims"].num_rows,
        "claims_landed": passed["claims"].num_rows,
        "claims_quarantined": refused["claims"].num_rows,
        "problems": tables["problems"].num_rows,
    }
    for column in ("charge", "paid"):
        for name, part in (("in", tables), ("landed", passed), ("quarantined", refused)):
            counts[f"{column}_{name}"] = str(column_sum(part["claims"], column))
    landed: dict[str, Any] = {
        "landed_version": version,
        "landed_uri": uri,
        "landed_at": sa.func.clock_timestamp(),
        "landed_purged_at": None,
    }
    with db.transaction(ctx.db, practice) as connection:
        # a partition that is landed again is gated again: what it refuses now replaces what it refused before
        connection.execute(
            sa.delete(quarantine).where(
                quarantine.c.practice == practice,
                quarantine.c.object == partition.object,
                quarantine.c.day == partition.day,
                quarantine.c.level != "file",
                quarantine.c.status == "open",
            )
        )
        _quarantine_rows(connection, rows)
        connection.execute(
            insert(partitions)
            .values(practice=practice, object=partition.object, day=partition.day, counts=counts, **landed)
            .on_conflict_do_update(
                index_elements=["practice", "object", "day"],
                set_={**landed, "counts": partitions.c.counts.op("||")(sa.cast(counts, partitions.c.counts.type))},
            )
        )
    ctx.ledger.record(
        Event(
            action="create",
            kind="landing.write",
            purpose="payment",
            practice=practice,
            resource=f"remittances/{partition.day}",
            source_hash=version,
            details={k: v for k, v in counts.items() if k.startswith("claims")},
        )
    )


def _refusal_rows(
    ctx: Context,
    partition: Partition,
    tables: dict[str, pa.Table],
    refused: dict[str, pa.Table],
    refusals: list[Refusal],
) -> list[dict[str, Any]]:
    """Quarantine rows, one per refused transaction or claim (its first reason); its records are sealed at one object."""
    if not refusals:
        return []
    practice = partition.practice
    payload = tables_io.seal_tables(refused)
    digest = hashlib.sha256(payload).hexdigest()
    uri = ctx.objects.put(
        partition.key("quarantine", digest) + ".sealed",
        ctx.envelopes.seal_object(practice, "quarantine", f"remittances:{partition.day}:{digest}", payload),
    )
    remittance_keys = tables["remittances"]["remittance_key"].to_pylist()
    claims = tables["claims"].select(["remittance_index", "claim_key", "charge", "paid"]).to_pylist()
    done: set[int] = set()
    rows: dict[str, dict[str, Any]] = {}
    for r in sorted(refusals, key=lambda r: (r.level != "transaction", r.remittance_index, r.claim_index or -1)):
        if r.level == "transaction":
            done.add(r.remittance_index)
            key, inside = (
                remittance_keys[r.remittance_index],
                [c for c in claims if c["remittance_index"] == r.remittance_index],
            )
        elif r.remittance_index in done or r.claim_index is None:
            continue
        else:
            key, inside = claims[r.claim_index]["claim_key"], [claims[r.claim_index]]
        row = _row(
            practice,
            partition.day,
            r.level,
            key,
            r.reason_code,
            r.reason,
            uri,
            claims=len(inside),
            charge=sum((c["charge"] or Decimal(0) for c in inside), Decimal(0)),
            paid=sum((c["paid"] or Decimal(0) for c in inside), Decimal(0)),
        )
        rows.setdefault(key, row)
    return list(rows.values())


def _row(
    practice: str, day: date | None, level: str, key: str, code: str, reason: str, uri: str, **sums: Any
) -> dict[str, Any]:
    return {
        "id": f"{practice}:{key}:{code}",
        "practice": practice,
        "object": "remittances",
        "day": day,
        "level": level,
        "record_key": key,
        "reason_code": code,
        "reason": reason,
        "uri": uri,
        **sums,
    }


def _quarantine_rows(connection: sa.Connection, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(insert(quarantine).on_conflict_do_nothing(), rows)
