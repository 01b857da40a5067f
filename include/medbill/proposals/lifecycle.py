"""Proposals and decisions: proposed -> approved | edited | rejected | expired -> applied | failed.

failed -> approved | edited again by retry(), expired -> proposed again where the rules withdrew it and propose it anew.

A decision names the hash of the content it decides on; a stale hash is refused. Approval and the write-backs owed for it
are one transaction. Every function works in the caller's transaction and locks the rows it changes, so that of two
people who decide at once one wins and the other is told. Events are only ever added.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from medbill.audit.people import require_person
from medbill.errors import BadInput, DecisionRefused
from medbill.platforms import registry
from medbill.proposals import edits
from medbill.proposals.content import content_hash, idempotency_key, plain, proposal_id
from medbill.settings import Settings
from medbill.store.tables import holds, outbox, proposal_events, proposals

SERVICE = "medbill"
KINDS = ("posting", "denial_follow_up", "underpayment_dispute", "coder_review")
APPROVED = ("approved", "edited")
_CHUNK = 1000


@dataclass(frozen=True)
class Draft:
    """A proposal as the rules make it. business_key: stable over re-runs, with practice and kind it makes the id.

    payload: de-identified; amounts as decimals or strings. amount: dollars at stake. priority: DrChrono's 10 low .. 40 urgent.
    """

    practice: str
    kind: str
    day: date
    claim_token: str
    business_key: str
    title: str
    amount: Decimal
    priority: int
    payload: dict[str, Any]
    expires_on: date | None = None


@dataclass(frozen=True)
class Counts:
    """What propose() did. superseding: those of new that take the place of a decided proposal of other content."""

    new: int = 0
    unchanged: int = 0
    revised: int = 0
    superseding: int = 0


def propose(connection: sa.Connection, drafts: Sequence[Draft]) -> Counts:
    """Store drafts, many at once; the same drafts again change nothing.

    A withdrawn proposal is proposed again. Content that changed while still `proposed` is revised in place. After a decision the decided proposal stays, and a
    superseding one appears, unless that content was decided on before. Raises BadInput where two drafts of one key differ.
    """
    waiting: dict[str, _Candidate] = {}
    for draft in drafts:
        candidate = _Candidate(draft, content_hash(draft.kind, draft.claim_token, draft.payload))
        known = waiting.setdefault(candidate.id, candidate)
        if known.hash != candidate.hash:
            raise BadInput("two drafts of one business key differ in content", code="DRAFTS_DIFFER")
    new = unchanged = revised = superseding = 0
    while waiting:
        inserted = _insert(connection, list(waiting.values()))
        new += len(inserted)
        superseding += sum(waiting[i].revision > 1 for i in inserted)
        waiting = {i: c for i, c in waiting.items() if i not in inserted}
        found = _locked(connection, waiting)
        proposed_hashes = _last_proposed(connection, [i for i, row in found.items() if row["status"] != "proposed"])
        withdrawn = _withdrawn(connection, [i for i, row in found.items() if row["status"] == "expired"])
        nexts: dict[str, _Candidate] = {}
        changed: list[_Candidate] = []
        for i, candidate in waiting.items():
            row = found[i]
            if i in withdrawn:
                changed.append(candidate)
            elif candidate.hash in (row["content_hash"], proposed_hashes.get(i)):
                unchanged += 1
                _withdraw_later(connection, candidate)
            elif row["status"] == "proposed":
                changed.append(candidate)
            else:
                follower = candidate.next()
                nexts[follower.id] = follower
        _revise(connection, changed)
        revised += len(changed)
        waiting = nexts
    return Counts(new, unchanged, revised, superseding)


def withdraw(connection: sa.Connection, practice: str, day: date, kinds: Sequence[str], drafts: Sequence[Draft]) -> int:
    """Take back what the rules do not propose any more: undecided proposals of the day and kinds that no draft stands for.

    Returns how many. They expire with an event `withdrawn`; the same content proposed again revives them.
    """
    kept = {(d.kind, d.business_key) for d in drafts}
    rows = connection.execute(
        sa.select(proposals.c.id, proposals.c.content_hash, proposals.c.kind, _claim_key().label("claim_key"))
        .where(
            proposals.c.practice == practice,
            proposals.c.day == day,
            proposals.c.kind.in_(kinds),
            proposals.c.status == "proposed",
        )
        .order_by(proposals.c.id)
        .with_for_update()
    ).all()
    void = [(r.id, r.content_hash) for r in rows if (r.kind, r.claim_key) not in kept]
    _expire(connection, void, "the rules do not propose this any more", event="withdrawn")
    return len(void)


def retry(
    connection: sa.Connection, id: str, actor: str, note: str | None = None, content_hash: str | None = None
) -> None:
    """A person's word that a failed proposal is to be written back after all; the decision it had stands as it was.

    Only what failed is owed again, under the same idempotency keys and as something that may have been sent: the platform
    is read back before anything goes out. Raises DecisionRefused where the proposal is not failed, its content is not what
    was approved, or it is out of date: its claim is held by now, or a newer proposal took its place.
    """
    row = _spoken_of(connection, id, actor, note)
    if row["status"] != "failed":
        raise DecisionRefused(
            f"only a failed proposal can be retried, this one is {row['status']}; nothing was changed"
        )
    if content_hash is not None and content_hash != row["content_hash"]:
        raise DecisionRefused("the content is not the one you name (stale hash); show it again")
    decision = connection.execute(
        sa.select(proposal_events.c.event)
        .where(
            proposal_events.c.proposal_id == id,
            proposal_events.c.event.in_(APPROVED),
            proposal_events.c.content_hash == row["content_hash"],
        )
        .order_by(proposal_events.c.id.desc())
        .limit(1)
    ).scalar()
    if decision is None or _hash(row["kind"], row["claim_token"], row["payload"]) != row["content_hash"]:
        raise DecisionRefused("the content is not what was approved; ask for an audit of this proposal")
    _refuse_outdated(connection, dict(row))
    owed = connection.execute(
        sa.update(outbox)
        .where(outbox.c.proposal_id == id, outbox.c.status == "failed", outbox.c.content_hash == row["content_hash"])
        .values(
            status="unknown",  # whoever takes it up looks on the platform first
            attempts=0,
            lease_until=sa.func.clock_timestamp(),
            error_code=None,
            updated_at=sa.func.clock_timestamp(),
        )
    )
    if owed.rowcount == 0:
        raise DecisionRefused("nothing of this proposal is owed to the platform; ask for an audit of it")
    connection.execute(
        sa.update(proposals).where(proposals.c.id == id).values(status=decision, updated_at=sa.func.clock_timestamp())
    )
    _events(connection, "retried", [(id, row["content_hash"])], actor=actor.strip(), note=note)


def approve(
    connection: sa.Connection,
    id: str,
    content_hash: str,
    actor: str,
    note: str | None = None,
    *,
    platform: str | None = None,
) -> None:
    """A person's yes to exactly this content; what is owed to the platform is written down with it.

    platform: where to write back, by default the practice's own. Raises DecisionRefused where the hash is stale, the
    proposal is already decided or expired, or actor is no named person.
    """
    row = _decidable(connection, id, content_hash, actor, note)
    _decide(connection, row, "approved", actor, note)
    _owe(connection, row, content_hash, platform)


def edit(
    connection: sa.Connection,
    id: str,
    content_hash: str,
    payload: dict[str, Any],
    actor: str,
    note: str | None = None,
    *,
    platform: str | None = None,
) -> str:
    """A person's yes with changes: the edited payload is approved. Returns its hash.

    content_hash: of what the person saw. Raises DecisionRefused as approve, and where the edit changes what it may not
    or its amounts do not add up (medbill.proposals.edits).
    """
    row = _decidable(connection, id, content_hash, actor, note)
    after = plain(payload)
    edits.check(row["kind"], row["payload"], after)
    new_hash = _hash(row["kind"], row["claim_token"], after)
    if new_hash == content_hash:
        raise DecisionRefused("the edit changes nothing; approve the proposal instead")
    connection.execute(sa.update(proposals).where(proposals.c.id == id).values(payload=after, content_hash=new_hash))
    row = {**row, "payload": after, "content_hash": new_hash}
    _decide(connection, row, "edited", actor, note, payload=after)
    _owe(connection, row, new_hash, platform)
    return new_hash


def reject(connection: sa.Connection, id: str, actor: str, note: str, content_hash: str | None = None) -> None:
    """A person's no; note says why. Raises DecisionRefused without a note, or as approve."""
    if not note or not note.strip():
        raise DecisionRefused("a rejection needs a note that says why")
    row = _decidable(connection, id, content_hash, actor, note)
    _decide(connection, row, "rejected", actor, note)


