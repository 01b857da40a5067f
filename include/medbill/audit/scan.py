"""Reading all rows of some chains fast, and recomputing each. A row that is not what it should be goes to the Checker.

The rows come as the text of COPY; nothing is computed in the database. A sound row's payload follows from its columns
(RFC 8785 has one way to write an object), so it is put together from them and compared, which is faster than parsing it.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from json.encoder import encode_basestring as quoted
from typing import Any

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
_ROW = struct.pack(">q", 20) + b"medbill.audit.row.v1" + struct.pack(">q", 8)
_EIGHT = struct.pack(">q", 8)
_THIRTY_TWO = struct.pack(">q", 32)
_decode: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().raw_decode
_MANY = 20_000  # entries of a memo before it is emptied
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
    walks = {chain: _Walk(chain, seals[chain]) for chain in chains}
    for chain, walk in walks.items():
        _copy(connection, f"chain = {chain:d}", walk)
    return {chain: walk.done() for chain, walk in walks.items()}


def new_rows(connection: sa.Connection, chain: int, after: Sealed) -> tuple[Chain, Sealed]:
    """Recompute the rows of a chain after a checkpoint; gives what the next one says of it."""
    walk = _Walk(chain, [], after)
    _copy(connection, f"chain = {chain:d} AND seq > {after.seq:d}", walk)
    found = walk.done()
    return found, Sealed(*found.last, walk.tree.root())


def _copy(connection: sa.Connection, where: str, walk: _Walk) -> None:
    raw: Any = connection.connection.driver_connection
    try:
        with raw.cursor() as cursor:
            cursor.execute(_SETTINGS)
            query = f"SELECT {', '.join(_COLUMNS)} FROM audit.rows WHERE {where} ORDER BY seq"  # noqa: S608
            cursor.copy_expert(f"COPY ({query}) TO STDOUT", _Sink(walk.line))
    except psycopg2.Error as error:
        raise StoreUnavailable(f"PostgreSQL refused ({error.pgcode or 'no connection'}) to give the ledger") from None


class _Sink:
    """What COPY writes to: one message of the protocol holds one row."""

    def __init__(self, line: Callable[[bytes], None]) -> None:
        self.write = line


class _Walk:
    """One chain, row by row, from its beginning or from where a checkpoint left it."""

    def __init__(self, chain: int, seals: Sequence[int], start: Sealed | None = None) -> None:
        self.tree = Tree()  # over the rows since the last seal
        self._chain = chain
        self._seals = iter(seals)
        self._seal = next(self._seals, None)
        self._seq, self._link = (start.seq, start.head) if start else (0, first_hash(chain))
        self._head = _ROW + struct.pack(">q", chain) + _EIGHT
        self._found = Chain()
        self._minutes: dict[str, int] = {}
        self._first: dict[tuple[str, ...], str] = {}
        self._middle: dict[tuple[str, ...], str] = {}
        self._final: dict[tuple[str, ...], str] = {}

    def line(self, data: bytes) -> None:
        """One row in COPY's text format."""
        found = self._found
        found.rows += 1
        text = data[:-1].decode()
        values = text.split("\t")
        try:
            sound = text.count("\\") == 6 + values.count("\\N") and self._sound(values)
        except (ValueError, IndexError):
            sound = False
        if sound:
            self._seq += 1
            self._link = bytes.fromhex(values[24][3:])
        else:
            self._unsound(values)
        self.tree.add(leaf(self._link))
        if self._seal is None:
            if found.waiting is None:
                found.waiting = _value("recorded_at", values[4])
        elif self._seq >= self._seal:
            if self._seq == self._seal:
                found.seals[self._seal] = (self._link, self.tree.root())
            while self._seal is not None and self._seal <= self._seq:
                self._seal = next(self._seals, None)
            self.tree = Tree()

    def done(self) -> Chain:
        self._found.last = (self._seq, self._link)
        return self._found

    def _sound(self, v: list[str]) -> bool:
        (_, seq, event_id, key, recorded_at, occurred_at, actor, on_behalf_of, practice, purpose, action, kind, resource,
         outcome, intent, dag_id, run_id, task_id, map_index, try_number, subject, source, payload, prev, row) = v  # fmt: skip
        number_ = int(seq)
        content, link = bytes.fromhex(payload[3:]), bytes.fromhex(prev[3:])
        if number_ != self._seq + 1 or link != self._link:
            return False
        hashed = (
            self._head
            + number_.to_bytes(8, "big")
            + _EIGHT
            + self._microseconds(recorded_at).to_bytes(8, "big", signed=True)
            + len(content).to_bytes(8, "big")
            + content
            + _THIRTY_TWO
            + link
        )
        if sha256(hashed).hexdigest() != row[3:] or sha256(key.encode()).digest()[0] % CHAINS != self._chain:
            return False

        part1 = (action, actor, dag_id)
        first = self._first.get(part1)
        if first is None:
            first = _remember(self._first, part1, _members("action", action, "actor", actor, "dag_id", dag_id))
        part2 = (on_behalf_of, outcome, practice, purpose, resource, run_id)
        middle = self._middle.get(part2)
        if middle is None:
            names = ("on_behalf_of", "outcome", "practice", "purpose", "resource", "run_id")
            pairs = [text for pair in zip(names, part2, strict=True) for text in pair]
            middle = _remember(self._middle, part2, _members(*pairs))
        part3 = (task_id, try_number)
        final = self._final.get(part3)
        if final is None:
            final = _members("task_id", task_id) + ("" if try_number == "\\N" else f',"try_number":{int(try_number)}')
            _remember(self._final, part3, final)

        clock = occurred_at[:-3]
        clock = f"{clock}.000000" if len(clock) == 19 else clock.ljust(26, "0")
        after = "".join((
            f',"event_id":"{event_id}","idempotency_key":{quoted(key)}',
            "" if intent == "\\N" else f',"intent":"{intent}"',
            f',"kind":{quoted(kind)}',
            "" if map_index == "\\N" else f',"map_index":{map_index}',
            f',"occurred_at":"{clock[:10]}T{clock[11:]}+00:00"',
            middle,
            ',"schema_version":1',
            "" if source == "\\N" else f',"source_hash":{quoted(source)}',
            "" if subject == "\\N" else f',"subject_token":{quoted(subject)}',
            final,
            "}",
        )).encode()  # fmt: skip
        before = ("{" + first[1:]).encode()
        if not (content.startswith(before) and content.endswith(after)):
            return False
        details = content[len(before) : len(content) - len(after)]
        if not details:
            return len(content) == len(before) + len(after)
        if details[:12] != b',"details":{':
            return False
        text = details[11:].decode()
        return _decode(text, 0)[1] == len(text)  # one object and nothing behind it that could repeat a member

    def _microseconds(self, text: str) -> int:
        """Of a timestamp as PostgreSQL writes it in UTC, since 1970."""
        minute = self._minutes.get(text[:16])
        if minute is None:
            at = datetime.fromisoformat(text[:16]).replace(tzinfo=UTC)
            minute = self._minutes[text[:16]] = (at - EPOCH) // timedelta(microseconds=1)
            if len(self._minutes) > _MANY:
                self._minutes.clear()
        if text[-3:] != "+00":
            raise ValueError
        return minute + int(text[17:19]) * 1_000_000 + int(text[20:-3].ljust(6, "0"))

    def _unsound(self, values: list[str]) -> None:
        """The slow way, which says what is wrong; a row the fast way does not understand may well be sound."""
        try:
            row = {name: _value(name, text) for name, text in zip(_COLUMNS, values, strict=True)}
        except (ValueError, OverflowError):  # a time before our calendar, for one
            self._seq += 1
            self._found.problems.append(
                Problem(
                    "ALTERED_ROW", number(self._chain, self._seq), f"chain {self._chain}: no writer writes such a row"
                )
            )
            return
        checker = Checker({self._chain: (self._seq, self._link)})
        self._found.problems += checker.row(row)
        self._seq, self._link = checker.last[self._chain]


def _remember(memo: dict[tuple[str, ...], str], key: tuple[str, ...], text: str) -> str:
    if len(memo) > _MANY:
        memo.clear()
    memo[key] = text
    return text


def _members(*pairs: str) -> str:
    """Members of an object, each behind a comma, without those that are null."""
    it = iter(pairs)
    return "".join(f',"{name}":{quoted(value)}' for name, value in zip(it, it, strict=True) if value != "\\N")


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
