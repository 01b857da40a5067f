"""Reading all rows of some chains fast, and recomputing each. A row that is not what it should be goes to the Checker.

Rows come as binary COPY gives them. Hashes, links and trees are computed here alone. Of the columns that repeat the payload
the database is asked to write them one behind the other as RFC 8785 writes them (there is one way to write an object):
comparing bytes is faster than parsing JSON. A row with a character JSON would escape is looked at the slow way.
"""

from __future__ import annotations

import json
import re
import secrets
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import numpy as np
import psycopg2
import sqlalchemy as sa

from medbill.audit.checkpoint import Checkpoint, Sealed, leaf
from medbill.audit.hashing import EPOCH, first_hash
from medbill.audit.merkle import Tree
from medbill.audit.problems import Checker, Problem
from medbill.audit.tables import CHAINS, number
from medbill.errors import StoreUnavailable

_COLUMNS = (
    "chain", "seq", "event_id", "idempotency_key", "recorded_at", "occurred_at", "actor", "on_behalf_of", "practice",
    "purpose", "action", "kind", "resource", "outcome", "intent", "dag_id", "run_id", "task_id", "map_index", "try_number",
    "subject_token", "source_hash", "payload", "prev_hash", "row_hash",
)  # fmt: skip
_WHOLE = {"chain", "seq", "map_index", "try_number"}
_TIMES = {"recorded_at", "occurred_at"}
_BYTES = {"payload", "prev_hash", "row_hash"}
_SETTINGS = (
    "SET LOCAL search_path = pg_catalog; SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, YMD';"
    " SET LOCAL bytea_output = 'hex'; SET LOCAL client_encoding = 'UTF8'"
)
#: seq, recorded_at and ctid stand at fixed places of a row, and so do the hashes where they have 32 bytes. quotes: as many
#: as the two texts have where no value has one. The texts are the payload's members before and behind its details.
_FAST = """
SELECT coalesce(seq, 0), coalesce(recorded_at, 'infinity'), ctid,
  42 + 4 * num_nonnulls(dag_id, intent, on_behalf_of, run_id, source_hash, subject_token, task_id)
    + 2 * num_nonnulls(map_index, try_number) AS quotes,
  prev_hash, row_hash, idempotency_key,
  concat('{"action":"', action, '","actor":"', actor, '"', ',"dag_id":"' || dag_id || '"'),
  concat(
    ',"event_id":"', event_id, '","idempotency_key":"', idempotency_key, '"', ',"intent":"' || intent || '"', ',"kind":"', kind,
    '"', ',"map_index":' || map_index, ',"occurred_at":"', to_char(occurred_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'), '"',
    ',"on_behalf_of":"' || on_behalf_of || '"', ',"outcome":"', outcome, '","practice":"', practice, '","purpose":"', purpose,
    '","resource":"', resource, '"', ',"run_id":"' || run_id || '"', ',"schema_version":1',
    ',"source_hash":"' || source_hash || '"', ',"subject_token":"' || subject_token || '"', ',"task_id":"' || task_id || '"',
    ',"try_number":' || try_number, '}'),
  payload
FROM audit.rows"""
_SIGNATURE = b"PGCOPY\n\xff\r\n\0"  # of binary COPY; two numbers follow, 19 bytes in all
_END = b"\xff\xff"
_ROW = struct.pack(">q", 20) + b"medbill.audit.row.v1" + struct.pack(">q", 8)
_EIGHT = struct.pack(">q", 8)
_THIRTY_TWO = struct.pack(">q", 32)
_numbers = struct.Struct(">qqq4x").pack
#: seq, recorded_at, ctid, quotes, prev_hash and row_hash behind their lengths, and the length of the key, which begins at 120.
_fixed = struct.Struct(">6xq4xq4x6s4xii32si32si").unpack_from
_PLACE = struct.Struct(">IH")
_DETAILS = b',"details":'
_length = struct.Struct(">i").unpack_from
_SINCE_1970 = 946_684_800_000_000  # microseconds to 2000, from where PostgreSQL counts
_BATCH = 2048
_ESCAPED = re.compile(rb"[\x00-\x1f\\]")
_UNESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


@dataclass
class Chain:
    """What was found in one chain. seals: for each seq at which a checkpoint ends, the hash of that row and the root over
    the rows since the checkpoint before. last: seq and hash of the last row. waiting: recorded_at of the first row that
    no checkpoint covers."""

    rows: int = 0
    seals: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    last: tuple[int, bytes] = (0, b"")
    waiting: datetime | None = None
    problems: list[Problem] = field(default_factory=list)


def ends(checkpoints: Sequence[Checkpoint]) -> list[list[int]]:
    """For each chain the seqs at which a checkpoint ends that added rows to it, rising."""
    found: list[list[int]] = [[] for _ in range(CHAINS)]
    for checkpoint in checkpoints:
        for chain, sealed in enumerate(checkpoint.chains):
            if sealed.seq > (found[chain][-1] if found[chain] else 0):
                found[chain].append(sealed.seq)
    return found


