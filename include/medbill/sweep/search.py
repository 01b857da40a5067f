"""Finds canaries in bytes, in every reading of them and every way to write each: one pass of an automaton a reading.

A reading is searched with everything but letters and figures taken out, so that other case, other separators and line
breaks inside a value do not hide it; a hit is then looked at in the reading itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from ahocorasick_rs import BytesAhoCorasick, Implementation

from medbill.sweep.canaries import CONTEXT, Canary, Needle, needles
from medbill.sweep.views import View, views

#: Bytes between two letters of a value at most; and for a number how often something may stand in it, unless it is spaced
#: out figure by figure: figures of many cells that make up a number stand in any table.
MOST_GAP, MOST_GAPS = 12, 4
_FIGURES, _SPACING = frozenset(b"0123456789"), frozenset(b"\t -./_:()")


@dataclass(frozen=True, order=True)
class Hit:
    """A canary that was found. offset: where, in the bytes as they lie; about, where they were decoded first."""

    offset: int
    canary: int
    kind: str
    variant: str


class Searcher:
    """Searches for these canaries. excluded: those of them that cannot be told from chance, and why."""

    def __init__(self, canaries: Iterable[Canary]) -> None:
        self._needles, self.excluded = needles(canaries)
        self._automaton = BytesAhoCorasick([n.squeezed for n in self._needles], implementation=Implementation.DFA)

    def find(self, data: bytes) -> list[Hit]:
        """Every canary in data, in the order of their places. Raises TooComplex where it cannot be read within bounds."""
        found: dict[tuple[int, int, tuple[str, ...]], Hit] = {}
        for view in views(data):
            for n, start, end in self._automaton.find_matches_as_indexes(view.squeezed, overlapping=True):
                needle = self._needles[n]
                variant = _variant(view, needle, start, end)
                if variant is None:
                    continue
                offset = view.offset(int(view.kept[start]))
                hit = Hit(offset, needle.canary.ordinal, needle.canary.kind, variant)
                found.setdefault((needle.canary.ordinal, offset, view.how), hit)
        return sorted(found.values())

    def holds(self, text: str) -> bool:
        """Whether a name, such as a path, holds a canary: then it may not be printed."""
        return bool(self.find(text.encode("utf-8", "surrogateescape")))


def _variant(view: View, needle: Needle, start: int, end: int) -> str | None:
    """How a value is written where its letters and figures stand; None where they are not that value."""
    places = [int(k) for k in view.kept[start:end]]
    if any(j - i > MOST_GAP + 1 for i, j in pairwise(places)):
        return None
    a, b = places[0], places[-1] + 1
    data = view.data
    if needle.whole and not _whole(data, needle, places):
        return None
    if needle.label is not None:
        before = data[max(0, a - CONTEXT) : a]
        if needle.label.search(before) is None:
            return None
    written = data[a:b]
    value = needle.canary.value.encode("utf-8", "surrogateescape")
    steps = [*view.how]
    if needle.form:
        steps.append(needle.form)
    elif written == value:
        steps += [] if steps else ["plain"]
    elif written.lower() == value.lower():
        steps.append("case")
    elif b"\0" in written and written.replace(b"\0", b"").lower() == value.lower():
        steps.append("utf-16")
    else:
        steps.append("split")
    return " > ".join(steps)


def _whole(data: bytes, needle: Needle, places: list[int]) -> bool:
    """Whether a number stands for itself: no figure beside it, and not put together of many others."""
    a, b = places[0], places[-1] + 1
    if needle.squeezed[:1].isdigit() and _beside(data[max(0, a - 2) : a][::-1]):
        return False
    if needle.squeezed[-1:].isdigit() and _beside(data[b : b + 2]):
        return False
    between = [data[i + 1 : j].replace(b"\0", b"") for i, j in pairwise(places)]
    if sum(1 for gap in between if gap) <= MOST_GAPS:
        return True
    return all(gap and len(gap) <= MOST_GAPS and _SPACING.issuperset(gap) for gap in between)


def _beside(near: bytes) -> bool:
    """Whether the nearest byte, but for the zero bytes of UTF-16, is a figure."""
    return near.replace(b"\0", b"")[:1] != b"" and near.replace(b"\0", b"")[0] in _FIGURES
