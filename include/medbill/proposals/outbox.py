"""Write-backs: what was approved goes to the platform, at least once sent and once effective.

A row is claimed with a lease and a fence that rises at each claim. Whoever finds a row that somebody may have sent before
(a lease that ran out, an unknown outcome) reads the platform back first, by the idempotency key every record carries.
Decision and hash are checked again right before, and only the tokens the text shows are re-identified, inside a
ledger touch. A writer whose fence is old is refused before it sends and when it wants to store its receipt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Protocol

import sqlalchemy as sa

from medbill.audit.ledger import Event
from medbill.audit.people import require_person
from medbill.errors import DecisionRefused, MedbillError, PlatformError, PlatformUnknownOutcome, TokenRefused
from medbill.platforms.base import Receipt, WriteBack, Writer
from medbill.proposals import lifecycle, render
from medbill.proposals.content import canonical, content_hash
from medbill.store import db as store
from medbill.store.tables import outbox, proposal_events, proposals


class Revealer(Protocol):
    """The re-identifying half of the vault."""

    def reveal(self, tokens: Sequence[str]) -> dict[str, str]: ...


class Touch(Protocol):
    def note(self, **details: Any) -> None: ...


class Touches(Protocol):
    """The ledger's two-phase row: intent before, outcome after."""

    def touch(self, event: Event) -> AbstractContextManager[Touch]: ...


@dataclass(frozen=True)
class DispatchResult:
    """Write-backs, not proposals. unknown: sent or not, nobody can tell yet; the next dispatch reads back.

    waiting: the platform surely did not take them; they are tried again. fenced: another worker took them over.
    """

    applied: int = 0
    failed: int = 0
    unknown: int = 0
    waiting: int = 0
    fenced: int = 0


class _Fenced(MedbillError):
    """Another worker claimed the row meanwhile."""

    code = "FENCED"


class _ReadBackFailed(MedbillError):
    """The platform did not say whether it has the record."""

    code = "READ_BACK_FAILED"


class _LeftAlone(MedbillError):
    """The platform is left alone just now (medbill.platforms.circuit): the rest of the rows wait as well."""

    code = "PLATFORM_CIRCUIT_OPEN"


class _Unusable(DecisionRefused):
    """Approved content of which no write-back can be made."""

    code = "CONTENT_UNUSABLE"


@dataclass
class _Claim:
    """One claimed row with the proposal it belongs to. maybe_sent: somebody, or we by now, may have sent it."""

    key: str
    proposal_id: str
    action: str
    fence: int
    attempts: int
    maybe_sent: bool
    content_hash: str
    created_on: date
    proposal: Mapping[str, Any]


def dispatch(
    db: sa.Engine,
    practice: str,
    writer: Writer,
    vault: Revealer,
    ledger: Touches,
    *,
    lease: timedelta = timedelta(minutes=5),
    quiet: timedelta = timedelta(minutes=1),
    max_attempts: int = 5,
) -> DispatchResult:
    """Send what is owed for a practice to writer's platform, each row at most once a call, notes after their task.

    lease: how long a row is ours. quiet: how long an unknown outcome rests before it is read back, so that a request the
    platform is still working on is not sent twice. max_attempts: sends per row before it is failed.
    Raises StoreUnavailable, LedgerUnavailable or KeyUnavailable where we cannot go on; what was not sent stays owed.
    """
    seen: set[str] = set()
    result = DispatchResult()
    while (claim := _claim(db, practice, writer.name, lease, seen)) is not None:
        seen.add(claim.key)
        try:
            outcome = _dispatch_one(db, claim, writer, vault, ledger, lease, quiet, max_attempts)
        except _LeftAlone:
            return replace(result, waiting=result.waiting + 1)
        result = replace(result, **{outcome: getattr(result, outcome) + 1})
    return result


