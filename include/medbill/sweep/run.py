"""One sweep: every place of a plan searched, and what was found as a report that repeats no value."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from medbill.errors import MedbillError
from medbill.sweep.canaries import Canary
from medbill.sweep.containers import TooComplex
from medbill.sweep.places import Item, Left, Place, Plan
from medbill.sweep.search import Hit, Searcher

CLEAN, HITS, CANNOT = 0, 1, 2
#: Hits of one item that are listed one by one; all are counted.
LISTED = 20


@dataclass(frozen=True)
class Found:
    """Hits in one item of a place. more: how many beyond those listed."""

    item: str
    hits: list[Hit]
    more: int = 0


@dataclass
class Searched:
    """How it went in one place. counts: hits by "kind, variant". problem: why it could not be searched, wholly or in part."""

    place: str
    bytes: int = 0
    items: int = 0
    found: list[Found] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    problem: str | None = None


@dataclass
class Report:
    canaries: int
    searched: list[Searched]
    left: list[Left]
    excluded: list[tuple[int, str, str]]

    @property
    def hits(self) -> int:
        return sum(sum(s.counts.values()) for s in self.searched)

    @property
    def problems(self) -> list[str]:
        return [f"{s.place}: {s.problem}" for s in self.searched if s.problem]

    @property
    def code(self) -> int:
        """The exit code. A place that could not be searched weighs more than a hit: the sweep is not done."""
        return CANNOT if self.problems else HITS if self.hits else CLEAN

    def of(self, place: str) -> Searched:
        return next(s for s in self.searched if s.place == place)

    def to_dict(self) -> dict[str, Any]:
        searched = [{**vars(s), "found": [asdict(f) for f in s.found], "counts": dict(s.counts)} for s in self.searched]
        return {
            "canaries": self.canaries,
            "searched": searched,
            "left": [asdict(one) for one in self.left],
            "excluded": [{"canary": n, "kind": kind, "reason": reason} for n, kind, reason in self.excluded],
            "hits": self.hits,
            "problems": self.problems,
            "code": self.code,
        }


def sweep(canaries: list[Canary], plan: Plan, say: Callable[[str], None] = lambda _: None) -> Report:
    """Search every place of a plan for every canary. say: takes a line for each place that is done."""
    searcher = Searcher(canaries)
    done = []
    for place in plan.places:
        done.append(_search(searcher, place))
        say(line(done[-1]))
    excluded = [(e.canary.ordinal, e.canary.kind, e.reason) for e in searcher.excluded]
    return Report(len(canaries) - len(excluded), done, plan.left, excluded)


def line(searched: Searched) -> str:
    """A place as one line of text."""
    state = f"CANNOT SEARCH: {searched.problem}" if searched.problem else ""
    hits = sum(searched.counts.values())
    return f"{searched.place:<44} {searched.bytes:>14,} bytes {hits:>6} hits  {state}".rstrip()


def details(report: Report) -> list[str]:
    """The hits, what was left out, and which canaries were not searched, a line each."""
    out = []
    for searched in report.searched:
        for found in searched.found:
            out += [
                f"HIT {h.kind} #{h.canary} ({h.variant}) in {searched.place}, {found.item}, offset {h.offset}"
                for h in found.hits
            ]
            if found.more:
                out.append(f"    and {found.more} more in {searched.place}, {found.item}")
    out += [f"left out: {left.name} ({left.reason})" for left in report.left]
    out += [f"not searched: {kind} #{ordinal} ({reason})" for ordinal, kind, reason in report.excluded]
    return out


def _search(searcher: Searcher, place: Place) -> Searched:
    done = Searched(place.name)
    try:
        for item in place.items():
            _item(searcher, item, done)
    except TooComplex:
        done.problem = "something in it is damaged, or grows beyond bounds when unpacked"
    except MedbillError as error:
        done.problem = str(error)
    except Exception as error:  # whatever it is, the place was not searched; its text may quote what was read
        done.problem = f"searching it failed ({type(error).__name__})"
    if place.filled and done.problem is None and done.bytes == 0:
        done.problem = "there is not one byte in it: is it the right place?"
    return done


def _item(searcher: Searcher, item: Item, done: Searched) -> None:
    hits: dict[tuple[int, int, str], Hit] = {}
    for offset, data in item.pieces:
        done.bytes += len(data)
        for hit in searcher.find(data):
            moved = Hit(offset + hit.offset, hit.canary, hit.kind, hit.variant)
            hits.setdefault((moved.canary, moved.offset, moved.variant), moved)
    done.items += 1
    if hits:
        own = sorted(hits.values())
        done.found.append(Found(_printable(searcher, item.name), own[:LISTED], max(0, len(own) - LISTED)))
        done.counts.update(f"{h.kind}, {h.variant}" for h in own)


def _printable(searcher: Searcher, name: str) -> str:
    """The name of an item, unless it holds a canary itself."""
    if searcher.holds(name):
        return f"(a name with a canary in it, SHA-256 {hashlib.sha256(name.encode()).hexdigest()[:12]})"
    return name
