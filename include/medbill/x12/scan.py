"""Bytes into columns of segments and elements, without a Python object per segment.

A section is a run of whole segments under one set of delimiters. Its separators are found in one pass; elements are
then offsets into the bytes, and any element of any segment is reached by adding its number to the segment's first.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from medbill.x12 import arrays
from medbill.x12.codes import U8, U64, segment_lookup
from medbill.x12.delimiters import Delimiters

I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: Bytes before and after a section, so that a load of sixteen bytes (arrays.text too) never leaves the buffer.
PAD = 16
_PADDING = b"\x7f" * PAD
_BLANK = 32  # a byte up to the space, at an edge of an element, is no data

#: Of a little-endian eight-byte load, the first n bytes.
FIRST = np.array([(1 << (8 * n)) - 1 for n in range(9)], np.uint64)


class Section:
    """Columns over the segments of one section.

    start, end: byte positions of every element, and of one empty element after the last (number `none`).
    first, last: number of each segment's id element and of its last one; both have one more entry, for a segment that
    does not exist (number `size`).
    code: the segment's number in codes.SEGMENTS. head: its first eight bytes as a number.
    """

    def __init__(self, data: bytes, delimiters: Delimiters) -> None:
        self.delimiters = delimiters
        if not data.isascii():
            data = _utf8(data, delimiters)
        if delimiters.element >= 0x80 or delimiters.terminator >= 0x80:
            raise ValueError("delimiters beyond ASCII are replaced before the scan")
        broken = delimiters.terminator not in b"\r\n" and (b"\n" in data or b"\r" in data)
        while True:
            self.buffer = b"".join((_PADDING, data, _PADDING))
            breaks = self._columns(self.buffer)
            if not broken or breaks == data.count(b"\n") + data.count(b"\r"):
                break
            data = data.translate(None, b"\r\n")  # lines wrapped inside of segments

    def _columns(self, buffer: bytes) -> int:
        """Fill the columns; returns how many line breaks at the edges of elements were passed over."""
        octets = np.frombuffer(buffer, np.uint8)
        self.octets = octets
        terminator, separator = self.delimiters.terminator, self.delimiters.element
        inner = octets[PAD:-PAD]
        ends = inner == terminator
        mask = inner == separator
        mask |= ends
        positions = mask.nonzero()[0]
        last = ends.take(positions).nonzero()[0]
        blank = octets <= _BLANK
        mask &= blank[PAD - 1 : -PAD - 1]
        ends &= blank[PAD + 1 : len(octets) - PAD + 1]
        loose_ends, loose_starts = bool(mask.any()), bool(blank[PAD] or ends.any())
        del ends, mask, blank
        n = len(positions)
        self.start, self.end = np.empty(n + 1, np.int32), np.empty(n + 1, np.int32)
        self.end[:-1] = positions
        self.end[:-1] += PAD
        del positions
        self.start[0] = PAD
        np.add(self.end[:-1], 1, out=self.start[1:])
        self.end[-1] = self.start[-1]
        self.none = n
        first = np.empty(len(last) + 1, np.int64)
        first[0] = 0
        np.add(last, 1, out=first[1:])
        breaks = (self._trim_ends() if loose_ends else 0) + (self._trim_starts(first) if loose_starts else 0)
        self.first, self.last = first, np.append(last, n)
        start = self.start.take(first[:-1])
        length = self.end.take(first[:-1]) - start
        if np.min(length, initial=1) == 0:
            kept = (length > 0) | (last > first[:-1])  # nothing but blanks between two terminators is no segment
            self.first, self.last = first[np.append(kept, True)], self.last[np.append(kept, True)]
            start, length = start[kept], length[kept]
        self.size = len(self.first) - 1
        self._windows = np.ndarray(len(buffer) - 7, "V8", buffer, 0, (1,))
        self.head = self.eight(start)
        self.code: U8 = segment_lookup()(self.head & FIRST.take(length, mode="clip"))
        return breaks

    def _trim_ends(self) -> int:
        breaks = 0
        rows = (self.octets.take(self.end[:-1] - 1) <= _BLANK).nonzero()[0]
        while True:
            rows = rows[self.end[rows] > self.start[rows]]
            byte = self.octets[self.end[rows] - 1]
            blank = byte <= _BLANK
            rows, byte = rows[blank], byte[blank]
            if not len(rows):
                return breaks
            breaks += int(np.count_nonzero((byte == 10) | (byte == 13)))
            self.end[rows] -= 1

    def _trim_starts(self, first: I64) -> int:
        breaks = 0
        rows = first[self.octets.take(self.start.take(first)) <= _BLANK]
        while True:
            byte = self.octets[self.start[rows]]
            blank = (byte <= _BLANK) & (self.end[rows] > self.start[rows])
            rows, byte = rows[blank], byte[blank]
            if not len(rows):
                return breaks
            breaks += int(np.count_nonzero((byte == 10) | (byte == 13)))
            self.start[rows] += 1

    def eight(self, positions: npt.NDArray[Any]) -> U64:
        """Eight bytes from each position, as little-endian numbers."""
        words: U64 = self._windows[positions].view("<u8")
        return words

    def value(self, segment: int, element: int) -> bytes:
        """One element, empty where it is absent. element 0 is the id."""
        at = self.first[segment] + element
        if at > self.last[segment]:
            return b""
        return self.buffer[self.start[at] : self.end[at]]

    def elements(self, segments: npt.NDArray[Any], number: npt.NDArray[Any] | int) -> I64:
        """Number of that element of each segment, `none` where it is absent."""
        elements: I64 = self.first[segments] + number
        elements[elements > self.last[segments]] = self.none
        return elements

    def text(self, segment: int, element: int) -> str | None:
        return self.value(segment, element).decode("utf-8", "replace") or None

    def position(self, segment: int) -> int:
        """Where the segment begins in buffer (for `size`: where the section ends)."""
        return int(self.start[self.first[segment]])

    def rest(self, segment: int) -> bytes:
        """The bytes from this segment to the end of the section."""
        return self.buffer[self.position(segment) : -PAD]

    def strings(self, elements: npt.NDArray[Any]) -> pa.Array:
        """The elements as text, null where empty."""
        start = self.start.take(elements)
        return arrays.text(self.octets, start, self.end.take(elements) - start)


def _utf8(data: bytes, delimiters: Delimiters) -> bytes:
    """Each value kept where it is valid UTF-8, otherwise taken for Latin-1 and encoded anew."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        marks = re.escape(bytes([delimiters.element, delimiters.component, delimiters.terminator]))
        return re.sub(rb"[^" + marks + rb"]+", _value_as_utf8, data)
    return data


def _value_as_utf8(match: re.Match[bytes]) -> bytes:
    value = match[0]
    if value.isascii():
        return value
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1").encode("utf-8")
    return value
