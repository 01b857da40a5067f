"""Procedure identifiers (SVC01 and SVC06): qualifier, code and modifiers out of composite elements."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from medbill.x12 import arrays
from medbill.x12.scan import I64, Section

Ints = npt.NDArray[Any]


class Procedures:
    """SVC01 and SVC06 of all lines, split at the component separator of the interchange.

    Where a SVC01 does not contain it but has another sign in third place, that sign is taken for the separator
    (payers do send such files): `foreign` holds those lines.
    """

    def __init__(self, section: Section, lines: Ints) -> None:
        paid, submitted = section.elements(lines, 1), section.elements(lines, 6)
        self.paid_rows = (section.end[paid] > section.start[paid]).nonzero()[0]
        self.submitted_rows = (section.end[submitted] > section.start[submitted]).nonzero()[0]
        elements = np.concatenate((paid[self.paid_rows], submitted[self.submitted_rows]))
        self._lines, self._section = len(lines), section
        self.foreign = np.zeros(0, np.int64)
        if len(elements):
            self._split(section.start[elements], section.end[elements])

    def _split(self, starts: Ints, ends: Ints) -> None:
        octets = self._section.octets
        lengths = ends - starts
        marks, owner = self._marks(starts, lengths)
        third = octets[np.minimum(starts + 2, ends - 1)]
        letter = ((third | 0x20) - ord("a") < 26) | (third - ord("0") < 10)
        odd = np.flatnonzero((np.bincount(owner, minlength=len(starts)) == 0) & (lengths > 3) & ~letter)
        if len(odd):
            extra = [(octets[starts[i] : ends[i]] == third[i]).nonzero()[0] + starts[i] for i in odd]
            marks = np.concatenate((marks, *extra))
            owner = np.concatenate((owner, np.repeat(odd, [len(e) for e in extra])))
            order = np.lexsort((marks, owner))
            marks, owner = marks[order], owner[order]
            self.foreign = np.unique(np.concatenate((self.paid_rows, self.submitted_rows))[odd])
        pieces = np.bincount(owner, minlength=len(starts)) + 1
        self._first = np.cumsum(pieces) - pieces
        self._pieces = pieces
        total = len(starts) + len(marks)
        # one more piece, an empty one, stands for all that is absent
        self._begin, self._end = np.zeros(total + 1, np.int32), np.zeros(total + 1, np.int32)
        inner = np.arange(len(marks)) + owner + 1
        self._begin[self._first], self._begin[inner] = starts, marks + 1
        self._end[self._first + pieces - 1], self._end[inner - 1] = ends, marks
        self._none = total

    def _marks(self, starts: Ints, lengths: Ints) -> tuple[I64, I64]:
        """Places of the component separators in these elements, in order, and the element each is in."""
        octets, component = self._section.octets, self._section.delimiters.component
        marks, owners = [], []
        rows = np.arange(len(starts))
        for at in range(0, int(lengths.max()), arrays.WIDE):  # seldom more than once
            rows = rows[lengths[rows] > at] if at else rows
            window = arrays.windows(octets)[starts[rows] + at].view(np.uint8)
            found = (window == component).nonzero()[0]
            row, place = found // arrays.WIDE, found % arrays.WIDE + at
            owner = rows[row]
            inside = place < lengths[owner]
            owners.append(owner[inside])
            marks.append(starts[owners[-1]] + place[inside])
        if len(marks) == 1:
            return marks[0], owners[0]
        mark, owner = np.concatenate(marks), np.concatenate(owners)
        order = np.lexsort((mark, owner))
        return mark[order], owner[order]

    def columns(self) -> dict[str, pa.Array]:
        """procedure_qualifier, procedure_code, modifiers, submitted_code, submitted_modifiers."""
        if not len(self.paid_rows) + len(self.submitted_rows):
            empty = arrays.lists(np.zeros(self._lines + 1, np.int32), arrays.nulls(0, pa.string()))
            return {"modifiers": empty, "submitted_modifiers": empty}
        n = len(self.paid_rows)
        paid, submitted = np.arange(n), np.arange(n, n + len(self.submitted_rows))
        paid_modifiers, paid_offsets = self._modifiers(paid, self.paid_rows)
        submitted_modifiers, submitted_offsets = self._modifiers(submitted, self.submitted_rows)
        wanted = {
            "procedure_qualifier": self._component(paid, self.paid_rows, 0),
            "procedure_code": self._component(paid, self.paid_rows, 1),
            "modifiers": paid_modifiers,
            "submitted_modifiers": submitted_modifiers,
        }
        if len(submitted):
            wanted["submitted_code"] = self._component(submitted, self.submitted_rows, 1)
        pieces = np.concatenate(list(wanted.values()))
        begin = self._begin[pieces]
        text = arrays.text(self._section.octets, begin, self._end[pieces] - begin)
        cuts = np.cumsum([0, *map(len, wanted.values())]).tolist()
        columns = {name: text[i:j] for name, (i, j) in zip(wanted, pairwise(cuts), strict=True)}
        columns["modifiers"] = arrays.lists(paid_offsets, columns["modifiers"])
        columns["submitted_modifiers"] = arrays.lists(submitted_offsets, columns["submitted_modifiers"])
        return columns

    def _component(self, composites: I64, rows: I64, number: int) -> I64:
        pieces = np.full(self._lines, self._none, np.int64)
        pieces[rows] = np.where(self._pieces[composites] > number, self._first[composites] + number, self._none)
        return pieces

    def _modifiers(self, composites: I64, rows: I64) -> tuple[I64, npt.NDArray[np.int32]]:
        """Pieces 3 to 6 that are not empty, and where each line's begin."""
        some = (self._pieces[composites] > 2).nonzero()[0]
        numbers = np.arange(2, 6)
        pieces = self._first[composites[some]][:, None] + numbers
        there = self._pieces[composites[some]][:, None] > numbers
        pieces[~there] = self._none
        there = self._end[pieces] > self._begin[pieces]
        counts = np.zeros(self._lines, np.int64)
        counts[rows[some]] = there.sum(axis=1)
        return pieces[there], arrays.offsets(counts)
