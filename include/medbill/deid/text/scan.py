"""Patterns with a time limit: one that runs away stops its text, which is then not released."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import regex

from medbill.deid.text.errors import TextTooHard

#: Seconds one pattern may take on one piece of text (pieces are at most engine.PIECE long).
TIME_LIMIT = 20.0


def finditer(pattern: regex.Pattern[str], text: str, low: int | None = None, high: int | None = None) -> Iterator[Any]:
    """Matches of the pattern in text[low:high]. Raises TextTooHard when the time limit is reached."""
    try:
        yield from pattern.finditer(text, low, high, timeout=TIME_LIMIT)
    except TimeoutError as error:
        raise TextTooHard("a pattern ran out of time on a text; it was not released") from error