def scan(connection: sa.Connection, chains: Iterable[int], seals: Sequence[Sequence[int]]) -> dict[int, Chain]:
    """Recompute all rows of the chains in the connection's snapshot; seals as ends() gives them."""
    return {chain: _walk(connection, f"chain = {chain:d}", _Walk(chain, seals[chain])) for chain in chains}


def new_rows(connection: sa.Connection, chain: int, after: Sealed) -> tuple[Chain, Sealed]:
    """Recompute the rows of a chain after a checkpoint; gives what the next one says of it."""
    walk = _Walk(chain, [], after)
    found = _walk(connection, f"chain = {chain:d} AND seq > {after.seq:d}", walk)
    return found, Sealed(*found.last, walk.tree.root())


def _walk(connection: sa.Connection, where: str, walk: _Walk) -> Chain:
    raw: Any = connection.connection.driver_connection
    try:
        with raw.cursor() as cursor:
            cursor.execute(_SETTINGS)
            cursor.copy_expert(f"COPY ({_FAST} WHERE {where} ORDER BY seq) TO STDOUT (FORMAT binary)", walk)
            found = walk.done()
            for start in range(0, len(walk.doubtful), _BATCH):
                part = walk.doubtful[start : start + _BATCH]
                lines = _Lines()
                places = ",".join(f'"{doubt.place}"' for doubt in part)
                query = f"SELECT ctid, {', '.join(_COLUMNS)} FROM audit.rows WHERE ctid = ANY('{{{places}}}')"  # noqa: S608
                cursor.copy_expert(f"COPY ({query}) TO STDOUT", lines)
                for doubt in part:
                    found.problems += _look(walk.chain, doubt, lines.rows[doubt.place])
    except psycopg2.Error as error:
        raise StoreUnavailable(f"PostgreSQL refused ({error.pgcode or 'no connection'}) to give the ledger") from None
    return found


@dataclass(frozen=True)
class _Doubt:
    """A row that did not go the fast way: where it lies, and what stood before it in the chain."""

    place: str
    before: int
    link: bytes


#: seq, row_hash, and recorded_at in microseconds since 2000.
_Passed = tuple[int, bytes, int]


@dataclass
class _Left:
    """Of sound rows: the texts around their details, how many quotes those may have together, and the different details."""

    texts: list[bytes] = field(default_factory=list)
    quotes: int = 0
    details: set[bytes] = field(default_factory=set)


class _Lines:
    """What COPY writes text to: one message of the protocol holds one row."""

    def __init__(self) -> None:
        self.rows: dict[str, list[str]] = {}

    def write(self, data: bytes) -> None:
        place, *values = data[:-1].decode().split("\t")
        self.rows[place] = values


