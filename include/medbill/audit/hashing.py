"""What is hashed, as docs/ledger.md writes it down: every part behind its length, so that none flows into the next."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _hash(parts: Iterable[bytes]) -> bytes:
    return hashlib.sha256(b"".join(struct.pack(">q", len(part)) + part for part in parts)).digest()


def first_hash(chain: int) -> bytes:
    """What the first row of a chain links to."""
    return _hash([b"medbill.audit.chain.v1", struct.pack(">q", chain)])


def row_hash(chain: int, seq: int, recorded_at: datetime, payload: bytes, prev_hash: bytes) -> bytes:
    """SHA-256 over the length-prefixed domain, chain, seq, recorded_at (microseconds since 1970), payload, prev_hash."""
    microseconds = (recorded_at - EPOCH) // timedelta(microseconds=1)
    return _hash(
        [b"medbill.audit.row.v1", *(struct.pack(">q", n) for n in (chain, seq, microseconds)), payload, prev_hash]
    )
