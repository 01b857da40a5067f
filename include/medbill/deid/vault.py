"""The token vault: protected values behind random tokens, and the only way back.

A token is random, never derived from its value (45 CFR 164.514(c)(1)); the same value of the same kind always has the
same token within a practice, because the vault finds it again by a keyed blind index. Values are stored encrypted.
"""

from __future__ import annotations

import os
import re
import struct
import threading
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256, SHA512
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from medbill.errors import StoreUnavailable, TamperedData, TokenRefused
from medbill.store import db as store_db
from medbill.store.envelope import Envelopes
from medbill.store.keys import KeyService

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

    A blind index is made with the key of one practice in one database, so the index alone is key enough.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._tokens: dict[bytes, str] = {}
        self._lock = threading.Lock()

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


class Vault:
    """Tokens of one practice.

    Every method raises StoreUnavailable where the database is down and KeyUnavailable or TamperedData where the keys are
    not the ones the vault was filled with: without the vault nothing is tokenised and nothing revealed.
    """

    def __init__(self, db: sa.Engine, keys: KeyService, practice: str) -> None:
        self._db = db
        self._practice = practice
        self._envelopes = Envelopes(db, keys)

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
        character or shape), TOKEN_NOT_ISSUED, TOKEN_FOREIGN (of another practice) or TOKEN_UNKNOWN.
        """
        wanted = list(dict.fromkeys(tokens))
        for token in wanted:
            token_kind(token)
        if issued is not None and not set(wanted) <= set(issued):
            raise TokenRefused("a token was not issued to this run", code="TOKEN_NOT_ISSUED")
        stored: dict[str, tuple[str, bytes, int]] = {}
        with store_db.transaction(self._db) as connection:
            for some in _chunks(wanted):
                for row in connection.execute(_REVEAL, {"practice": self._practice, "tokens": some}):
                    stored[row.token] = (row.kind, bytes(row.ciphertext), row.key_version)
            missing = [token for token in wanted if token not in stored]
            if missing:
                foreign = connection.execute(_FOREIGN, {"practice": self._practice, "tokens": missing}).scalar()
                if foreign:
                    raise TokenRefused(f"{foreign} token(s) belong to another practice", code="TOKEN_FOREIGN")
                raise TokenRefused(f"{len(missing)} token(s) are unknown to the vault", code="TOKEN_UNKNOWN")
        return {token: self._open(token, *stored[token]) for token in wanted}

    def _open(self, token: str, kind: str, ciphertext: bytes, version: int) -> str:
        try:
            plain = self._cipher(version).decrypt(ciphertext, [_aad(self._practice, kind, token, version)])
        except (InvalidTag, ValueError):
            raise TamperedData("a vault row failed authentication; it was altered or moved") from None
        return plain.decode()

    def _tokens(self, kind: str, values: list[str | None]) -> list[str | None]:
        if not any(value is not None for value in values):
            return [None] * len(values)
        keyed = HMAC(self._envelopes.data_key(self._practice, "index")[1], SHA256())
        keyed.update(struct.pack(">H", len(kind)) + kind.encode())
        indexes: list[bytes | None] = []
        first: dict[bytes, str] = {}
        for value in values:
            form = "" if value is None else normalised(value)
            if not form or value is None:
                indexes.append(None)
                continue
            mac = keyed.copy()
            mac.update(form.encode())
            index = mac.finalize()
            indexes.append(index)
            first.setdefault(index, value)
        known = _cache.known(first)
        # one order for all writers: two of them never wait for each other in a circle
        for some in _chunks(sorted(first.keys() - known.keys())):
            found = self._get_or_create(kind, {index: first[index] for index in some})
            _cache.put(found)
            known |= found
        return [None if index is None else known[index] for index in indexes]

    def _get_or_create(self, kind: str, values: dict[bytes, str]) -> dict[bytes, str]:
        found = self._find(kind, list(values))
        for _ in range(3):  # a second round only where a fresh token was taken already: 1 in 2^80 per stored token
            missing = [index for index in values if index not in found]
            if not missing:
                return found
            self._insert(kind, {index: values[index] for index in missing})
            found |= self._find(kind, missing)
        raise StoreUnavailable("the vault does not keep what it is given; check its database")

    def _find(self, kind: str, indexes: list[bytes]) -> dict[bytes, str]:
        bound = {"practice": self._practice, "kind": kind, "indexes": _bytea_array(indexes)}
        with store_db.transaction(self._db) as connection:
            return {bytes(row.blind_index): row.token for row in connection.execute(_FIND, bound)}

    def _insert(self, kind: str, values: dict[bytes, str]) -> None:
        version, _ = self._envelopes.data_key(self._practice, "vault")
        cipher = self._cipher(version)
        tokens = _fresh_tokens(kind, len(values))
        sealed = [
            cipher.encrypt(value.encode(), [_aad(self._practice, kind, token, version)])
            for token, value in zip(tokens, values.values(), strict=True)
        ]
        bound = {
            "practice": self._practice,
            "kind": kind,
            "version": version,
            "indexes": _bytea_array(values),
            "tokens": "{" + ",".join(f'"{token}"' for token in tokens) + "}",
            "sealed": _bytea_array(sealed),
        }
        with store_db.transaction(self._db) as connection:
            connection.execute(_INSERT, bound)

    def _cipher(self, version: int) -> AESSIV:
        return _siv(self._envelopes.data_key(self._practice, "vault", version)[1])


@lru_cache(maxsize=16)
def _siv(data_key: bytes) -> AESSIV:
    """AES-256-SIV needs two 256-bit keys. No nonce to repeat; the AAD's token makes equal values differ."""
    return AESSIV(HKDFExpand(algorithm=SHA512(), length=64, info=b"medbill.vault.values.v1").derive(data_key))


_FIND = sa.text(
    "SELECT v.blind_index, v.token FROM unnest(CAST(:indexes AS bytea[])) AS i(blind_index)"
    " JOIN medbill.vault_tokens v ON v.practice = :practice AND v.kind = :kind AND v.blind_index = i.blind_index"
)
_INSERT = sa.text(
    "INSERT INTO medbill.vault_tokens (practice, kind, blind_index, token, ciphertext, key_version)"
    " SELECT :practice, :kind, i, t, c, :version"
    " FROM unnest(CAST(:indexes AS bytea[]), CAST(:tokens AS text[]), CAST(:sealed AS bytea[])) AS n(i, t, c)"
    " ON CONFLICT DO NOTHING"
)
_REVEAL = sa.text(
    "SELECT token, kind, ciphertext, key_version FROM medbill.vault_tokens"
    " WHERE practice = :practice AND token = ANY(:tokens)"
)
_FOREIGN = sa.text("SELECT count(*) FROM medbill.vault_tokens WHERE practice <> :practice AND token = ANY(:tokens)")


def _bytea_array(items: Collection[bytes]) -> str:
    """A bytea[] literal as one text parameter: the driver's own arrays cost a cast per element."""
    return "{" + ",".join(f'"\\\\x{item.hex()}"' for item in items) + "}"


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


def _aad(practice: str, kind: str, token: str, version: int) -> bytes:
    parts = [b"medbill.vault.v1", practice.encode(), kind.encode(), token.encode(), str(version).encode()]
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def _chunks(items: list[_T]) -> Iterator[list[_T]]:
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]