def stuck(db: sa.Engine, practice: str, older: timedelta) -> int:
    """Write-backs approved longer ago than this whose sender let the lease run out, or whose end nobody knows."""
    with store.transaction(db, practice) as connection:
        found: int = connection.execute(
            sa.select(sa.func.count()).select_from(outbox).where(*_stuck(practice, older))
        ).scalar_one()
    return found


def give_up(db: sa.Engine, practice: str, older: timedelta) -> int:
    """Leave to a person what is stuck() for so long: its proposal fails with OUTCOME_UNKNOWN. Returns how many write-backs.

    A sender that comes back after all is refused by its fence; retry() reads the platform back before it sends again.
    """
    with store.transaction(db, practice) as connection:
        rows = connection.execute(
            sa.select(outbox.c.idempotency_key, outbox.c.proposal_id, outbox.c.content_hash)
            .where(*_stuck(practice, older))
            .order_by(outbox.c.idempotency_key)
            .with_for_update(skip_locked=True)
        ).all()
        for row in rows:
            connection.execute(
                sa.update(outbox)
                .where(outbox.c.idempotency_key == row.idempotency_key)
                .values(
                    status="failed",
                    fence=outbox.c.fence + 1,
                    error_code="OUTCOME_UNKNOWN",
                    updated_at=sa.func.clock_timestamp(),
                )
            )
            _conclude(connection, row.proposal_id, row.content_hash, "failed", note="OUTCOME_UNKNOWN")
    return len(rows)


def _stuck(practice: str, older: timedelta) -> list[sa.ColumnElement[bool]]:
    now = sa.func.clock_timestamp()
    return [
        outbox.c.practice == practice,
        outbox.c.status.in_(["sending", "unknown"]),
        outbox.c.lease_until < now,
        outbox.c.created_at < now - older,
    ]


def _dispatch_one(
    db: sa.Engine,
    claim: _Claim,
    writer: Writer,
    vault: Revealer,
    ledger: Touches,
    lease: timedelta,
    quiet: timedelta,
    max_attempts: int,
) -> str:
    """One row to its next state; returns which of the fields of DispatchResult it counts for."""
    try:
        _recheck(db, claim)
        receipt = _send(db, claim, writer, vault, ledger, lease, max_attempts)
    except _Fenced:
        return "fenced"
    except PlatformUnknownOutcome as error:
        return _settle(db, claim, "unknown", error_code=error.code, rest=quiet)
    except _ReadBackFailed as error:
        return _settle(db, claim, "unknown", error_code=error.code, rest=quiet)
    except PlatformError as error:
        if error.code == _LeftAlone.code:  # nothing was sent: no attempt of this row
            _settle(db, claim, "pending", error_code=error.code, attempts=claim.attempts - 1)
            raise _LeftAlone("the platform is left alone just now") from None
        return _settle(db, claim, "failed" if claim.attempts >= max_attempts else "pending", error_code=error.code)
    except (DecisionRefused, TokenRefused) as error:
        return _settle(db, claim, "failed", error_code=error.code)
    except Exception:
        # we, not the platform, cannot go on; either nothing was sent, or a read-back will tell
        _settle(db, claim, "unknown" if claim.maybe_sent else "pending", attempts=claim.attempts - 1, rest=quiet)
        raise
    if receipt is None:  # read back, not there, and no attempt left
        return _settle(db, claim, "failed", error_code="ATTEMPTS_EXHAUSTED")
    return _settle(db, claim, "applied", receipt=receipt.as_dict())


