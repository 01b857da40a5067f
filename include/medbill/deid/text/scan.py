"""Patterns with a time limit: one that runs away stops its text, which is then not released."""

from __future__ import annotations

import re
from typing import Any

import regex

from medbill.deid.text.errors import TextTooHard

#: Seconds one pattern may take on one piece of text (pieces are at most engine.PIECE long).
TIME_LIMIT = 20.0


def finditer(pattern: regex.Pattern[str], text: str, low: int | None = None, high: int | None = None) -> list[Any]:
    """Matches of the pattern in text[low:high]. Raises TextTooHard when the time limit is reached."""
    try:
        return list(pattern.finditer(text, low, high, timeout=TIME_LIMIT))
    except TimeoutError as error:
        raise TextTooHard("a pattern ran out of time on a text; it was not released") from error


_WIDEN = 80
_BLANK = re.compile(r"\s")
_LAST_BLANK = re.compile(r"\s(?=\S*\Z)")


def near(pattern: regex.Pattern[str], anchor: re.Pattern[str], text: str, before: int, after: int) -> list[Any]:
    """Matches of a slow pattern around those of a quick one, without which it cannot match: at most `before` characters
    earlier and `after` later, widened to the next blanks."""
    found: list[Any] = []
    low = high = -1
    for hit in anchor.finditer(text):
        a, b = max(0, hit.start() - before), min(len(text), hit.end() + after)
        if a <= high:
            high = max(high, b)
            continue
        if high >= 0:
            found += finditer(pattern, text, *_widened(text, low, high))
        low, high = a, b
    if high >= 0:
        found += finditer(pattern, text, *_widened(text, low, high))
    return found


def _widened(text: str, low: int, high: int) -> tuple[int, int]:
    least, most = max(0, low - _WIDEN), min(len(text), high + _WIDEN)
    blank = _LAST_BLANK.search(text, least, low)
    ahead = _BLANK.search(text, high, most)
    return (blank.end() if blank else least), (ahead.start() if ahead else most)
