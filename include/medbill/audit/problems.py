"""What can be wrong with a row of the ledger, and the plain way to find it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from medbill.audit.hashing import first_hash, row_hash
from medbill.audit.tables import CHAINS, number

#: Columns that repeat a field of the payload under the same name.
REPEATED = (
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


@dataclass(frozen=True)
class Problem:
    """code: what kind of problem, see docs/ledger.md. number: of the row, where there is one."""

    code: str
    number: int | None
    message: str


class Checker:
    """Walks the rows in order of chain and seq, remembering the last of each chain."""

    def __init__(self, last: dict[int, tuple[int, bytes]] | None = None) -> None:
        """last: seq and hash of the last row of each chain, where a walk does not start at the beginning."""
        self.last = {} if last is None else last

    def row(self, row: Any) -> Iterator[Problem]:
        chain, seq = row["chain"], row["seq"]
        at = number(chain, seq)
        before, link = self.last.get(chain, (0, first_hash(chain)))
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
        self.last[chain] = (seq, stored)

    def end(self, stored: dict[int, tuple[int, bytes]]) -> Iterator[Problem]:
        for chain in range(CHAINS):
            if stored.get(chain) != self.last.get(chain, (0, first_hash(chain))):
                yield Problem(
                    "HEAD_MISMATCH",
                    None,
                    f"chain {chain}: its end and its head disagree; rows at its end are missing or forged",
                )


def _differing(row: Any, payload: bytes) -> list[str]:
    try:
        content = json.loads(payload)
        wrong = [name for name in REPEATED if row[name] != content.get(name)]
        if row["occurred_at"] != datetime.fromisoformat(content["occurred_at"]):
            wrong.append("occurred_at")
    except (ValueError, KeyError, TypeError, AttributeError):
        return ["all columns"]
    return wrong