def _send(
    db: sa.Engine,
    claim: _Claim,
    writer: Writer,
    vault: Revealer,
    ledger: Touches,
    lease: timedelta,
    max_attempts: int,
) -> Receipt | None:
    p = claim.proposal
    kind, claim_token, payload = p["kind"], p["claim_token"], p["payload"]
    wanted = sorted(render.tokens(kind, claim_token, payload))
    content = canonical(kind, claim_token, payload).decode()
    if any(token not in content for token in wanted):
        raise TokenRefused("a token was asked for that the approved content does not hold")
    event = Event(
        action="update",
        kind="proposal.apply",
        purpose="payment",
        practice=p["practice"],
        resource=f"proposal:{claim.proposal_id}",
        subject_token=claim_token,
        source_hash=claim.content_hash,
        details={
            "action": claim.action,
            "write_back": claim.key,
            "platform": writer.name,
            "tokens": len(wanted),
            "fence": claim.fence,
            "read_back": claim.maybe_sent,
        },
    )
    with ledger.touch(event) as touch:
        write_back = _write_back(claim, vault.reveal(wanted))
        if claim.maybe_sent:
            try:
                found = writer.find(write_back)
            except PlatformError as error:
                raise _ReadBackFailed("the platform did not answer the read-back") from error
            if found is not None:
                touch.note(result="found", **_ids(found))
                return found
            if claim.attempts > max_attempts:
                touch.note(result="not found, no attempt left")
                return None
        _hold(db, claim, lease)
        claim.maybe_sent = True  # from here on a failure of ours leaves the outcome open
        receipt = writer.write(write_back)
        touch.note(result="written", **_ids(receipt))
        return receipt


def _write_back(claim: _Claim, names: Mapping[str, str]) -> WriteBack:
    p = claim.proposal
    kind, token, payload = p["kind"], p["claim_token"], p["payload"]
    return WriteBack(
        idempotency_key=claim.key,
        action=claim.action,
        claim_id=names[token],
        title=render.title(kind, payload),
        text=render.text(kind, token, payload, names),
        priority=p["priority"],
        due_on=render.due_on(kind, payload),
        owed_since=claim.created_on - timedelta(days=1),
    )


def _ids(receipt: Receipt) -> dict[str, str]:
    return {"platform_id": receipt.as_dict().get("platform_id", "")}


