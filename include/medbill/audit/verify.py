"""Reading the ledger back and recomputing all of it, apart from the code that writes it.

What it can see: any change, deletion, insertion, swap or reordering of rows short of rewriting a chain to its end. What
it cannot: somebody with all rights over the database who rewrites a chain from some row on, head included. That takes a
copy of the heads outside the database.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from medbill.audit.tables import CHAINS, heads, number, rows
from medbill.store.db import transaction

#: Columns that repeat a field of the payload under the same name.
_REPEATED = (
    "event_id",
    "idempotency_key",
    "actor",
    "on_behalf_of",
    "practice",
    "purpose",
    "action",
    "kind",
    "resource",
    "outcome",
    "intent",
    "dag_id",
    "run_id",
    "task_id",
    "map_index",
    "try_number",
    "subject_token",
    "source_hash",
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_GUARDS = {("rows", "append_only"), ("heads", "append_only"), ("heads", "one_step")}


@dataclass(frozen=True)
class Problem:
    """code: ALTERED_ROW, ALTERED_COLUMN, BROKEN_LINK, GAP, WRONG_CHAIN, HEAD_MISMATCH, INTENT_WITHOUT_OUTCOME,
    OUTCOME_WITHOUT_INTENT or GUARD_DISABLED. number: of the row, where there is one."""

    code: str
    number: int | None
    message: str


@dataclass(frozen=True)
class Report:
    """rows read, chains checked, what is wrong. open_intents: touches that run now (too young to be a problem)."""

    rows: int
    chains: int
    problems: list[Problem] = field(default_factory=list)
    open_intents: int = 0

    @property
    def ok(self) -> bool:
        return not self.problems


def verify(db: sa.Engine, open_after: timedelta = timedelta(hours=6)) -> Report:
    """Recompute every hash, link, chain and head, and look for intents older than open_after without an outcome.

    Reads one snapshot, in constant memory; writers are not held up. Raises StoreUnavailable where it cannot read.
    """
    count = 0
    problems: list[Problem] = []
    with transaction(db.execution_options(isolation_level="REPEATABLE READ", stream_results=True)) as connection:
        last = {row.chain: (row.seq, bytes(row.row_hash)) for row in connection.execute(sa.select(heads))}
        stream = connection.execute(
            sa.select(rows).order_by(rows.c.chain, rows.c.seq).execution_options(yield_per=5000)
        )
        checker = _Checker()
        for row in stream.mappings():
            count += 1
            problems += checker.row(row)
        problems += checker.end(last)
        problems += _guards(connection)
        unmatched, open_intents = _intents(connection, open_after)
    return Report(rows=count, chains=CHAINS, problems=[*problems, *unmatched], open_intents=open_intents)


class _Checker:
    """Walks the rows in order of chain and seq, remembering the last of each chain."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[int, bytes]] = {}

    def row(self, row: Any) -> Iterator[Problem]:
        chain, seq = row["chain"], row["seq"]
        at = number(chain, seq)
        before, link = self._last.get(chain, (0, first_hash(chain)))
        payload, prev_hash, stored = bytes(row["payload"]), bytes(row["prev_hash"]), bytes(row["row_hash"])
        if seq != before + 1:
            yield Problem("GAP", at, f"chain {chain}: {seq - before - 1} row(s) before this one are missing")
        elif prev_hash != link:
            yield Problem("BROKEN_LINK", at, f"chain {chain}: this row does not follow the one before it")
        if row_hash(chain, seq, row["recorded_at"], payload, prev_hash) != stored:
            yield Problem("ALTERED_ROW", at, f"chain {chain}: the row's content and its hash disagree")
        if hashlib.sha256(row["idempotency_key"].encode()).digest()[0] % CHAINS != chain:
            yield Problem("WRONG_CHAIN", at, f"chain {chain}: the row belongs to another chain")
        wrong = _differing(row, payload)
        if wrong:
            yield Problem("ALTERED_COLUMN", at, f"chain {chain}: {', '.join(wrong)} disagree with the payload")
        self._last[chain] = (seq, stored)

    def end(self, stored: dict[int, tuple[int, bytes]]) -> Iterator[Problem]:
        for chain in range(CHAINS):
            if stored.get(chain) != self._last.get(chain, (0, first_hash(chain))):
                yield Problem(
                    "HEAD_MISMATCH",
                    None,
                    f"chain {chain}: its end and its head disagree; rows at its end are missing or forged",
                )


def _differing(row: Any, payload: bytes) -> list[str]:
    try:
        content = json.loads(payload)
        wrong = [name for name in _REPEATED if row[name] != content.get(name)]
        if row["occurred_at"] != datetime.fromisoformat(content["occurred_at"]):
            wrong.append("occurred_at")
    except (ValueError, KeyError, TypeError, AttributeError):
        return ["all columns"]
    return wrong


def _part(content: bytes) -> bytes:
    return struct.pack(">q", len(content)) + content


def _hash(parts: Iterable[bytes]) -> bytes:
    return hashlib.sha256(b"".join(map(_part, parts))).digest()


def first_hash(chain: int) -> bytes:
    """What the first row of a chain links to."""
    return _hash([b"medbill.audit.chain.v1", struct.pack(">q", chain)])


def row_hash(chain: int, seq: int, recorded_at: datetime, payload: bytes, prev_hash: bytes) -> bytes:
    """SHA-256 over the length-prefixed domain, chain, seq, recorded_at (microseconds since 1970), payload, prev_hash."""
    microseconds = (recorded_at - _EPOCH) // timedelta(microseconds=1)
    return _hash(
        [b"medbill.audit.row.v1", *(struct.pack(">q", n) for n in (chain, seq, microseconds)), payload, prev_hash]
    )


def _intents(connection: sa.Connection, open_after: timedelta) -> tuple[list[Problem], int]:
    other = rows.alias()
    open_rows = connection.execute(
        sa.select(rows.c.chain, rows.c.seq, (rows.c.recorded_at < sa.func.now() - open_after).label("late"))
        .where(rows.c.outcome == "intent", ~sa.exists().where(other.c.intent == rows.c.event_id))
        .order_by(rows.c.recorded_at)
    ).all()
    strays = connection.execute(
        sa.select(rows.c.chain, rows.c.seq).where(
            rows.c.intent.is_not(None),
            ~sa.exists().where(other.c.event_id == rows.c.intent, other.c.outcome == "intent"),
        )
    ).all()
    problems = [
        Problem(
            "INTENT_WITHOUT_OUTCOME",
            number(r.chain, r.seq),
            "protected data was reached for and nobody wrote how it ended; look into it, then `medbill audit abandon`",
        )
        for r in open_rows
        if r.late
    ]
    problems += [
        Problem("OUTCOME_WITHOUT_INTENT", number(r.chain, r.seq), "an outcome whose intent is not in the ledger")
        for r in strays
    ]
    return problems, sum(not r.late for r in open_rows)


def _guards(connection: sa.Connection) -> Iterator[Problem]:
    found = {
        (r.relname, r.tgname)
        for r in connection.execute(
            sa.text(
                "SELECT c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
                " WHERE c.relnamespace = 'audit'::regnamespace AND t.tgenabled = 'A'"
            )
        )
    }
    for table, trigger in sorted(_GUARDS - found):
        yield Problem(
            "GUARD_DISABLED", None, f"trigger {trigger} on audit.{table} is off or gone; rows could be changed"
        )
