"""Spans: what a detector found, and how overlapping findings become one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple


class Span(NamedTuple):
    """An identifier in a text: text[start:end]. type is also the vault's kind; score 0 to 1; detector says who found it."""

    start: int
    end: int
    type: str
    score: float
    detector: str


def spot(match: Any, group: int, type: str, score: float, detector: str) -> Span:
    """The span of a group of a match."""
    start, end = match.span(group)
    return Span(start, end, type, score, detector)


def resolve(spans: Iterable[Span]) -> list[Span]:
    """Disjoint spans in text order. Overlapping ones become their union, so that no found character is lost.

    The union bears type and detector of the member with the highest score, then the longest, then the first by name:
    the same findings always give the same answer, in whatever order they come.
    """
    merged: list[Span] = []
    best: Span | None = None
    for span in sorted(spans):
        if merged and best is not None and span.start < merged[-1].end:
            if (span.score, span.end - span.start) > (best.score, best.end - best.start):
                best = span
            last = merged[-1]
            merged[-1] = Span(last.start, max(last.end, span.end), best.type, best.score, best.detector)
        else:
            merged.append(span)
            best = span
    return merged
