"""The values of a practice's vault as an exact membership test in memory, fast enough for every n-gram of a text.

Why not the vault's own blind index: it knows one spelling per value and kind, so a text would cost an HMAC for each of its
n-grams times each kind, and "SMITH, JOHN" would not be found as John Smith. Instead the values are decrypted once per
process (an act the ledger records), reduced to their forms (letters and figures only, look-alikes folded, names in every
order), and of each form only a 64-bit BLAKE2b under a key drawn for this process is kept; the values are dropped. Nothing
of it is ever stored. Beside it a table says which lengths occur under which first letters (by their salted hash), so that
most n-grams of a text cost no hash at all. Two forms of the same hash: 1 chance in 10^13 per n-gram with a million forms.

What cannot be decided alone does not fire alone: numbers under six figures, codes, dates, and names that are English
words, drugs, eponyms or payers. Two such names side by side do, and a town beside its ZIP.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

import numpy as np

from medbill.audit.ledger import Event, Ledger
from medbill.deid.egress_text import APART, BROKEN, LOOSE, TIGHT, Reading, folded, words
from medbill.deid.text import guard
from medbill.deid.text.lexicon import DRUG, EPONYM, MEDICAL, MONTH, PAYER, STATE, STOP, WORD, flags, word_set
from medbill.deid.vault import Vault
from medbill.errors import PolicyError

#: Kinds that are not looked for: every day of the year is somebody's date, and published rows keep the NPI.
UNSEARCHED = ("AGE", "DATE", "NPI")
_LATE = timedelta(minutes=10)  # a row may become visible this long after its created_at
_LONGEST = 160
_BULK = 20_000
_ORDINARY = WORD | DRUG | MEDICAL | EPONYM | STATE | STOP | PAYER | MONTH
_GENERIC = MEDICAL | STATE | STOP | PAYER | MONTH
_TITLES = word_set("dr mr mrs ms miss jr sr ii iii iv md do rn np pa phd prof")
_PAYER_WORDS = word_set("blue cross shield")
_DAY = re.compile(r"(?:19|20)\d\d[01]\d[0-3]\d|[01]\d[0-3]\d(?:19|20)\d\d")
_PREFIX = 4
_SHORT = (2, 3)  # forms shorter than the beginnings of the others

#: Bits of what is known of a form, above the eight of its kind's number.
STRONG, NAME, TOWN, ZIP, SEVERAL, SINGLE, FIGURES, CAPITALS = (1 << n for n in range(8, 16))


def forms(kind: str, value: str) -> Iterator[tuple[str, int]]:
    """(form, bits) of a value: how it is looked for, and under which conditions it counts."""
    parts = words(folded(value))
    if not parts or kind in UNSEARCHED:
        return
    joined = "".join(parts)
    if any(character.isdigit() for character in joined):
        yield from _number(kind, value, joined)
    elif kind == "PERSON":
        yield from _person([part for part in parts if part not in _TITLES] or parts)
    elif len(parts) == 1:
        yield from _word(kind, joined)
    elif not all(flags(part) & _GENERIC for part in parts) and len(joined) >= 6:
        yield joined, STRONG | (SEVERAL if flags(joined) & WORD or len(joined) < 8 else 0)
    elif kind == "CITY":
        yield joined, TOWN


def _number(kind: str, value: str, joined: str) -> Iterator[tuple[str, int]]:
    figures = FIGURES if joined.isdecimal() else 0
    if kind == "ZIP" and figures and len(joined) == 5:
        yield joined, ZIP | figures
    elif guard.is_code(value.strip()) or (figures and _DAY.fullmatch(joined)):
        return
    elif len(joined) >= 6 or (len(joined) == 5 and sum(map(str.isalpha, joined)) >= 2):
        yield joined, STRONG | figures
        if kind in ("PHONE", "FAX") and figures and len(joined) == 11 and joined[0] == "1":
            yield joined[1:], STRONG | figures


def _word(kind: str, word: str) -> Iterator[tuple[str, int]]:
    name = NAME if kind == "PERSON" else TOWN if kind == "CITY" else 0
    long_enough = len(word) >= (4 if word.isascii() else 2)
    if long_enough and not flags(word) & _ORDINARY:
        yield word, STRONG | SINGLE
    elif name and (len(word) >= 3 or (name == NAME and len(word) == 2)):
        yield word, name | SINGLE


def _person(parts: list[str]) -> Iterator[tuple[str, int]]:
    if len(parts) == 1:
        yield from _word("PERSON", parts[0])
        return
    full = [part for part in parts if len(part) > 1]
    orders = [part for some in (parts, full) for part in _rotations(some)]
    if len(full) >= 2:
        orders += [[full[0], full[-1]], [full[-1], full[0]]]
    for order in orders:
        joined = "".join(order)
        if len(order) < 2 or len(joined) < 4:
            continue
        several = SEVERAL if len(joined) < 8 or flags(joined) & WORD else 0
        plain = CAPITALS if len(joined) < 7 and all(flags(part) & STOP for part in order) else 0
        yield joined, STRONG | several | plain
    for part in full:
        if len(part) >= 3:
            yield part, NAME | SINGLE


def _rotations(parts: list[str]) -> list[list[str]]:
    return [parts[n:] + parts[:n] for n in range(len(parts))]


class Hit(NamedTuple):
    """Pieces first to last (inclusive) of a reading are a value of this kind."""

    first: int
    last: int
    kind: str
    bits: int


class _Table(NamedTuple):
    """What a Forms holds, replaced as a whole: sorted hashes, the bits and kind of each, lengths by hashed beginning."""

    hashes: np.ndarray
    bits: np.ndarray
    kinds: list[str]
    lengths: dict[int, int]


class Forms:
    """A set of forms that says nothing of what it holds: keyed hashes, and lengths by hashed beginnings."""

    def __init__(self) -> None:
        self._keyed = hashlib.blake2b(key=secrets.token_bytes(32), digest_size=8)
        self._table = _Table(np.empty(0, np.uint64), np.empty(0, np.uint16), [], {})

    def __len__(self) -> int:
        return len(self._table.hashes)

    def add(self, values: Iterable[tuple[str, Iterable[tuple[str, int]]]]) -> None:
        """Add the forms of values: (kind, forms) each. Where two values share a form, the one that fires alone counts."""
        hashes: list[bytes] = []
        bits: list[int] = []
        old = self._table
        lengths = dict(old.lengths)
        kinds = {kind: n for n, kind in enumerate(old.kinds)}
        for kind, some in values:
            number = kinds.setdefault(kind, len(kinds))
            for form, conditions in some:
                form = form[:_LONGEST]
                hashes.append(self._hash(form))
                bits.append(number | conditions)
                prefix = hash(form[:_PREFIX])
                lengths[prefix] = lengths.get(prefix, 0) | 1 << len(form)
        if not hashes:
            return
        if len(kinds) > 255:
            raise PolicyError("the vault has more than 255 kinds; the egress guard does not know them apart")
        everything = np.concatenate([old.hashes, np.frombuffer(b"".join(hashes), np.uint64)])
        meaning = np.concatenate([old.bits, np.array(bits, np.uint16)])
        weak = (meaning & STRONG) == 0
        strict = (meaning & (SEVERAL | SINGLE | CAPITALS)) != 0
        order = np.lexsort((strict, weak, everything))
        everything, meaning = everything[order], meaning[order]
        first = np.append(True, everything[1:] != everything[:-1])
        self._table = _Table(everything[first], meaning[first], list(kinds), lengths)

    def _hash(self, form: str) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(form.encode("utf-8", "replace"))
        return keyed.digest()

    def find(self, reading: Reading) -> list[Hit]:
        """All runs of pieces that are a form, whatever its conditions."""
        line, starts, ends, links = reading.line, reading.starts, reading.ends, reading.links
        table, hashed = self._table, self._hash
        lengths = table.lengths
        found: list[tuple[int, int]] = []
        hashes: list[bytes] = []
        for first, start in enumerate(starts):
            head = line[start : start + _PREFIX]
            wanted = lengths.get(hash(head), 0)
            for size in _SHORT:
                if size < len(head):
                    wanted |= lengths.get(hash(head[:size]), 0) & 1 << size
            if not wanted:
                continue
            longest = wanted.bit_length() - 1
            last = first
            while True:
                length = ends[last] - start
                if length > longest:
                    if longest == _LONGEST:  # a value cut at that length; its rest may stand in the middle of a piece
                        found.append((first, last))
                        hashes.append(hashed(line[start : start + _LONGEST]))
                    break
                if wanted >> length & 1:
                    found.append((first, last))
                    hashes.append(hashed(line[start : start + length]))
                if links[last] == APART:
                    break
                last += 1
        if not hashes:
            return []
        asked = np.frombuffer(b"".join(hashes), np.uint64)
        at = np.searchsorted(table.hashes, asked)
        at[at == len(table.hashes)] = 0
        hits = []
        for n in np.nonzero(table.hashes[at] == asked)[0]:
            bits = int(table.bits[at[n]])
            first, last = found[n]
            hits.append(Hit(first, last, table.kinds[bits & 255], bits))
        return hits


def counted(reading: Reading, hits: Sequence[Hit]) -> Counter[str]:
    """Kinds of the hits that count, alone or two side by side, and how many there are."""
    counts: Counter[str] = Counter()
    weak: list[Hit] = []
    end = -1  # of what was counted: hits come in the order of their first piece
    for hit in sorted(hits, key=lambda one: (one.first, -one.last)):
        if not _whole(reading, hit):
            continue
        if hit.bits & STRONG:
            if hit.last > end:
                counts[hit.kind] += 1
                end = hit.last
        elif hit.last > end:
            weak.append(hit)
    for left, right in _neighbours(weak):
        if _together(reading, left, right):
            counts[left.kind] += 1
    return counts


def _whole(reading: Reading, hit: Hit) -> bool:
    """Whether the pieces belong together the way the form asks for."""
    first, last, _, bits = hit
    if bits & CAPITALS and not all(reading.text[reading.places[n][0]].isupper() for n in range(first, last + 1)):
        return False
    if first == last:
        return not bits & SEVERAL
    links = reading.links[first:last]
    if bits & FIGURES:
        if all(link == TIGHT for link in links):
            return reading.numeric_gaps(first, last)
        if not reading.numeric_gaps(first, last):
            return False
        if links.count(BROKEN) == 1 and LOOSE not in links:
            return True
        sizes = [reading.ends[n] - reading.starts[n] for n in range(first, last + 1)]
        # a country code may be one figure; columns of a table must not pass for an id
        return sum(sizes) >= 9 and min(sizes[1:]) >= 2 and (sizes[0] >= 2 or sum(sizes) >= 11)
    if bits & SINGLE:  # one word, found in several pieces
        if all(reading.places[n][1] == reading.places[n + 1][0] for n in range(first, last)):
            return True
        pieces = [reading.piece(n) for n in range(first, last + 1)]
        if all(len(piece) == 1 for piece in pieces):
            return len(pieces) >= 4
        if BROKEN in links and sum(map(len, pieces)) >= 6:
            return True
        return not all(len(piece) <= 2 or flags(piece) & _ORDINARY for piece in pieces)
    return True


def _neighbours(hits: list[Hit]) -> Iterator[tuple[Hit, Hit]]:
    """Pairs with at most one piece between them; hits come in the order of their first piece."""
    for n, left in enumerate(hits):
        for right in hits[n + 1 :]:
            if right.first > left.last + 2:
                break
            if right.first > left.last:
                yield left, right


def _together(reading: Reading, left: Hit, right: Hit) -> bool:
    if any(reading.links[n] == APART for n in range(left.last, right.first)):
        return False
    between = [reading.piece(n) for n in range(left.last + 1, right.first)]
    if left.bits & TOWN and right.bits & ZIP:
        return all(len(piece) == 2 for piece in between)
    if not (left.bits & NAME and right.bits & NAME) or any(len(piece) > 1 for piece in between):
        return False
    names = [reading.line[reading.starts[hit.first] : reading.ends[hit.last]] for hit in (left, right)]
    if names[0] == names[1]:
        return False
    known = [flags(name) for name in names]
    if not all(flag & _ORDINARY for flag in known):
        return True
    if any(flag & (PAYER | MEDICAL | STATE) for flag in known) or _PAYER_WORDS.issuperset(names):
        return False
    written = [reading.text[reading.places[hit.first][0] : reading.places[hit.last][1]] for hit in (left, right)]
    if not all(text[0].isupper() for text in written):
        return False
    gap = reading.text[reading.places[left.last][1] : reading.places[right.first][0]]
    return "," in gap or ";" in gap or not all(text.isupper() for text in written)


class Source(Protocol):
    """Where known values come from: all of a practice, or those added since the last time."""

    practice: str

    def refresh(self, add: Callable[[Iterable[tuple[str, str]]], None], clear: Callable[[], None]) -> None: ...


class VaultSource:
    """The values of a practice's vault, read in bulk. Reading them is a touch of protected data: the ledger records it."""

    def __init__(self, vault: Vault, ledger: Ledger) -> None:
        self.practice = vault.practice
        self._vault = vault
        self._ledger = ledger
        self._rows = 0
        self._newest: datetime | None = None
        self._recent: set[str] = set()

    def refresh(self, add: Callable[[Iterable[tuple[str, str]]], None], clear: Callable[[], None]) -> None:
        """Give what is new in the vault; everything, after clear(), the first time and where rows have gone.

        Raises StoreUnavailable, KeyUnavailable, TamperedData, LedgerUnavailable.
        """
        state = self._vault.extent(UNSEARCHED)
        if state == (self._rows, self._newest):
            return
        event = Event("read", "egress.index", "operations", self.practice, "vault", details={"known": self._rows})
        with self._ledger.touch(event) as touch:
            added = 0
            if self._newest is not None and state[0] > self._rows:
                added = self._read(add, self._newest - _LATE)
            if self._rows != state[0]:  # rows have gone, or came later than they say
                clear()
                self._rows, self._newest, self._recent = 0, None, set()
                added = self._read(add, None)
            touch.note(added=added)

    def _read(self, add: Callable[[Iterable[tuple[str, str]]], None], since: datetime | None) -> int:
        rows = self._vault.tokens(UNSEARCHED, since)
        kinds = {row.token: row.kind for row in rows if row.token not in self._recent}
        fresh = list(kinds)
        for start in range(0, len(fresh), _BULK):
            values = self._vault.reveal(fresh[start : start + _BULK])
            add((kinds[token], value) for token, value in values.items())
        if rows:
            newest = max(row.created_at for row in rows)
            self._recent = {row.token for row in rows if row.created_at >= newest - _LATE}
            self._newest = newest
        self._rows += len(fresh)
        return len(fresh)


@dataclass
class _State:
    forms: Forms
    due: float = 0.0


class KnownValues:
    """The forms of a source's values, kept up to date. Safe to share between threads.

    max_age: seconds after which the source is asked for new values again (0: each time). A source that takes long is
    asked at most for a twentieth of the time.
    """

    def __init__(self, source: Source, max_age: float = 5.0) -> None:
        self.practice = source.practice
        self._source = source
        self._max_age = max_age
        self._state = _State(Forms(), float("-inf"))
        self._lock = threading.Lock()

    def current(self) -> Forms:
        """The forms, refreshed if they are due. Raises what the source raises: without them nothing goes out."""
        if time.monotonic() >= self._state.due:
            self.refresh()
        return self._state.forms

    def refresh(self) -> None:
        """Take up what the vault has got since, now."""
        with self._lock:
            began = time.monotonic()
            state = _State(self._state.forms)

            def add(values: Iterable[tuple[str, str]]) -> None:
                state.forms.add((kind, forms(kind, value)) for kind, value in values)

            def clear() -> None:
                state.forms = Forms()

            self._source.refresh(add, clear)
            took = time.monotonic() - began
            state.due = time.monotonic() + max(self._max_age, 20 * took if self._max_age else 0.0)
            self._state = state