def _claim(db: sa.Engine, practice: str, platform: str, lease: timedelta, seen: set[str]) -> _Claim | None:
    """Take the next row nobody works on, in order of approval; a note waits until its task is applied."""
    earlier = outbox.alias()
    now = sa.func.clock_timestamp()
    query = (
        sa.select(outbox)
        .where(
            outbox.c.practice == practice,
            outbox.c.platform == platform,
            sa.or_(
                outbox.c.status == "pending",
                sa.and_(outbox.c.status.in_(["sending", "unknown"]), outbox.c.lease_until < now),
            ),
            ~sa.exists().where(
                earlier.c.proposal_id == outbox.c.proposal_id,
                earlier.c.sequence < outbox.c.sequence,
                earlier.c.status != "applied",
            ),
        )
        .order_by(outbox.c.created_at, outbox.c.proposal_id, outbox.c.sequence)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    if seen:
        query = query.where(outbox.c.idempotency_key.not_in(seen))
    with store.transaction(db, practice) as connection:
        row = connection.execute(query).mappings().first()
        if row is None:
            return None
        claimed = connection.execute(
            sa.update(outbox)
            .where(outbox.c.idempotency_key == row["idempotency_key"])
            .values(
                status="sending",
                fence=outbox.c.fence + 1,
                attempts=outbox.c.attempts + 1,
                lease_until=now + lease,
                updated_at=now,
            )
            .returning(outbox.c.fence, outbox.c.attempts)
        ).one()
        proposal = connection.execute(sa.select(proposals).where(proposals.c.id == row["proposal_id"])).mappings().one()
    return _Claim(
        key=row["idempotency_key"],
        proposal_id=row["proposal_id"],
        action=row["action"],
        fence=claimed.fence,
        attempts=claimed.attempts,
        maybe_sent=row["status"] != "pending",
        content_hash=row["content_hash"],
        created_on=row["created_at"].date(),
        proposal=dict(proposal),
    )


def _recheck(db: sa.Engine, claim: _Claim) -> None:
    """The decision stands, a person took it, and it is about exactly what would be sent. Raises DecisionRefused."""
    p = claim.proposal
    actual = content_hash(p["kind"], p["claim_token"], p["payload"])
    try:
        render.title(p["kind"], p["payload"]), render.text(p["kind"], p["claim_token"], p["payload"])
        render.due_on(p["kind"], p["payload"])
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise _Unusable(f"no text can be made of the content ({type(error).__name__})") from None
    if p["status"] not in lifecycle.APPROVED:
        raise DecisionRefused("the proposal is not approved (any more)")
    if not claim.content_hash == p["content_hash"] == actual:
        raise DecisionRefused("the content is not what was approved")
    with store.transaction(db, p["practice"]) as connection:
        actors = (
            connection.execute(
                sa.select(proposal_events.c.actor).where(
                    proposal_events.c.proposal_id == claim.proposal_id,
                    proposal_events.c.event.in_(lifecycle.APPROVED),
                    proposal_events.c.content_hash == actual,
                )
            )
            .scalars()
            .all()
        )
    if not actors:
        raise DecisionRefused("there is no approval of this content")
    for actor in actors:
        require_person(actor)


def _hold(db: sa.Engine, claim: _Claim, lease: timedelta) -> None:
    """Renew the lease right before sending. Raises _Fenced where the row is somebody else's by now."""
    with store.transaction(db, claim.proposal["practice"]) as connection:
        held = connection.execute(
            sa.update(outbox)
            .where(outbox.c.idempotency_key == claim.key, outbox.c.fence == claim.fence, outbox.c.status == "sending")
            .values(lease_until=sa.func.clock_timestamp() + lease)
        )
    if held.rowcount != 1:
        raise _Fenced("the write-back was taken over by another worker")


def _settle(
    db: sa.Engine,
    claim: _Claim,
    status: str,
    *,
    receipt: dict[str, str] | None = None,
    error_code: str | None = None,
    attempts: int | None = None,
    rest: timedelta = timedelta(0),
) -> str:
    """Write down how it went, if the row is still ours, and what follows for the proposal."""
    values: dict[str, Any] = {
        "status": status,
        "lease_until": sa.func.clock_timestamp() + rest,
        "error_code": error_code,
        "updated_at": sa.func.clock_timestamp(),
    }
    if receipt is not None:
        values["receipt"] = receipt
    if attempts is not None:
        values["attempts"] = attempts
    with store.transaction(db, claim.proposal["practice"]) as connection:
        ours = connection.execute(
            sa.update(outbox)
            .where(outbox.c.idempotency_key == claim.key, outbox.c.fence == claim.fence, outbox.c.status == "sending")
            .values(**values)
        )
        if ours.rowcount != 1:
            return "fenced"
        if status == "failed":
            _conclude(connection, claim.proposal_id, claim.content_hash, "failed", note=error_code)
        elif status == "applied":
            open_ = connection.execute(
                sa.select(sa.func.count()).where(
                    outbox.c.proposal_id == claim.proposal_id, outbox.c.status != "applied"
                )
            ).scalar_one()
            if open_ == 0:
                _conclude(connection, claim.proposal_id, claim.content_hash, "applied", note=None)
    return "waiting" if status == "pending" else status


def _conclude(connection: sa.Connection, proposal_id: str, content_hash: str, status: str, note: str | None) -> None:
    done = connection.execute(
        sa.update(proposals)
        .where(proposals.c.id == proposal_id, proposals.c.status.in_(lifecycle.APPROVED))
        .values(status=status, updated_at=sa.func.clock_timestamp())
    )
    if done.rowcount == 1:
        connection.execute(
            sa.insert(proposal_events).values(
                proposal_id=proposal_id,
                event=status,
                actor=lifecycle.SERVICE,
                content_hash=content_hash,
                note=note,
            )
        )