def expire(connection: sa.Connection, practice: str | None = None, today: date | None = None) -> int:
    """Proposals nobody decided on in time; returns how many. The last day itself still counts."""
    where = [proposals.c.status == "proposed", proposals.c.expires_on < (today or _today())]
    if practice is not None:
        where.append(proposals.c.practice == practice)
    rows = connection.execute(
        sa.select(proposals.c.id, proposals.c.content_hash).where(*where).order_by(proposals.c.id).with_for_update()
    ).all()
    _expire(connection, rows, "not decided in time")
    return len(rows)


def list_(
    connection: sa.Connection,
    *,
    practice: str | None = None,
    status: str | None = None,
    kind: str | None = None,
    day: date | None = None,
) -> list[dict[str, Any]]:
    """Proposals without their payload, the most urgent and largest first."""
    wanted = {"practice": practice, "status": status, "kind": kind, "day": day}
    columns = [
        "id",
        "practice",
        "kind",
        "day",
        "status",
        "priority",
        "amount",
        "title",
        "claim_token",
        "content_hash",
        "expires_on",
    ]
    query = (
        sa.select(*[proposals.c[c] for c in columns])
        .where(*[proposals.c[k] == v for k, v in wanted.items() if v is not None])
        .order_by(proposals.c.priority.desc(), proposals.c.amount.desc(), proposals.c.id)
    )
    return [dict(row) for row in connection.execute(query).mappings()]


