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


def led(*ways: str, case: bool = False) -> re.Pattern[str]:
    """Where a word begins in one of these ways, in any case unless told otherwise. Each way begins with a plain letter or
    figure: the search runs from one such character to the next instead of trying every way at every character."""
    first = {way[0] for way in ways}
    if not case:
        first |= {c.upper() for c in first} | {c.lower() for c in first}
    rests = "|".join(f"(?<={way[0]}){way[1:]}" for way in ways)
    return re.compile(f"[{''.join(sorted(first))}](?<=\\b.)(?{'' if case else 'i'}:{rests})")


def at(
    pattern: regex.Pattern[str], lead: re.Pattern[str], text: str, low: int | None = None, high: int | None = None
) -> list[Any]:
    """As finditer(), for a slow pattern that begins only where the quick one does."""
    found: list[Any] = []
    end = low = 0 if low is None else low
    high = len(text) if high is None else high
    try:
        for hit in lead.finditer(text, low, high):
            start = hit.start()
            if start >= end:
                match = pattern.match(text, start, high, timeout=TIME_LIMIT)
                if match is not None:
                    found.append(match)
                    end = match.end()
    except TimeoutError as error:
        raise TextTooHard("a pattern ran out of time on a text; it was not released") from error
    return found


_WIDEN = 80
_BLANK = re.compile(r"\s")
_LAST_BLANK = re.compile(r"\s(?=\S*\Z)")


def near(
    pattern: regex.Pattern[str],
    anchor: re.Pattern[str],
    text: str,
    before: int,
    after: int,
    lead: re.Pattern[str] | None = None,
) -> list[Any]:
    """Matches of a slow pattern around those of a quick one, without which it cannot match: at most `before` characters
    earlier and `after` later, widened to the next blanks. lead: as in at(), where there is one."""
    found: list[Any] = []
    low = high = -1
    for hit in anchor.finditer(text):
        a, b = max(0, hit.start() - before), min(len(text), hit.end() + after)
        if a <= high:
            high = max(high, b)
            continue
        if high >= 0:
            found += _within(pattern, lead, text, low, high)
        low, high = a, b
    if high >= 0:
        found += _within(pattern, lead, text, low, high)
    return found


def _within(pattern: regex.Pattern[str], lead: re.Pattern[str] | None, text: str, low: int, high: int) -> list[Any]:
    low, high = _widened(text, low, high)
    return finditer(pattern, text, low, high) if lead is None else at(pattern, lead, text, low, high)


def _widened(text: str, low: int, high: int) -> tuple[int, int]:
    least, most = max(0, low - _WIDEN), min(len(text), high + _WIDEN)
    blank = _LAST_BLANK.search(text, least, low)
    ahead = _BLANK.search(text, high, most)
    return (blank.end() if blank else least), (ahead.start() if ahead else most)
