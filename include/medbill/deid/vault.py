"""The token vault: protected values behind random tokens, and the only way back.

A token is random, never derived from its value (45 CFR 164.514(c)(1)); the same value of the same kind always has the
same token within a practice, because the vault finds it again by a keyed blind index. Each value is stored encrypted under
the practice's data key and a secret of its own, which lies in a table apart: without that secret the value is gone, also
from a copy of the vault that was kept elsewhere.
"""

from __future__ import annotations

import os
import re
import struct
import threading
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import shake_256
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256, SHA512
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from medbill.errors import KeyUnavailable, MedbillError, StoreUnavailable, TamperedData, TokenRefused
from medbill.store import db as store_db
from medbill.store.envelope import Envelopes
from medbill.store.keys import KeyService
from medbill.store.tables import vault_secrets, vault_tokens

_T = TypeVar("_T")
#: Crockford's base32: no I, L, O, U, so that a token read aloud or retyped is not misread.
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
#: Random characters of a token: 80 bits. One check character follows.
BODY = 16
_KIND = re.compile(r"[A-Z][A-Z_]{1,30}")
_TOKEN = re.compile(rf"\[([A-Z][A-Z_]{{1,30}})_([{ALPHABET}]{{{BODY + 1}}})\]")
_LOOKS_LIKE = r"\[(\\*[A-Z][A-Z_]{1,30}_[0-9A-Z]{10,}\])"
_CHUNK = 20_000  # values per transaction: bounds locks and statement size
_CACHE = 500_000  # tokens kept in this process
_ROTATED = 2_000  # values per transaction of a rotation: writers wait for one such at most
_ROUNDS = 5  # attempts of a writer or reader who meets a rotation or shredding


def _powers() -> np.ndarray:
    """Powers of x in GF(32) = GF(2)[x]/(x^5 + x^2 + 1), as multiplication tables: row i multiplies by x^(i+1)."""
    table = np.zeros((BODY, 32), np.uint8)
    factor = 1
    for row in range(BODY):
        factor = factor << 1 ^ (0b100101 if factor & 16 else 0)
        for value in range(32):
            product, shifted = 0, value
            for bit in range(5):
                if factor >> bit & 1:
                    product ^= shifted
                shifted = shifted << 1 ^ (0b100101 if shifted & 16 else 0)
            table[row, value] = product
    return table


_TIMES = _powers()


#: The same by character, for one token at a time.
_WEIGHED = [{letter: int(row[value]) for value, letter in enumerate(ALPHABET)} for row in _TIMES]


def check_character(body: str) -> str:
    """The check character of a token body: sum of x^(i+1) times the i-th character, in GF(32).

    All weights differ (x has order 31), the check character's own is 1: any one changed character and any two exchanged
    ones, adjacent or not, are noticed. Longer damage slips through with 1 chance in 32, and is then unknown to the vault.
    """
    value = 0
    for weighed, character in zip(_WEIGHED, body, strict=True):
        value ^= weighed[character]
    return ALPHABET[value]


def is_token(text: str) -> bool:
    """Whether text is, as a whole, a token with the right check character (of whatever vault)."""
    match = _TOKEN.fullmatch(text)
    return match is not None and check_character(match[2][:-1]) == match[2][-1]


def token_kind(token: str) -> str:
    """The kind of a token, e.g. CLAIM. Raises TokenRefused (TOKEN_MANGLED) where the text is no token."""
    if not is_token(token):
        raise TokenRefused("a token is mangled; it was altered or cut", code="TOKEN_MANGLED")
    return token[1:-1].rpartition("_")[0]


def normalised(value: str) -> str:
    """The form under which a value is found again: Unicode NFKC, case-folded, runs of white space as one, none outside."""
    if not value.isascii():  # NFKC leaves ASCII as it is
        value = unicodedata.normalize("NFKC", value)
    return " ".join(value.casefold().split())


