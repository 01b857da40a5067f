"""One text with what all recognizers need of it, computed once."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Set
from functools import cached_property

from medbill.deid.text import guard, words
from medbill.deid.text.view import View
from medbill.deid.text.words import Word

_FORM = re.compile(r"[^\W_]+")
_TOKEN = re.compile(r"#?[A-Za-z0-9]+(?:[-/._][A-Za-z0-9]+)*")


class Note:
    """text: the view that recognizers search; spans they return are offsets into it."""

    def __init__(self, original: str) -> None:
        self.view = View(original)
        self.text = self.view.text

    @cached_property
    def runs(self) -> list[list[Word]]:
        return words.capitalised(self.text)

    @cached_property
    def forms(self) -> frozenset[str]:
        """Every run of letters and digits, as written."""
        return frozenset(_FORM.findall(self.text))

    @cached_property
    def words(self) -> frozenset[str]:
        """Every run of letters and digits, in lower case: what decides whether a pattern is worth trying."""
        return frozenset(_FORM.findall(self.text.lower()))

    def has(self, triggers: Set[str]) -> bool:
        """Whether any of these words (lower case) is in the text."""
        return not self.words.isdisjoint(triggers)

    @cached_property
    def tokens(self) -> list[tuple[int, int]]:
        """Where tokens with a digit stand: letters, digits and single marks between them."""
        return [m.span() for m in _TOKEN.finditer(self.text) if not m[0].isalpha()]

    @cached_property
    def _guard(self) -> tuple[list[int], list[int]]:
        starts: list[int] = []
        ends: list[int] = []
        for start, end in guard.protected(self.text):
            if starts and start < ends[-1]:
                ends[-1] = max(ends[-1], end)
            else:
                starts.append(start)
                ends.append(end)
        return starts, ends

    def protected(self, start: int, end: int) -> bool:
        """Whether any of text[start:end] is a code, an amount, a dose or a vital sign."""
        starts, ends = self._guard
        return bisect_left(starts, end) > bisect_left(ends, start + 1)
