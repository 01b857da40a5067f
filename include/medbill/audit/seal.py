"""Sealing the ledger: a checkpoint of all rows that are committed, into write-once storage.

A row's seq is given under the lock of its chain's head, which is held to the end of the transaction. So whoever sees seq
n sees all before it, and nothing can be committed below it later: the snapshot of one read-only transaction holds settled
rows only, and a long transaction elsewhere does not hold up the sealing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from medbill.audit import checkpoint as cp
from medbill.audit.checkpoint import Checkpoint, Sealed
from medbill.audit.hashing import first_hash
from medbill.audit.scan import new_rows
from medbill.audit.signing import Signer, public_path, successor_path, take_over
from medbill.audit.tables import CHAINS, checkpoints, heads
from medbill.audit.worm import Worm, worm
from medbill.errors import KeyUnavailable, StoreUnavailable, TamperedData
from medbill.settings import Settings
from medbill.store.db import transaction

#: Advisory lock that lets one process at a time seal; any constant will do.
_LOCK = 0x6D627365616C


@dataclass(frozen=True)
class Places:
    """Where checkpoints go (folder or s3://), where the key that signs them is, and the pinned public key's file."""

    checkpoints: str
    key: Path
    public_key: Path

    @staticmethod
    def of(settings: Settings, env: Mapping[str, str] | None = None) -> Places:
        """MEDBILL_CHECKPOINTS, MEDBILL_AUDIT_KEY, MEDBILL_AUDIT_PUBLIC_KEY. By default checkpoints lie in the home's folder
        of that name, or beside the objects where those are in S3; the keys beside the keyring."""
        e = os.environ if env is None else env
        remote = f"{settings.objects.rstrip('/')}/checkpoints" if settings.objects.startswith("s3://") else None
        key = Path(e.get("MEDBILL_AUDIT_KEY") or Path(settings.keyring).with_name("audit_signing.pem"))
        return Places(
            checkpoints=e.get("MEDBILL_CHECKPOINTS") or remote or str(settings.home / "checkpoints"),
            key=key,
            public_key=Path(e.get("MEDBILL_AUDIT_PUBLIC_KEY") or public_path(key)),
        )

    def store(self) -> Worm:
        return worm(self.checkpoints)


def seal(db: sa.Engine, store: Worm, key: Path) -> Checkpoint:
    """Make the next checkpoint; one without new rows is a sign of life. The key's file is made for the first checkpoint.

    Raises TamperedData (code LEDGER_ALTERED, CHECKPOINT_MISSING or CHECKPOINT_FORKED) where ledger or checkpoints are not
    what the last checkpoint left: nothing is sealed then, and verify() says what is wrong. StoreUnavailable where storage
    or database cannot be used, with code CHECKPOINT_TAKEN where another sealer was faster; KeyUnavailable for the key.
    """
    return _seal(db, store, key, hand_over=False)


def rotate(db: sa.Engine, store: Worm, key: Path) -> Checkpoint:
    """Make a checkpoint, signed by the present key, that names a new one; from the next on the new one signs.

    The new key lies beside the present one until the checkpoint is stored, and then in its place. A process that dies
    between the two leaves that to the next sealing. Raises as seal().
    """
    made = _seal(db, store, key, hand_over=True)
    take_over(key)
    return made


def _seal(db: sa.Engine, store: Worm, key: Path, *, hand_over: bool) -> Checkpoint:
    with transaction(db) as connection:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        copied = connection.execute(sa.select(sa.func.max(checkpoints.c.number))).scalar() or 0
        previous = _last(store, copied)
        signer = _signer(previous, key)
        # a sealer that died between storage and database left its copy to us
        for copy in store.copies(cp.name(copied)) if previous is not None and previous.number > copied else ():
            _copy(connection, cp.parse(copy.content))
        successor = Signer.load(successor_path(key), first=True) if hand_over else None
        made = cp.make(previous, *_snapshot(db, previous), signer, successor)
        if not store.put_new(made.name, made.content):
            raise StoreUnavailable("another sealer was faster; nothing to do", code="CHECKPOINT_TAKEN")
        _copy(connection, made)
    return made


def _signer(previous: Checkpoint | None, key: Path) -> Signer:
    signer = Signer.load(key, first=previous is None)
    if previous is None or signer.public == previous.next_signer:
        return signer
    if previous.successor is not None and successor_path(key).exists():
        waiting = Signer.load(successor_path(key), first=False)
        if waiting.public == previous.successor:  # whoever rotated died before it was in place
            take_over(key)
            return waiting
    raise KeyUnavailable("the signing key is not the one the last checkpoint names", code="SIGNER_CHANGED")


def _last(store: Worm, copied: int) -> Checkpoint | None:
    copy = store.last()
    if copy is None:
        if copied:
            raise TamperedData("the checkpoints are gone from their storage", code="CHECKPOINT_MISSING")
        return None
    if copy.rewritten:
        raise TamperedData("the last checkpoint was written or deleted again", code="CHECKPOINT_FORKED")
    last = cp.parse(copy.content)
    if last.name != copy.name:
        raise TamperedData("the last checkpoint says it is another one", code="CHECKPOINT_FORGED")
    if last.number < copied:
        raise TamperedData("the newest checkpoints are gone from their storage", code="CHECKPOINT_MISSING")
    return last


def _snapshot(db: sa.Engine, previous: Checkpoint | None) -> tuple[datetime, list[Sealed]]:
    with transaction(db.execution_options(isolation_level="REPEATABLE READ")) as connection:
        now = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        ends = {row.chain: (row.seq, bytes(row.row_hash)) for row in connection.execute(sa.select(heads))}
        chains = []
        for chain in range(CHAINS):
            before = Sealed(0, first_hash(chain), b"") if previous is None else previous.chains[chain]
            found, sealed = new_rows(connection, chain, before)
            if found.problems or ends.get(chain) != found.last:
                raise TamperedData(
                    "the ledger is not what the last checkpoint left; run `medbill audit verify`", code="LEDGER_ALTERED"
                )
            chains.append(sealed)
    return now, chains


def _copy(connection: sa.Connection, made: Checkpoint) -> None:
    connection.execute(sa.insert(checkpoints).values(number=made.number, content=made.content))