def escape(values: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    r"""Text from outside, with anything that looks like a token made to look like none ("[CLAIM_..." as "[\CLAIM_...")."""
    return pc.replace_substring_regex(values, _LOOKS_LIKE, r"[\\\1")


def unescape(text: str) -> str:
    """What escape() was given."""
    return re.sub(r"\[\\(\\*[A-Z][A-Z_]{1,30}_[0-9A-Z]{10,}\])", r"[\1", text)


class _Cache:
    """Blind index -> token, of the values seen last; shared by all vaults of the process. Holds no values.

    A blind index is made with the key of one practice in one database, so the index alone is key enough. A vault whose
    epoch has changed may have shredded a token since: everything is forgotten then.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._tokens: dict[bytes, str] = {}
        self._epochs: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()

    def at(self, database: str, practice: str, epoch: int) -> None:
        with self._lock:
            if self._epochs.get((database, practice)) != epoch:
                self._epochs[database, practice] = epoch
                self._tokens = {}

    def known(self, indexes: Iterable[bytes]) -> dict[bytes, str]:
        tokens = self._tokens
        return {index: tokens[index] for index in indexes if index in tokens}

    def put(self, tokens: dict[bytes, str]) -> None:
        with self._lock:
            merged = {**self._tokens, **tokens} if len(self._tokens) + len(tokens) > self._size else None
            if merged is None:
                self._tokens.update(tokens)
            else:  # drop the older half at once; a reader keeps the dictionary it has
                self._tokens = dict(islice(merged.items(), max(0, len(merged) - self._size // 2), None))


_cache = _Cache(_CACHE)


class Known(NamedTuple):
    """A token of the vault, without its value."""

    token: str
    kind: str
    created_at: datetime


@dataclass(frozen=True)
class Rotation:
    """values: how many were sealed anew. left: how many could not be opened and stay under the older keys, which are
    kept for them; 0 where the older keys are gone."""

    values: int
    left: int


@dataclass(frozen=True)
class _Generation:
    """The keys a writer must use: value_key the data key version that seals, indexes (version, key) newest first.

    There is one index key but during a rotation, when a value may be found under either. The epoch rises whenever any of
    this changes and whenever a value is shredded; nothing is inserted under a past epoch.
    """

    epoch: int
    value_key: int
    indexes: tuple[tuple[int, bytes], ...]


class _Stale(Exception):
    """The generation in hand is a past one."""


class Vault:
    """Tokens of one practice.

    Every method raises StoreUnavailable where the database is down and KeyUnavailable or TamperedData where the keys are
    not the ones the vault was filled with: without the vault nothing is tokenised and nothing revealed.
    """

    def __init__(self, db: sa.Engine, keys: KeyService, practice: str) -> None:
        self._db = db
        self._practice = practice
        self._envelopes = Envelopes(db, keys)

    @property
    def practice(self) -> str:
        """Whose tokens these are."""
        return self._practice

    def extent(self, without: Collection[str] = ()) -> tuple[int, datetime | None]:
        """How many live tokens there are, kinds of `without` left out, and when the newest was made."""
        query = sa.select(sa.func.count(), sa.func.max(vault_tokens.c.created_at))
        with store_db.transaction(self._db, self._practice) as connection:
            row = connection.execute(query.where(*self._live(without))).one()
        return row[0], row[1]

    def tokens(self, without: Collection[str] = (), since: datetime | None = None) -> list[Known]:
        """The live tokens, kinds of `without` left out; since: only those made at or after that time."""
        query = sa.select(vault_tokens.c.token, vault_tokens.c.kind, vault_tokens.c.created_at).where(
            *self._live(without)
        )
        if since is not None:
            query = query.where(vault_tokens.c.created_at >= since)
        with store_db.transaction(self._db, self._practice) as connection:
            return [Known(*row) for row in connection.execute(query)]

    def alive(self, tokens: Iterable[str]) -> list[str]:
        """Those of the tokens that this vault has and that are not shredded, in their order."""
        wanted = list(dict.fromkeys(tokens))
        live: set[str] = set()
        with store_db.transaction(self._db, self._practice) as connection:
            for some in _chunks(wanted):
                query = sa.select(vault_tokens.c.token).where(*self._live(()), vault_tokens.c.token.in_(some))
                live |= set(connection.scalars(query))
        return [token for token in wanted if token in live]

    def _live(self, without: Collection[str]) -> list[sa.ColumnElement[bool]]:
        conditions = [vault_tokens.c.practice == self._practice, vault_tokens.c.shredded_at.is_(None)]
        return [*conditions, vault_tokens.c.kind.not_in(list(without))] if without else conditions

    def tokenize(self, kind: str, values: pa.Array | pa.ChunkedArray) -> pa.Array:
        """The token of each value, made where there is none; null where a value is null or blank.

        Works on distinct values, in bulk; any number of processes may do so at once. kind: capital letters and "_".
        """
        if not _KIND.fullmatch(kind) or kind.endswith("_"):
            raise ValueError("a kind is made of capital letters and _")
        flat = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
        if isinstance(flat, pa.ChunkedArray):  # more than 2 GiB of text
            return pa.concat_arrays([self.tokenize(kind, chunk) for chunk in flat.chunks])
        encoded = flat if pa.types.is_dictionary(flat.type) else flat.dictionary_encode()
        tokens = self._tokens(kind, encoded.dictionary.to_pylist())
        return pc.take(pa.array(tokens, pa.string()), encoded.indices)

    def reveal(self, tokens: Sequence[str], issued: Collection[str] | None = None) -> dict[str, str]:
        """The values behind tokens, as first seen; all of them or, with TokenRefused, none.

        issued: the tokens handed to this run; any other is refused. The error's code is TOKEN_MANGLED (wrong check
        character or shape), TOKEN_NOT_ISSUED, TOKEN_FOREIGN (of another practice), TOKEN_UNKNOWN or TOKEN_SHREDDED.
        """
        wanted = list(dict.fromkeys(tokens))
        for token in wanted:
            token_kind(token)
        if issued is not None and not set(wanted) <= set(issued):
            raise TokenRefused("a token was not issued to this run", code="TOKEN_NOT_ISSUED")
        for attempt in range(_ROUNDS):
            stored = self._stored(wanted)
            try:
                return {token: self._open(token, stored[token]) for token in wanted}
            except KeyUnavailable as error:  # a rotation sealed the value anew and retired the key since
                if attempt == _ROUNDS - 1 or error.code != KeyUnavailable.code:
                    raise
        raise AssertionError("unreachable")

    def rotate(self) -> Rotation:
        """New keys for values and blind index: every value is sealed and indexed anew, then the older keys are deleted.

        Tokens stay as they are; values can be tokenised and revealed all the while. A rotation that was broken off is
        taken up again. A value that cannot be opened stays where it is, and its key with it.
        """
        if len(self._generation().indexes) == 1:
            self._envelopes.rotate(self._practice, "vault")
            self._envelopes.rotate(self._practice, "index")
        self._next_epoch()  # from here on nobody inserts under the older keys
        generation, done = self._generation(), 0
        after: str | None = ""
        while after is not None:
            after, some = self._rotate_some(generation, after)
            done += some
        return Rotation(done, self._retire(generation))

    def shred(self, tokens: Sequence[str]) -> int:
        """Make the values behind tokens unreadable for good; returns how many there were. The tokens stay, as dead ones.

        Deleted are the value, its secret and its place in the blind index: the same value gets another token from now on.
        A copy of the vault without its secrets (docs/deidentification.md says how to keep one) cannot bring it back.
        """
        done = 0
        for some in _chunks(list(dict.fromkeys(tokens))):
            with store_db.transaction(self._db, self._practice) as connection:
                self._raise_epoch(connection)
                bound = {"practice": self._practice, "tokens": some}
                connection.execute(_DELETE_SECRETS, bound)
                connection.execute(_DELETE_GRANTS, bound)
                fresh = _bytea_array(os.urandom(32) for _ in some)
                done += connection.execute(_SHRED, {**bound, "indexes": fresh}).rowcount
        return done

    def _stored(self, wanted: list[str]) -> dict[str, _Stored]:
        stored: dict[str, _Stored] = {}
        with store_db.transaction(self._db, self._practice) as connection:
            for some in _chunks(wanted):
                for row in connection.execute(_REVEAL, {"practice": self._practice, "tokens": some}):
                    stored[row.token] = _Stored.of(row)
        missing = [token for token in wanted if token not in stored]
        if missing:
            with store_db.transaction(self._db, store_db.EVERY_PRACTICE) as connection:
                foreign = connection.execute(_FOREIGN, {"practice": self._practice, "tokens": missing}).scalar()
            if foreign:
                raise TokenRefused(f"{foreign} token(s) belong to another practice", code="TOKEN_FOREIGN")
            raise TokenRefused(f"{len(missing)} token(s) are unknown to the vault", code="TOKEN_UNKNOWN")
        return stored

    def _open(self, token: str, stored: _Stored) -> str:
        if stored.shredded:
            raise TokenRefused("the value of a token was shredded; it cannot be revealed", code="TOKEN_SHREDDED")
        sealed, aad = stored.ciphertext, self._bound(stored.kind, stored.key_version) + token.encode()
        if stored.secret is not None:
            sealed = _veiled(sealed, stored.secret)
        else:  # stored before values had secrets
            version = str(stored.key_version)
            aad = _parts("medbill.vault.v1", self._practice, stored.kind, token, version)
        try:
            return self._cipher(stored.key_version).decrypt(sealed, [aad]).decode()
        except (InvalidTag, ValueError):
            raise TamperedData("a vault row failed authentication; it was altered or moved") from None

    def _tokens(self, kind: str, values: list[str | None]) -> list[str | None]:
        if not any(value is not None for value in values):
            return [None] * len(values)
        for _ in range(_ROUNDS):
            try:
                return self._tokens_of(self._generation(), kind, values)
            except _Stale:
                continue
        raise StoreUnavailable("the vault's keys change faster than values can be stored; retry")

    def _tokens_of(self, generation: _Generation, kind: str, values: list[str | None]) -> list[str | None]:
        keyed = [_keyed(key, kind) for _, key in generation.indexes]
        indexes: list[bytes | None] = []
        first: dict[bytes, str] = {}
        older: dict[bytes, list[bytes]] = {}
        for value in values:
            form = "" if value is None else normalised(value)
            if not form or value is None:
                indexes.append(None)
                continue
            index = _index(keyed[0], form)
            indexes.append(index)
            if index not in first:
                first[index] = value
                older[index] = [_index(mac, form) for mac in keyed[1:]]
        _cache.at(str(self._db.url), self._practice, generation.epoch)
        known = _cache.known(first)
        # one order for all writers: two of them never wait for each other in a circle
        for some in _chunks(sorted(first.keys() - known.keys())):
            found = self._get_or_create(
                generation, kind, {i: first[i] for i in some}, {o: i for i in some for o in older[i]}
            )
            _cache.put(found)
            known |= found
        return [None if index is None else known[index] for index in indexes]

    def _get_or_create(
        self, generation: _Generation, kind: str, values: dict[bytes, str], older: dict[bytes, bytes]
    ) -> dict[bytes, str]:
        """Blind index -> token; older: the same values' indexes under an older key -> under the newest."""
        found = self._find(kind, list(values), older)
        for _ in range(3):  # a second round only where a fresh token was taken already: 1 in 2^80 per stored token
            missing = [index for index in values if index not in found]
            if not missing:
                return found
            found |= self._insert(generation, kind, {index: values[index] for index in missing})
            if late := [index for index in missing if index not in found]:  # another writer was first
                found |= self._find(kind, late, {})
        raise StoreUnavailable("the vault does not keep what it is given; check its database")

    def _find(self, kind: str, indexes: list[bytes], older: dict[bytes, bytes]) -> dict[bytes, str]:
        asked = [*indexes, *older]
        bound = {"practice": self._practice, "kind": kind, "indexes": _bytea_array(asked)}
        with store_db.transaction(self._db, self._practice) as connection:
            rows = connection.execute(_FIND, bound).all()
        newest = [*indexes, *older.values()]
        return {newest[place - 1]: token for place, token in rows}

    def _insert(self, generation: _Generation, kind: str, values: dict[bytes, str]) -> dict[bytes, str]:
        """Store what nobody has stored meanwhile; the tokens that are now theirs."""
        tokens, secrets = _fresh_tokens(kind, len(values)), _fresh_secrets(len(values))
        cipher, aad = self._cipher(generation.value_key), self._bound(kind, generation.value_key)
        sealed = [
            _veiled(cipher.encrypt(value.encode(), [aad + token.encode()]), secret)
            for value, token, secret in zip(values.values(), tokens, secrets, strict=True)
        ]
        bound = {
            "practice": self._practice,
            "kind": kind,
            "version": generation.value_key,
            "index_version": generation.indexes[0][0],
            "indexes": _bytea_array(values),
            "tokens": _text_array(tokens),
            "sealed": _bytea_array(sealed),
            "secrets": _bytea_array(secrets),
        }
        with store_db.transaction(self._db, self._practice) as connection:
            # held until the insert is committed: a rotation or shredding waits for it, or has come first
            epoch = connection.execute(_LOCK_EPOCH, {"practice": self._practice}).scalar()
            if epoch != generation.epoch:
                raise _Stale
            stored = {row.token for row in connection.execute(_INSERT, bound)}
        return {index: token for index, token in zip(values, tokens, strict=True) if token in stored}

    def _bound(self, kind: str, version: int) -> bytes:
        """What is authenticated with a value, up to its token, which ends it."""
        return _parts("medbill.vault.v2", self._practice, kind, str(version))

    def _cipher(self, version: int) -> AESSIV:
        return _siv(self._envelopes.data_key(self._practice, "vault", version)[1])

    def _generation(self) -> _Generation:
        for attempt in range(_ROUNDS):
            with store_db.transaction(self._db, self._practice) as connection:
                rows = connection.execute(_GENERATION, {"practice": self._practice}).all()
                if not rows:
                    connection.execute(_FIRST_EPOCH, {"practice": self._practice})
            versions = {purpose: [r.version for r in rows if r.purpose == purpose] for purpose in ("vault", "index")}
            if not all(versions.values()):  # the very first value
                for purpose in versions:
                    self._envelopes.data_key(self._practice, purpose)
                continue
            try:
                keys = [(v, self._envelopes.data_key(self._practice, "index", v)[1]) for v in versions["index"]]
            except KeyUnavailable as error:  # a rotation retired it between the two looks
                if attempt == _ROUNDS - 1 or error.code != KeyUnavailable.code:
                    raise
                continue
            return _Generation(rows[0].epoch, versions["vault"][0], tuple(keys))
        raise StoreUnavailable("the vault has no keys and keeps none; check its database")

    def _next_epoch(self) -> None:
        with store_db.transaction(self._db, self._practice) as connection:
            self._raise_epoch(connection)

    def _raise_epoch(self, connection: sa.Connection) -> None:
        connection.execute(_RAISE_EPOCH, {"practice": self._practice})

    def _rotate_some(self, generation: _Generation, after: str) -> tuple[str | None, int]:
        """Some values into generation, in order of their tokens; the last token looked at, None at the end, and how many."""
        value_key, (index_version, index_key) = generation.value_key, generation.indexes[0]
        bound: dict[str, object] = {"practice": self._practice, "version": value_key, "index_version": index_version}
        cipher = self._cipher(value_key)
        with store_db.transaction(self._db, self._practice) as connection:
            rows = connection.execute(_OLDER, {**bound, "after": after, "limit": _ROTATED}).all()
            tokens, indexes, sealed, secrets = [], [], [], _fresh_secrets(len(rows))
            for row, secret in zip(rows, secrets, strict=True):
                try:
                    value = self._open(row.token, _Stored.of(row))
                except MedbillError:
                    continue  # counted at the end
                tokens.append((row.token, secret))
                indexes.append(_index(_keyed(index_key, row.kind), normalised(value)))
                aad = self._bound(row.kind, value_key) + row.token.encode()
                sealed.append(_veiled(cipher.encrypt(value.encode(), [aad]), secret))
            if tokens:
                bound |= {
                    "tokens": _text_array([token for token, _ in tokens]),
                    "secrets": _bytea_array([secret for _, secret in tokens]),
                    "indexes": _bytea_array(indexes),
                    "sealed": _bytea_array(sealed),
                }
                connection.execute(_SEAL_ANEW, bound)
                connection.execute(_RENEW_SECRETS, bound)
        return (rows[-1].token if len(rows) == _ROTATED else None), len(tokens)

    def _retire(self, generation: _Generation) -> int:
        """Delete the keys before generation unless values are left under them; how many are."""
        bound = {
            "practice": self._practice,
            "version": generation.value_key,
            "index_version": generation.indexes[0][0],
        }
        with store_db.transaction(self._db, self._practice) as connection:
            self._raise_epoch(connection)
            left = int(connection.execute(_COUNT_OLDER, bound).scalar_one())
            if not left:
                connection.execute(_DELETE_KEYS, bound)
        return left