class _Walk:
    """One chain, row by row, from its beginning or from where a checkpoint left it. COPY writes to it."""

    def __init__(self, chain: int, seals: Sequence[int], start: Sealed | None = None) -> None:
        self.chain = chain
        self.tree = Tree()  # over the rows since the last seal
        self.doubtful: list[_Doubt] = []
        self._seals = iter(seals)
        self._seal = next(self._seals, None)
        self._seq, self._link = (start.seq, start.head) if start else (0, first_hash(chain))
        self._head = _ROW + struct.pack(">q", chain) + _EIGHT
        self._found = Chain()
        self._batch: list[bytes] = []

    def write(self, data: bytes) -> None:
        """One message of the protocol: a row, the first of them behind the signature, or the end."""
        self._batch.append(data)
        if len(self._batch) == _BATCH:
            self._flush()

    def done(self) -> Chain:
        self._flush()
        self._found.last = (self._seq, self._link)
        return self._found

    def _flush(self) -> None:
        batch, self._batch = self._batch, []
        if batch and batch[0].startswith(_SIGNATURE):
            batch[0] = batch[0][19:]
        if batch and batch[-1] in (b"", _END):
            batch.pop()
        seq, link = self._seq, self._link
        passed, doubts, left = self._rows(batch, strict=False)
        joined = b"".join(left.texts)
        if (
            joined.count(b'"') != left.quotes  # there can be only more of them
            or b"\\" in joined
            or (np.frombuffer(joined, np.uint8) < 32).any()
            or not _objects(list(left.details))
        ):
            self._seq, self._link = seq, link
            passed, doubts, _ = self._rows(batch, strict=True)
        self.doubtful += doubts
        self._count(passed)

    def _rows(self, batch: list[bytes], *, strict: bool) -> tuple[list[_Passed], list[_Doubt], _Left]:
        """seq, hash and time of each row, those that are not sound, and what the others left to be checked for all of them
        at once. strict: check it for each, which is slow."""
        passed: list[_Passed] = []
        doubts: list[_Doubt] = []
        left = _Left()
        link, seq, head, mine = self._link, self._seq, self._head, self.chain
        for data in batch:
            number_, at, place, quotes, prev_length, prev, length, row, key_end = _fixed(data)
            try:
                key_end += 120
                first_end = key_end + 4 + _length(data, key_end)[0]
                last_end = first_end + 4 + _length(data, first_end)[0]
                first, last, start = data[key_end + 4 : first_end], data[first_end + 4 : last_end], last_end + 4
                before, behind = start + len(first), len(data) - len(last)
                sound = (
                    number_ == seq + 1
                    and prev == link
                    and prev_length == length == 32
                    and sha256(
                        # the four bytes of the payload's length stand before it, as COPY writes them
                        head + _numbers(number_, 8, at + _SINCE_1970) + data[last_end:] + _THIRTY_TWO + prev
                    ).digest() == row
                    and sha256(data[120:key_end]).digest()[0] % CHAINS == mine
                    and before <= behind
                    and data.startswith(first, start)
                    and data.endswith(last)
                    and (not strict or _plain(first + last, quotes, data[before:behind]))
                )  # fmt: skip
            except struct.error:  # a column that is NULL, a time without end
                sound = False
            if sound:
                left.texts += (first, last)
                left.quotes += quotes
                if before < behind:
                    left.details.add(data[before:behind])
            else:
                doubts.append(_Doubt("({},{})".format(*_PLACE.unpack(place)), seq, link))
                row = _row_hash(data)
            seq, link = number_, row
            passed.append((number_, row, at))
        self._seq, self._link = seq, link
        return passed, doubts, left

    def _count(self, passed: list[_Passed]) -> None:
        """Put the rows into the tree, and note what it is where a checkpoint ends."""
        found = self._found
        found.rows += len(passed)
        seqs = [seq for seq, _, _ in passed]
        start = 0
        while self._seal is not None and seqs and seqs[-1] >= self._seal:
            end = bisect_right(seqs, self._seal)
            self.tree.extend([leaf(row) for _, row, _ in passed[start:end]])
            if end > start and seqs[end - 1] == self._seal:
                found.seals[self._seal] = (passed[end - 1][1], self.tree.root())
            self.tree, self._seal, start = Tree(), next(self._seals, None), end
        self.tree.extend([leaf(row) for _, row, _ in passed[start:]])
        if self._seal is None and found.waiting is None and start < len(passed):
            found.waiting = _moment(passed[start][2])


def _plain(text: bytes, quotes: int, details: bytes) -> bool:
    """Whether no value in the text has a character JSON escapes, and the details, if any, are one object."""
    return text.count(b'"') == quotes and not _ESCAPED.search(text) and _objects([details] if details else [])


def _objects(details: list[bytes]) -> bool:
    """Whether each is one JSON object behind its name. They are read as one list, with a word nobody could know between
    them, so that none ends in the next."""
    if not all(text.startswith(_DETAILS) for text in details):
        return False
    word = secrets.token_hex(16)
    try:
        read = json.loads(b"[" + f',"{word}",'.encode().join([text[len(_DETAILS) :] for text in details]) + b"]")
    except (ValueError, RecursionError):
        return False
    objects = read[::2]
    return (
        len(objects) == len(details)
        and read[1::2] == [word] * (len(details) - 1)
        and all(type(one) is dict for one in objects)
    )


def _row_hash(data: bytes) -> bytes:
    """Of a row whose hashes may have any length."""
    start = 48 + max(_length(data, 44)[0], 0)
    return data[start + 4 : start + 4 + max(_length(data, start)[0], 0)]


def _moment(at: int) -> datetime:
    """Of microseconds since 2000; of one beyond our calendar, its end or beginning."""
    try:
        return EPOCH + timedelta(microseconds=at + _SINCE_1970)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC) if at > 0 else datetime.min.replace(tzinfo=UTC)


def _look(chain: int, doubt: _Doubt, values: list[str]) -> Iterator[Problem]:
    """The slow way, which says what is wrong; a row the fast way does not understand may well be sound."""
    try:
        row = {name: _value(name, text) for name, text in zip(_COLUMNS, values, strict=True)}
        yield from Checker({chain: (doubt.before, doubt.link)}).row(row)
    except (
        ValueError,
        OverflowError,
        TypeError,
        AttributeError,
    ):  # a time before our calendar, a NULL where none may be
        yield Problem("ALTERED_ROW", number(chain, doubt.before + 1), f"chain {chain}: no writer writes such a row")


def _value(name: str, text: str) -> Any:
    if text == "\\N":
        return None
    if name in _WHOLE:
        return int(text)
    if name in _TIMES:
        return datetime.fromisoformat(text)
    if name in _BYTES:
        return bytes.fromhex(text[3:])
    if "\\" not in text:
        return text
    return re.sub(r"\\(.)", lambda match: _UNESCAPED.get(match[1], match[1]), text, flags=re.DOTALL)
