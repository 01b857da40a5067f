"""Envelope encryption: bytes sealed under data keys, data keys wrapped under master keys (AES-256-GCM).

A data key belongs to one practice and one purpose. An object of the landing or quarantine zone has a secret of its own
besides, in table object_secrets: without it the object is unreadable for good, also in a copy kept elsewhere. What a
ciphertext is for (practice, purpose, context, key version) is authenticated with it, so bytes moved to another place do
not open. Random 96-bit nonces: a data key may seal at most
2^32 messages (NIST SP 800-38D section 8.3); rotate() long before.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy.dialects.postgresql import insert

from medbill.errors import BadInput, KeyUnavailable, Purged, TamperedData
from medbill.store import db as store_db
from medbill.store.keys import OTHER_KEY, DataKey, KeyService
from medbill.store.tables import data_keys, object_secrets

_MAGIC = b"MBE1"
_OWN_MAGIC = b"MBE2"  # under a secret of its own as well
_HEADER = struct.Struct(">4sI12s")
#: Advisory lock under which data keys are made; any constant will do.
_TAKE_LOCK = sa.select(sa.func.pg_advisory_xact_lock(0x6D65646B657973))
_MOST = 2**31 - 1  # bytes in one message, OpenSSL's limit


@dataclass(frozen=True)
class KeyVersion:
    """A data key as it is stored, without the key: master_key is the id of the master key that wraps it."""

    practice: str
    purpose: str
    version: int
    master_key: str
    created_at: datetime


@dataclass(frozen=True)
class Rewrapped:
    """keys: how many are under the current master key now. left: how many were damaged and stay as they are."""

    keys: int
    left: int


class Envelopes:
    """Seals and opens bytes for a practice. Unwrapped data keys are kept in this object only, never on disk."""

    def __init__(self, db: sa.Engine, keys: KeyService) -> None:
        self._db = db
        self._keys = keys
        self._plain: dict[tuple[str, str, int], bytes] = {}
        self._current: dict[tuple[str, str], int] = {}

    def seal(self, practice: str, purpose: str, context: str, data: bytes) -> bytes:
        """Encrypt data; open() needs the same practice, purpose and context.

        Raises KeyUnavailable, StoreUnavailable; BadInput where data exceeds 2 GiB.
        """
        if len(data) > _MOST - 16:
            raise BadInput("more than 2 GiB in one object; split the partition", code="TOO_LARGE")
        version, key = self.data_key(practice, purpose)
        nonce = secrets.token_bytes(12)
        sealed = AESGCM(key).encrypt(nonce, data, _aad(practice, purpose, context, version))
        return _HEADER.pack(_MAGIC, version, nonce) + sealed

    def open(self, practice: str, purpose: str, context: str, sealed: bytes) -> bytes:
        """Decrypt what seal() gave.

        Raises TamperedData where the bytes are not exactly those sealed for this practice, purpose and context;
        KeyUnavailable where the key is gone.
        """
        if len(sealed) < _HEADER.size + 16 or sealed[:4] != _MAGIC:
            raise TamperedData("sealed bytes are malformed or truncated; restore the object")
        _, version, nonce = _HEADER.unpack_from(sealed)
        key = self.data_key(practice, purpose, version)[1]
        try:
            return AESGCM(key).decrypt(nonce, sealed[_HEADER.size :], _aad(practice, purpose, context, version))
        except InvalidTag:
            raise TamperedData("sealed bytes failed authentication; they were altered or belong elsewhere") from None

    def seal_object(self, practice: str, zone: str, context: str, data: bytes) -> bytes:
        """As seal(), under the zone's data key and a secret of this object's own, which destroy() takes away.

        The secret is stored when this returns, so that no object exists without one. Sealing again uses the same secret.
        """
        if len(data) > _MOST - 16:
            raise BadInput("more than 2 GiB in one object; split the partition", code="TOO_LARGE")
        version, key = self.data_key(practice, zone)
        bound = {"practice": practice, "zone": zone, "context": context}
        with store_db.transaction(self._db, practice) as connection:
            connection.execute(
                insert(object_secrets).values(**bound, secret=secrets.token_bytes(32)).on_conflict_do_nothing()
            )
            secret = connection.execute(_SECRET, bound).scalar_one()
        nonce = secrets.token_bytes(12)
        sealed = AESGCM(_own_key(key, bytes(secret))).encrypt(nonce, data, _aad(practice, zone, context, version))
        return _HEADER.pack(_OWN_MAGIC, version, nonce) + sealed

    def open_object(self, practice: str, zone: str, context: str, sealed: bytes) -> bytes:
        """What seal_object() was given, or seal(). Raises as open(); Purged where the object's secret was destroyed."""
        if sealed[:4] != _OWN_MAGIC or len(sealed) < _HEADER.size + 16:
            return self.open(practice, zone, context, sealed)
        _, version, nonce = _HEADER.unpack_from(sealed)
        key = self.data_key(practice, zone, version)[1]
        with store_db.transaction(self._db, practice) as connection:
            secret = connection.execute(
                _SECRET, {"practice": practice, "zone": zone, "context": context}
            ).scalar_one_or_none()
        if secret is None:
            raise Purged("the key of this object was shredded; the object cannot be opened any more")
        try:
            return AESGCM(_own_key(key, bytes(secret))).decrypt(
                nonce, sealed[_HEADER.size :], _aad(practice, zone, context, version)
            )
        except InvalidTag:
            raise TamperedData("sealed bytes failed authentication; they were altered or belong elsewhere") from None

    def data_key(self, practice: str, purpose: str, version: int | None = None) -> tuple[int, bytes]:
        """(version, key) of a practice and purpose; the newest version, made where there is none, unless one is given."""
        wanted = self._current.get((practice, purpose)) if version is None else version
        if wanted is not None and (practice, purpose, wanted) in self._plain:
            return wanted, self._plain[practice, purpose, wanted]
        with store_db.transaction(self._db, practice) as connection:
            row = self._stored(connection, practice, purpose, version)
        if row is None and version is None:
            with store_db.transaction(self._db, store_db.EVERY_PRACTICE) as connection:
                self._add(connection, practice, purpose, 1)
                row = self._stored(connection, practice, purpose, None)
        if row is None:
            raise KeyUnavailable("the data key of these bytes does not exist (any more); they cannot be opened")
        found, wrapped = row
        key = self._keys.unwrap(wrapped, _context(practice, purpose, found))
        self._plain[practice, purpose, found] = key
        if version is None:
            self._current[practice, purpose] = found
        return found, key

    def rotate(self, practice: str, purpose: str) -> int:
        """Seal under a new data key from now on; returns its version. Older versions still open what they sealed.

        Processes that run already keep sealing under the key they hold until they end. The vault's own purposes ("vault",
        "index") are rotated by Vault.rotate(), which moves the values along.
        """
        current, _ = self.data_key(practice, purpose)
        with store_db.transaction(self._db, store_db.EVERY_PRACTICE) as connection:
            self._add(connection, practice, purpose, current + 1)
        self._current.pop((practice, purpose), None)
        return self.data_key(practice, purpose)[0]

    def rewrap(self, former: KeyService | None = None) -> Rewrapped:
        """Wrap every data key under the current master key (after it was rotated or another was named).

        former: the service that wrapped those which the present one cannot unwrap, where they move between two.
        Where none is left, no row names an older master key afterwards, so that one may be retired. A damaged row stays
        as it is and is counted. Raises KeyUnavailable, and changes nothing, where the key service cannot be used.
        """
        done = left = 0
        with store_db.transaction(self._db, store_db.EVERY_PRACTICE) as connection:
            connection.execute(_TAKE_LOCK)  # no key is made under the older master key meanwhile
            for row in connection.execute(sa.select(data_keys).with_for_update()).all():
                try:
                    fresh = self._anew(bytes(row.wrapped), _context(row.practice, row.purpose, row.version), former)
                except TamperedData:
                    left += 1
                    continue
                connection.execute(
                    sa.update(data_keys)
                    .where(
                        data_keys.c.practice == row.practice,
                        data_keys.c.purpose == row.purpose,
                        data_keys.c.version == row.version,
                    )
                    .values(wrapped=fresh.wrapped, master_key=fresh.master_key)
                )
                done += 1
        return Rewrapped(done, left)

    def _anew(self, wrapped: bytes, context: dict[str, str], former: KeyService | None) -> DataKey:
        try:
            return self._keys.rewrap(wrapped, context)
        except KeyUnavailable as error:
            if former is None or error.code != OTHER_KEY:
                raise
        return self._keys.wrap(former.unwrap(wrapped, context), context)

    def versions(self) -> list[KeyVersion]:
        """All data keys by practice, purpose and version; nothing is unwrapped."""
        columns = [data_keys.c[name] for name in ("practice", "purpose", "version", "master_key", "created_at")]
        with store_db.transaction(self._db, store_db.EVERY_PRACTICE) as connection:
            return [KeyVersion(*row) for row in connection.execute(sa.select(*columns).order_by(*columns[:3]))]

    def _add(self, connection: sa.Connection, practice: str, purpose: str, version: int) -> None:
        """Raises KeyUnavailable where keys are stored already and the key service cannot unwrap the newest: it is missing
        or another one's, and data sealed under a second master key beside the first could not be opened together."""
        connection.execute(_TAKE_LOCK)  # of several first starts one is first
        newest = connection.execute(sa.select(data_keys).order_by(data_keys.c.created_at.desc()).limit(1)).first()
        if newest is not None:
            self._keys.unwrap(bytes(newest.wrapped), _context(newest.practice, newest.purpose, newest.version))
        made = self._keys.data_key(_context(practice, purpose, version), first=newest is None)
        connection.execute(
            insert(data_keys)
            .values(
                practice=practice,
                purpose=purpose,
                version=version,
                wrapped=made.wrapped,
                master_key=made.master_key,
            )
            .on_conflict_do_nothing()  # another process was first: its key counts
        )

    @staticmethod
    def _stored(
        connection: sa.Connection, practice: str, purpose: str, version: int | None
    ) -> tuple[int, bytes] | None:
        query = sa.select(data_keys.c.version, data_keys.c.wrapped).where(
            data_keys.c.practice == practice, data_keys.c.purpose == purpose
        )
        if version is not None:
            query = query.where(data_keys.c.version == version)
        row = connection.execute(query.order_by(data_keys.c.version.desc()).limit(1)).one_or_none()
        return None if row is None else (row.version, bytes(row.wrapped))


def destroy(connection: sa.Connection, practice: str, zone: str, contexts: Iterable[str]) -> int:
    """Destroy the own secrets of objects in the caller's transaction; returns how many there were."""
    done = connection.execute(
        sa.delete(object_secrets).where(
            object_secrets.c.practice == practice,
            object_secrets.c.zone == zone,
            object_secrets.c.context.in_(list(contexts)),
        )
    )
    return done.rowcount


_SECRET = sa.select(object_secrets.c.secret).where(
    *(object_secrets.c[name] == sa.bindparam(name) for name in ("practice", "zone", "context"))
)


def _own_key(data_key: bytes, secret: bytes) -> bytes:
    """The key of one object: neither the data key nor the secret alone gives it (HKDF, RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=32, salt=secret, info=b"medbill.object.v1").derive(data_key)


def _context(practice: str, purpose: str, version: int) -> dict[str, str]:
    return {"practice": practice, "purpose": purpose, "version": str(version)}


def _aad(practice: str, purpose: str, context: str, version: int) -> bytes:
    parts = [b"medbill.envelope.v1", practice.encode(), purpose.encode(), context.encode(), str(version).encode()]
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)  # lengths: no two contexts read alike