@dataclass(frozen=True)
class _Stored:
    """A row of the vault: secret None where the value was stored before values had one."""

    kind: str
    ciphertext: bytes
    key_version: int
    secret: bytes | None
    shredded: bool

    @staticmethod
    def of(row: Any) -> _Stored:
        secret = None if row.secret is None else bytes(row.secret)
        gone = row.shredded_at is not None or (row.own_secret and secret is None)
        return _Stored(row.kind, bytes(row.ciphertext), row.key_version, secret if row.own_secret else None, gone)


def _parts(*parts: str) -> bytes:
    """Several texts as one that no others give."""
    return b"".join(struct.pack(">I", len(part)) + part for part in (p.encode() for p in parts))


@lru_cache(maxsize=16)
def _siv(data_key: bytes) -> AESSIV:
    """AES-256-SIV needs two 256-bit keys. No nonce to repeat; the AAD's token makes equal values differ."""
    return AESSIV(HKDFExpand(algorithm=SHA512(), length=64, info=b"medbill.vault.values.v1").derive(data_key))


def _veiled(sealed: bytes, secret: bytes) -> bytes:
    """The ciphertext under its own secret as well, and back: combined with a stream of SHAKE256 that is used this once.

    It only has to be lost with the secret; what was altered is noticed by the AEAD inside.
    """
    stream = shake_256(b"medbill.vault.secret.v1" + secret).digest(len(sealed))
    return (int.from_bytes(sealed) ^ int.from_bytes(stream)).to_bytes(len(sealed))