def show(connection: sa.Connection, id: str) -> dict[str, Any]:
    """One proposal with its payload, `events` and `write_backs`. Raises DecisionRefused where there is none."""
    row = connection.execute(sa.select(proposals).where(proposals.c.id == id)).mappings().first()
    if row is None:
        raise DecisionRefused("no such proposal; see `medbill proposals list`")
    events = connection.execute(
        sa.select(*[proposal_events.c[c] for c in ("event", "actor", "content_hash", "note", "created_at")])
        .where(proposal_events.c.proposal_id == id)
        .order_by(proposal_events.c.id)
    ).mappings()
    write_backs = connection.execute(
        sa.select(*[outbox.c[c] for c in ("action", "platform", "status", "attempts", "receipt", "error_code")])
        .where(outbox.c.proposal_id == id)
        .order_by(outbox.c.sequence)
    ).mappings()
    return {**row, "events": [dict(e) for e in events], "write_backs": [dict(w) for w in write_backs]}


@dataclass(frozen=True)
class _Candidate:
    draft: Draft
    hash: str
    revision: int = 1

    @property
    def id(self) -> str:
        return proposal_id(self.draft.practice, self.draft.kind, self.draft.business_key, self.revision)

    def next(self) -> _Candidate:
        return _Candidate(self.draft, self.hash, self.revision + 1)

    def values(self) -> dict[str, Any]:
        d = self.draft
        return {
            "id": self.id,
            "practice": d.practice,
            "kind": d.kind,
            "day": d.day,
            "claim_token": d.claim_token,
            "title": d.title,
            "amount": d.amount,
            "priority": d.priority,
            "payload": plain(d.payload),
            "content_hash": self.hash,
            "status": "proposed",
            "expires_on": d.expires_on,
        }


def _insert(connection: sa.Connection, candidates: list[_Candidate]) -> set[str]:
    """Those that were not there yet."""
    inserted: set[str] = set()
    for chunk in _chunks(sorted(candidates, key=lambda c: c.id)):
        done = connection.execute(
            insert(proposals).on_conflict_do_nothing().returning(proposals.c.id), [c.values() for c in chunk]
        )
        inserted |= set(done.scalars())
    new = [c for c in candidates if c.id in inserted]
    _events(connection, "proposed", [(c.id, c.hash) for c in new])
    return inserted


