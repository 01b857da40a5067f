"""One text with what all recognizers need of it, computed once."""

from __future__ import annotations

import re
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
        self._protected: dict[tuple[int, int], bool] = {}

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

    @cached_property
    def mixed(self) -> list[str]:
        """The forms that have both letters and digits."""
        return [form for form in self.forms if not form.isalpha() and not form.isdigit()]

    @cached_property
    def names(self) -> list[tuple[Word, str, str]]:
        """Words with a capital, in order: each with its lower case, whole and up to a hyphen or "'s"."""
        lowered = ((word, word.text.lower()) for run in self.runs for word in run)
        return [(word, low, low.partition("-")[0].removesuffix("'s")) for word, low in lowered]

    @cached_property
    def leads(self) -> list[list[str]]:
        """For each run the last words before it, in lower case, with their punctuation."""
        text = self.text.lower() if len(self.text.lower()) == len(self.text) else self.text
        return [text[max(0, run[0].start - 40) : run[0].start].split()[-4:] for run in self.runs]

    def has(self, triggers: Set[str]) -> bool:
        """Whether any of these words (lower case) is in the text."""
        return not self.words.isdisjoint(triggers)

    @cached_property
    def tokens(self) -> list[tuple[int, int]]:
        """Where tokens with a digit stand: letters, digits and single marks between them."""
        return [m.span() for m in _TOKEN.finditer(self.text) if not m[0].isalpha()]

    def protected(self, start: int, end: int) -> bool:
        """Whether any of text[start:end] is a code, an amount, a dose or a vital sign."""
        key = (start, end)
        known = self._protected.get(key)
        if known is None:
            known = guard.covers(self.text, start, end)
            self._protected[key] = known
        return known