def _keyed(key: bytes, kind: str) -> HMAC:
    mac = HMAC(key, SHA256())
    mac.update(struct.pack(">H", len(kind)) + kind.encode())
    return mac


def _index(keyed: HMAC, form: str) -> bytes:
    mac = keyed.copy()
    mac.update(form.encode())
    return mac.finalize()


_GENERATION = sa.text(
    "SELECT s.epoch, k.purpose, k.version FROM medbill.vault_state s"
    " LEFT JOIN medbill.data_keys k ON k.practice = s.practice AND k.purpose IN ('vault', 'index')"
    " WHERE s.practice = :practice ORDER BY k.version DESC"
)
_FIRST_EPOCH = sa.text("INSERT INTO medbill.vault_state (practice, epoch) VALUES (:practice, 1) ON CONFLICT DO NOTHING")
_LOCK_EPOCH = sa.text("SELECT epoch FROM medbill.vault_state WHERE practice = :practice FOR SHARE")
_RAISE_EPOCH = sa.text(
    "INSERT INTO medbill.vault_state AS s (practice, epoch) VALUES (:practice, 1)"
    " ON CONFLICT (practice) DO UPDATE SET epoch = s.epoch + 1"
)
_FIND = sa.text(
    "SELECT i.place, v.token FROM unnest(CAST(:indexes AS bytea[])) WITH ORDINALITY AS i(blind_index, place)"
    " JOIN medbill.vault_tokens v ON v.practice = :practice AND v.kind = :kind AND v.blind_index = i.blind_index"
)
_INSERT = sa.text(
    "WITH n AS (SELECT * FROM unnest(CAST(:indexes AS bytea[]), CAST(:tokens AS text[]), CAST(:sealed AS bytea[]),"
    "   CAST(:secrets AS bytea[])) AS n(i, t, c, s)),"
    " added AS (INSERT INTO medbill.vault_tokens"
    "   (practice, kind, blind_index, token, ciphertext, key_version, index_version, own_secret)"
    "   SELECT :practice, :kind, i, t, c, :version, :index_version, true FROM n ON CONFLICT DO NOTHING RETURNING token)"
    " INSERT INTO medbill.vault_secrets (practice, token, secret)"
    " SELECT :practice, n.t, n.s FROM n JOIN added ON added.token = n.t RETURNING token"
)
_ROWS = sa.select(
    vault_tokens.c.token,
    vault_tokens.c.kind,
    vault_tokens.c.ciphertext,
    vault_tokens.c.key_version,
    vault_tokens.c.own_secret,
    vault_tokens.c.shredded_at,
    vault_secrets.c.secret,
).select_from(
    vault_tokens.outerjoin(
        vault_secrets,
        (vault_secrets.c.practice == vault_tokens.c.practice) & (vault_secrets.c.token == vault_tokens.c.token),
    )
)
_OF_PRACTICE = vault_tokens.c.practice == sa.bindparam("practice")
_REVEAL = _ROWS.where(_OF_PRACTICE, vault_tokens.c.token.in_(sa.bindparam("tokens", expanding=True)))
_FOREIGN = sa.text("SELECT count(*) FROM medbill.vault_tokens WHERE practice <> :practice AND token = ANY(:tokens)")
_IS_OLDER = sa.and_(
    _OF_PRACTICE,
    vault_tokens.c.shredded_at.is_(None),
    sa.or_(
        vault_tokens.c.key_version < sa.bindparam("version"),
        vault_tokens.c.index_version < sa.bindparam("index_version"),
        ~vault_tokens.c.own_secret,
    ),
)
_OLDER = (
    _ROWS.where(_IS_OLDER, vault_tokens.c.token > sa.bindparam("after"))
    .order_by(vault_tokens.c.token)
    .limit(sa.bindparam("limit", type_=sa.Integer))
    .with_for_update(of=vault_tokens)
)
_COUNT_OLDER = sa.select(sa.func.count()).select_from(vault_tokens).where(_IS_OLDER)
_SEAL_ANEW = sa.text(
    "UPDATE medbill.vault_tokens v SET blind_index = n.i, ciphertext = n.c, key_version = :version,"
    " index_version = :index_version, own_secret = true"
    " FROM unnest(CAST(:tokens AS text[]), CAST(:indexes AS bytea[]), CAST(:sealed AS bytea[])) AS n(t, i, c)"
    " WHERE v.practice = :practice AND v.token = n.t"
)
_RENEW_SECRETS = sa.text(
    "INSERT INTO medbill.vault_secrets (practice, token, secret)"
    " SELECT :practice, t, s FROM unnest(CAST(:tokens AS text[]), CAST(:secrets AS bytea[])) AS n(t, s)"
    " ON CONFLICT (practice, token) DO UPDATE SET secret = excluded.secret"
)
_DELETE_KEYS = sa.text(
    "DELETE FROM medbill.data_keys WHERE practice = :practice"
    " AND (purpose = 'vault' AND version < :version OR purpose = 'index' AND version < :index_version)"
)
_DELETE_SECRETS = sa.text("DELETE FROM medbill.vault_secrets WHERE practice = :practice AND token = ANY(:tokens)")
_DELETE_GRANTS = sa.text("DELETE FROM medbill.token_grants WHERE practice = :practice AND token = ANY(:tokens)")
_SHRED = sa.text(
    "UPDATE medbill.vault_tokens v SET ciphertext = '', blind_index = n.i, shredded_at = clock_timestamp()"
    " FROM unnest(CAST(:tokens AS text[]), CAST(:indexes AS bytea[])) AS n(t, i)"
    " WHERE v.practice = :practice AND v.token = n.t AND v.shredded_at IS NULL"
)