def _locked(connection: sa.Connection, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Rows by id, locked in id order so that two runs cannot wait for each other."""
    found: dict[str, dict[str, Any]] = {}
    for chunk in _chunks(sorted(ids)):
        rows = connection.execute(
            sa.select(proposals.c.id, proposals.c.status, proposals.c.content_hash)
            .where(proposals.c.id.in_(chunk))
            .order_by(proposals.c.id)
            .with_for_update()
        ).mappings()
        found |= {row["id"]: dict(row) for row in rows}
    return found


def _last_proposed(connection: sa.Connection, ids: Sequence[str]) -> dict[str, str]:
    """The content as it stood before its decision: an edit gives a proposal another hash than the rules gave it."""
    found: dict[str, str] = {}
    for chunk in _chunks(ids):
        rows = connection.execute(
            sa.select(proposal_events.c.proposal_id, proposal_events.c.content_hash)
            .where(proposal_events.c.proposal_id.in_(chunk), proposal_events.c.event.in_(["proposed", "revised"]))
            .order_by(proposal_events.c.id)
        )
        found |= {row.proposal_id: row.content_hash for row in rows}
    return found


def _revise(connection: sa.Connection, candidates: list[_Candidate]) -> None:
    for c in candidates:
        values = {k: v for k, v in c.values().items() if k not in ("id", "practice", "kind")}
        connection.execute(
            sa.update(proposals).where(proposals.c.id == c.id).values(**values, updated_at=sa.func.clock_timestamp())
        )
    _events(connection, "revised", [(c.id, c.hash) for c in candidates])


def _withdraw_later(connection: sa.Connection, candidate: _Candidate) -> None:
    """Where the content is that of a decided proposal again, a superseding one that nobody decided on is void."""
    follower = candidate.next()
    while True:
        row = _locked(connection, [follower.id]).get(follower.id)
        if row is None:
            return
        if row["status"] == "proposed":
            void = [(follower.id, row["content_hash"])]
            _expire(connection, void, "the decided content holds again", event="withdrawn")
        follower = follower.next()


def _expire(connection: sa.Connection, rows: Sequence[Any], note: str, event: str = "expired") -> None:
    for chunk in _chunks([i for i, _ in rows]):
        connection.execute(
            sa.update(proposals)
            .where(proposals.c.id.in_(chunk))
            .values(status="expired", updated_at=sa.func.clock_timestamp())
        )
    _events(connection, event, [(i, h) for i, h in rows], note=note)


def _withdrawn(connection: sa.Connection, ids: Sequence[str]) -> set[str]:
    """Those of expired proposals that the rules took back, not the calendar."""
    last: dict[str, str] = {}
    for chunk in _chunks(ids):
        rows = connection.execute(
            sa.select(proposal_events.c.proposal_id, proposal_events.c.event)
            .where(proposal_events.c.proposal_id.in_(chunk))
            .order_by(proposal_events.c.id)
        )
        last |= {row.proposal_id: row.event for row in rows}
    return {i for i, event in last.items() if event == "withdrawn"}


def _claim_key() -> sa.ColumnElement[str]:
    """The business key of a proposal of any kind, as its payload has it."""
    return sa.func.coalesce(proposals.c.payload["posting"]["claim_key"].astext, proposals.c.payload["claim_key"].astext)


def _refuse_outdated(connection: sa.Connection, row: dict[str, Any]) -> None:
    """Raises DecisionRefused where a failed proposal must not be applied any more."""
    key = (row["payload"].get("posting") or row["payload"]).get("claim_key")
    held = connection.execute(
        sa.select(holds.c.reason_code).where(
            holds.c.practice == row["practice"], holds.c.claim_key == key, holds.c.status == "open"
        )
    ).scalar()
    if held is not None:
        raise DecisionRefused(f"the claim is held by now ({held}); nothing was changed")
    others = (
        connection.execute(
            sa.select(proposals.c.id).where(
                proposals.c.practice == row["practice"],
                proposals.c.kind == row["kind"],
                proposals.c.day == row["day"],
                proposals.c.claim_token == row["claim_token"],
                proposals.c.status.in_(["proposed", *APPROVED, "applied"]),
                _claim_key() == key,
            )
        )
        .scalars()
        .all()
    )
    own = next((n for n in range(1, 100) if proposal_id(row["practice"], row["kind"], str(key), n) == row["id"]), 100)
    later = {proposal_id(row["practice"], row["kind"], str(key), n) for n in range(own + 1, own + 100)}
    if later & set(others):
        raise DecisionRefused("a newer proposal took the place of this one; decide on that")


def _spoken_of(connection: sa.Connection, id: str, actor: str, note: str | None) -> sa.RowMapping:
    """The proposal a person speaks of, locked. Raises DecisionRefused where there is none, or it is no person."""
    require_person(actor)
    edits.check_text(actor)
    if note is not None:
        edits.check_text(note)
    row = connection.execute(sa.select(proposals).where(proposals.c.id == id).with_for_update()).mappings().first()
    if row is None:
        raise DecisionRefused("no such proposal; see `medbill proposals list`")
    return row


def _decidable(
    connection: sa.Connection, id: str, content_hash: str | None, actor: str, note: str | None
) -> dict[str, Any]:
    """The proposal, locked, if this person may decide on this content of it now."""
    row = _spoken_of(connection, id, actor, note)
    if row["status"] != "proposed":
        raise DecisionRefused(f"the proposal is already {row['status']}; nothing was changed")
    if row["expires_on"] is not None and row["expires_on"] < _today():
        raise DecisionRefused("the proposal is past its last day; nothing was changed")
    if content_hash is not None and content_hash != row["content_hash"]:
        raise DecisionRefused("the content changed since it was shown (stale hash); show it again and decide on that")
    if _hash(row["kind"], row["claim_token"], row["payload"]) != row["content_hash"]:
        raise DecisionRefused("the stored content is not what its hash says; ask for an audit of this proposal")
    return dict(row)


def _decide(
    connection: sa.Connection,
    row: dict[str, Any],
    status: str,
    actor: str,
    note: str | None,
    payload: dict[str, Any] | None = None,
) -> None:
    connection.execute(
        sa.update(proposals)
        .where(proposals.c.id == row["id"])
        .values(status=status, updated_at=sa.func.clock_timestamp())
    )
    _events(connection, status, [(row["id"], row["content_hash"])], actor=actor.strip(), note=note, payload=payload)


def _owe(connection: sa.Connection, row: dict[str, Any], content: str, platform: str | None) -> None:
    platform = platform or Settings.from_env().practice(row["practice"]).platform
    if platform is None:
        raise DecisionRefused(
            "this practice has no billing platform to write back to (practices.yml); do it by hand and reject the proposal"
        )
    actions = registry.adapter(platform).actions_for(row["kind"])
    connection.execute(
        sa.insert(outbox),
        [
            {
                "idempotency_key": idempotency_key(row["id"], action, content),
                "proposal_id": row["id"],
                "practice": row["practice"],
                "platform": platform,
                "action": action,
                "sequence": sequence,
                "content_hash": content,
                "status": "pending",
            }
            for sequence, action in enumerate(actions, start=1)
        ],
    )


def _events(
    connection: sa.Connection,
    event: str,
    of: Sequence[tuple[str, str]],
    *,
    actor: str = SERVICE,
    note: str | None = None,
    payload: dict[str, Any] | None = None,
) -> None:
    for chunk in _chunks(of):
        connection.execute(
            sa.insert(proposal_events),
            [
                {
                    "proposal_id": i,
                    "event": event,
                    "actor": actor,
                    "content_hash": h,
                    "note": note,
                    "payload": sa.null() if payload is None else payload,
                }
                for i, h in chunk
            ],
        )


def _chunks(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (items[i : i + _CHUNK] for i in range(0, len(items), _CHUNK))


_hash = content_hash  # the functions above take the hash they are given under its own name


def _today() -> date:
    """Today in UTC; MEDBILL_TODAY overrides it where a run must be repeatable."""
    fixed = os.environ.get("MEDBILL_TODAY")
    return date.fromisoformat(fixed) if fixed else datetime.now(UTC).date()
