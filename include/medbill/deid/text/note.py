"""One text with what all recognizers need of it, computed once."""

from __future__ import annotations

from bisect import bisect_left
from functools import cached_property

from medbill.deid.text import guard, words
from medbill.deid.text.view import View
from medbill.deid.text.words import Word


class Note:
    """text: the view that recognizers search; spans they return are offsets into it."""

    def __init__(self, original: str) -> None:
        self.view = View(original)
        self.text = self.view.text

    @cached_property
    def runs(self) -> list[list[Word]]:
        return words.capitalised(self.text)

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