def _bytea_array(items: Iterable[bytes]) -> str:
    """A bytea[] literal as one text parameter: the driver's own arrays cost a cast per element."""
    return "{" + ",".join(f'"\\\\x{item.hex()}"' for item in items) + "}"


def _text_array(tokens: Iterable[str]) -> str:
    """A text[] literal of tokens, which need no escaping."""
    return "{" + ",".join(f'"{token}"' for token in tokens) + "}"


def _fresh_secrets(count: int) -> list[bytes]:
    drawn = os.urandom(32 * count)
    return [drawn[at : at + 32] for at in range(0, 32 * count, 32)]


def _fresh_tokens(kind: str, count: int) -> list[str]:
    bits = np.unpackbits(np.frombuffer(os.urandom(count * 10), np.uint8)).reshape(count, BODY, 5)
    digits = bits @ np.array([16, 8, 4, 2, 1], np.uint8)
    check = np.zeros(count, np.uint8)
    for position in range(BODY):
        check ^= _TIMES[position, digits[:, position]]
    letters = np.frombuffer(ALPHABET.encode(), np.uint8)[np.column_stack([digits, check])]
    text = letters.tobytes().decode()
    width = BODY + 1
    return [f"[{kind}_{text[at : at + width]}]" for at in range(0, count * width, width)]


def _chunks(items: list[_T]) -> Iterator[list[_T]]:
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]
