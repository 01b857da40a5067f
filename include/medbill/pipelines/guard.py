"""guard: the ledger sealed every few minutes and verified every night, write-backs nobody knows the end of, and purging."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from medbill.audit import checkpoint as cp
from medbill.audit.anchor import Anchor
from medbill.audit.checkpoint import Checkpoint
from medbill.audit.ledger import Event
from medbill.audit.seal import Places
from medbill.audit.seal import seal as make_checkpoint
from medbill.audit.signing import load_public
from medbill.audit.tables import CHAINS, rows, unended
from medbill.audit.verify import WINDOW
from medbill.audit.verify import verify as verify_all
from medbill.audit.worm import Worm
from medbill.errors import StoreUnavailable, TamperedData
from medbill.pipelines import alarms, purge
from medbill.pipelines.alarms import Alarm
from medbill.pipelines.context import Context
from medbill.platforms.base import Writer
from medbill.proposals import outbox
from medbill.store import db

#: What sealing itself may take beyond the five minutes rows may wait.
_GRACE = timedelta(seconds=30)
#: A transaction that has been open so long keeps the database from cleaning up behind it.
STALLED = timedelta(hours=1)
#: A write-back without a known end is read back after the first, and is a person's after the second.
READ_BACK, GIVE_UP = timedelta(minutes=30), timedelta(hours=24)
OPEN_AFTER = timedelta(hours=6)


def seal(ctx: Context) -> dict[str, Any]:
    """Seal all settled rows, read the checkpoint back and check it; without new rows it is the sign of life verify looks for.

    Raises TamperedData where ledger or checkpoints are not what was left, StoreUnavailable or KeyUnavailable where sealing
    is impossible, and Alarm, after sealing, where rows had waited too long or a transaction stalls.
    """
    with alarms.of("seal", ctx.settings.home, ctx.ledger):
        places = Places.of(ctx.settings)
        store, sealer = places.store(), db.engine(ctx.settings.seal_url)
        before = store.last()
        waited = _waited(sealer, None if before is None else cp.parse(before.content))
        ctx.ledger.record(
            Event(
                action="execute",
                kind="ledger.seal",
                purpose="operations",
                practice="-",
                resource="ledger",
                details={"waited": int(waited.total_seconds())},
            )
        )
        try:
            made = make_checkpoint(sealer, store, places.key)
        except StoreUnavailable as error:
            if error.code != "CHECKPOINT_TAKEN":
                raise
            return {"checkpoint": 0, "waited": int(waited.total_seconds())}  # another sealer did it
        _read_back(store, made)
        if before is not None and waited > WINDOW + _GRACE:
            raise Alarm(
                f"rows waited {waited.total_seconds():.0f} seconds for a checkpoint; they are sealed now: "
                "see that guard runs every four minutes and no task holds it up",
                code="SEALED_LATE",
            )
        _not_stalled(ctx, sealer)
    return {"checkpoint": made.number, "waited": int(waited.total_seconds())}


def _waited(sealer: sa.Engine, last: Checkpoint | None) -> timedelta:
    """How long the oldest row waits that no checkpoint covers."""
    first = sa.or_(
        *(
            sa.and_(rows.c.chain == chain, rows.c.seq == 1 + (0 if last is None else last.chains[chain].seq))
            for chain in range(CHAINS)
        )
    )
    with db.transaction(sealer) as connection:
        query = sa.select(sa.func.clock_timestamp() - sa.func.min(rows.c.recorded_at)).where(first)
        found: timedelta | None = connection.execute(query).scalar()
    return found or timedelta(0)


def _read_back(store: Worm, made: Checkpoint) -> None:
    """The checkpoint lies in its storage as it was signed, and cannot be taken away."""
    found = next((copy for copy in store.copies(cp.name(made.number - 1)) if copy.name == made.name), None)
    if found is None or found.content != made.content or found.rewritten:
        raise TamperedData(
            "the checkpoint just made is not what its storage gives back; run `medbill audit verify`",
            code="CHECKPOINT_FORKED",
        )
    if not found.locked:
        raise Alarm(
            "the checkpoint just made is not kept from deletion; give the bucket Object Lock",
            code="CHECKPOINT_UNLOCKED",
        )


def _not_stalled(ctx: Context, sealer: sa.Engine) -> None:
    """The oldest transaction that writes moves on: its number is not what it was an hour ago, unless nobody wrote since."""
    with db.transaction(sealer) as connection:
        oldest, newest = connection.execute(
            sa.text("SELECT pg_snapshot_xmin(s)::text, pg_snapshot_xmax(s)::text FROM pg_current_snapshot() s")
        ).one()
    now, known = datetime.now(UTC), alarms.read(ctx.settings.home).get("oldest_transaction") or {}
    if known.get("number") != oldest or oldest == newest:
        alarms.remember(ctx.settings.home, oldest_transaction={"number": oldest, "since": now.isoformat()})
        return
    if now - datetime.fromisoformat(known["since"]) > STALLED:
        raise Alarm(
            "a transaction has been open for more than an hour; end it (pg_stat_activity, column backend_xid)",
            code="TRANSACTION_STALLED",
        )


def verify(ctx: Context) -> dict[str, Any]:
    """The whole ledger against all checkpoints, with read-only rights; counts.

    Raises TamperedData (LEDGER_ALTERED) for anything wrong but touches that nobody ended, which are counted: see ended().
    The message names codes and how often, `medbill audit verify` the rows.
    """
    with alarms.of("verify", ctx.settings.home, ctx.ledger):
        places = Places.of(ctx.settings)
        pinned = load_public(places.public_key) if places.public_key.exists() else None
        report = verify_all(db.engine(ctx.settings.audit_url), OPEN_AFTER, Anchor(places.store(), pinned))
        codes = Counter(problem.code for problem in report.problems)
        late = Counter(warning.code for warning in report.warnings)
        ctx.ledger.record(
            Event(
                action="execute",
                kind="ledger.verify",
                purpose="operations",
                practice="-",
                resource="ledger",
                details={
                    "rows": report.rows,
                    "checkpoints": report.checkpoints,
                    "problems": [f"{code} {n}" for code, n in sorted(codes.items())],
                    "warnings": [f"{code} {n}" for code, n in sorted(late.items())],
                },
            ),
            outcome="success" if report.ok else "failure",
        )
        unended = codes.pop("INTENT_WITHOUT_OUTCOME", 0)
        if codes:
            told = ", ".join(f"{code} ({n})" for code, n in sorted(codes.items()))
            raise TamperedData(
                f"the ledger or its checkpoints are altered: {told}; run `medbill audit verify`, call the compliance officer, "
                "and change nothing",
                code="LEDGER_ALTERED",
            )
    return {
        "checkpoints": report.checkpoints,
        "warnings": sum(late.values()),
        "unended": unended,
    }


def ended(ctx: Context, unended: int) -> dict[str, Any]:
    """Raises Alarm (INTENTS_OPEN) where verify() found touches of protected data without an outcome after six hours."""
    with alarms.of("intents", ctx.settings.home, ctx.ledger):
        if unended:
            raise Alarm(
                f"{unended} touch(es) of protected data have no outcome after {OPEN_AFTER.total_seconds() / 3600:.0f} hours: "
                "`medbill audit verify` names them, look into each, then `medbill audit abandon`",
                code="INTENTS_OPEN",
            )
    return {"unended": 0}


def reconcile(ctx: Context, practice: str, writer: Writer) -> dict[str, Any]:
    """Write-backs whose sender died or whose end nobody knows: the platform is read back; what stays unknown for a day is
    given to a person, as a failed proposal (`medbill proposals retry` reads back before it sends).

    Raises Alarm (WRITE_BACKS_UNKNOWN) where some were given up now.
    """
    with alarms.of(f"outbox {practice}", ctx.settings.home, ctx.ledger):
        from medbill.pipelines import apply

        stuck = outbox.stuck(ctx.db, practice, READ_BACK)
        if stuck:
            apply.apply(ctx, practice, writer)
        given_up = outbox.give_up(ctx.db, practice, GIVE_UP)
        left = outbox.stuck(ctx.db, practice, READ_BACK)
        if stuck or given_up:
            ctx.ledger.record(
                Event(
                    action="update",
                    kind="outbox.reconcile",
                    purpose="payment",
                    practice=practice,
                    resource="outbox",
                    details={"stuck": stuck, "left": left, "given_up": given_up},
                )
            )
        if given_up:
            raise Alarm(
                f"{given_up} write-back(s) have no known end after a day and wait for a person: look in the platform, then "
                "`medbill proposals list --status failed` and `medbill proposals retry`",
                code="WRITE_BACKS_UNKNOWN",
            )
    return {"practice": practice, "stuck": stuck, "left": left}


def clean(ctx: Context) -> dict[str, Any]:
    """Purge under the retention policy, then close the intents of purges that died: this run has taken them up."""
    with alarms.of("purge", ctx.settings.home, ctx.ledger):
        began = datetime.now(UTC)
        done = purge.run(ctx)
        closed = _close(ctx, began)
    return {"erased": done.erased.total(), "kept": done.kept.total(), "locked": done.locked, "closed": closed}


def _close(ctx: Context, before: datetime) -> int:
    query = sa.select(rows).where(
        rows.c.kind == purge.KIND,
        unended(),
        rows.c.recorded_at < before,
        rows.c.recorded_at > before - timedelta(days=30),
    )
    with db.transaction(db.engine(ctx.settings.audit_url)) as connection:
        dead = connection.execute(query).all()
    for row in dead:
        event = Event(row.action, row.kind, row.purpose, row.practice, row.resource, source_hash=row.source_hash)
        ctx.ledger.abandon(event, row.event_id)
    return len(dead)
