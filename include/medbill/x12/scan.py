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

from medbill.x12.codes import U8, U64, segment_lookup
from medbill.x12.delimiters import Delimiters

I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: Zero bytes before and after a section, so that a load of sixteen bytes never leaves the buffer.
PAD = 16
_BLANK = 32  # a byte up to the space, at an edge of an element, is no data

#: Of a little-endian eight-byte load, the first n bytes.
FIRST = np.array([(1 << (8 * n)) - 1 for n in range(9)], np.uint64)


class Section:
    """Columns over the segments of one section.

    start, end: byte positions of every element, and of one empty element after the last (number `none`).
    first: number of each segment's id element; count: how many elements follow it; both have one more entry, for a
    segment that does not exist (number `size`), whose elements are all `none`.
    code: the segment's number in codes.SEGMENTS. head: its first eight bytes as a number.
    """

    def __init__(self, data: bytes, delimiters: Delimiters) -> None:
        self.delimiters = delimiters
        if not data.isascii():
            data = _utf8(data, delimiters)
        if delimiters.element >= 0x80 or delimiters.terminator >= 0x80:
            raise ValueError("delimiters beyond ASCII are replaced before the scan")
        newline = delimiters.terminator in b"\r\n"
        while True:
            self.buffer = b"".join((bytes(PAD), data, bytes(PAD)))
            breaks = self._columns(self.buffer)
            if newline or breaks == data.count(b"\n") + data.count(b"\r"):
                break
            data = data.translate(None, b"\r\n")  # lines wrapped inside of segments

    def _columns(self, buffer: bytes) -> int:
        """Fill the columns; returns how many line breaks at the edges of elements were passed over."""
        octets = np.frombuffer(buffer, np.uint8)
        self.octets = octets
        terminator = self.delimiters.terminator
        mask = octets == self.delimiters.element
        mask |= octets == terminator
        separators = np.flatnonzero(mask)
        del mask
        n = len(separators)
        offsets = np.empty(2 * n + 2, np.int32)
        offsets[0] = PAD
        offsets[1:-1:2] = separators
        np.add(offsets[1:-1:2], 1, out=offsets[2::2])
        offsets[-1] = offsets[-2]
        self.offsets, self.start, self.end = offsets, offsets[0::2], offsets[1::2]
        self.none = n
        last = np.flatnonzero(octets[separators] == terminator).astype(np.int32)
        first = np.empty(len(last) + 1, np.int32)
        first[0] = 0
        np.add(last, 1, out=first[1:])
        breaks = self._trim_ends(octets, separators) + self._trim_starts(octets, first)
        self.first, self.count = first, np.append(last - first[:-1], np.int32(0))
        start, length = self.start[first], self.end[first] - self.start[first]
        blank = (length[:-1] == 0) & (self.count[:-1] == 0)
        if blank.any():
            kept = np.append(~blank, True)
            self.first, self.count, start, length = self.first[kept], self.count[kept], start[kept], length[kept]
        self.size = len(self.first) - 1
        self._windows = np.ndarray(len(buffer) - 7, "V8", buffer, 0, (1,))
        self.head = self.eight(start[:-1])
        self.code: U8 = segment_lookup()(self.head & FIRST[np.minimum(length[:-1], 8)])
        return breaks

    def _trim_ends(self, octets: U8, separators: I64) -> int:
        breaks = 0
        blank = np.flatnonzero(octets[separators - 1] <= _BLANK)
        while True:
            blank = blank[self.end[blank] > self.start[blank]]
            if not len(blank):
                return breaks
            byte = octets[self.end[blank] - 1]
            blank = blank[byte <= _BLANK]
            breaks += int(np.count_nonzero((byte == 10) | (byte == 13)))
            self.end[blank] -= 1

    def _trim_starts(self, octets: U8, first: npt.NDArray[np.int32]) -> int:
        breaks = 0
        ids = first
        while True:
            byte = octets[self.start[ids]]
            blank = (byte <= _BLANK) & (self.end[ids] > self.start[ids])
            if not blank.any():
                return breaks
            ids, byte = ids[blank], byte[blank]
            breaks += int(np.count_nonzero((byte == 10) | (byte == 13)))
            self.start[ids] += 1

    def eight(self, positions: npt.NDArray[Any]) -> U64:
        """Eight bytes from each position, as little-endian numbers."""
        return self._windows[positions].view("<u8")

    def value(self, segment: int, element: int) -> bytes:
        """One element, empty where it is absent. element 0 is the id."""
        if element > self.count[segment]:
            return b""
        at = self.first[segment] + element
        return self.buffer[self.start[at] : self.end[at]]

    def text(self, segment: int, element: int) -> str | None:
        return self.value(segment, element).decode("utf-8", "replace") or None

    def position(self, segment: int) -> int:
        """Where the segment begins in buffer (for `size`: where the section ends)."""
        return int(self.start[self.first[segment]])

    def rest(self, segment: int) -> bytes:
        """The bytes from this segment to the end of the section."""
        return self.buffer[self.position(segment) : -PAD]

    def strings(self) -> pa.Array:
        """All elements as one Arrow array over the section's bytes: element i is entry 2 * i, null where empty."""
        valid = np.ones(len(self.offsets) - 1, np.bool_)
        np.greater(self.end, self.start, out=valid[0::2])
        return string_array(self.buffer, self.offsets, valid)


def string_array(buffer: bytes, offsets: npt.NDArray[np.int32], valid: Bools) -> pa.Array:
    bitmap = np.packbits(valid, bitorder="little")
    return pa.Array.from_buffers(
        pa.string(), len(offsets) - 1, [pa.py_buffer(bitmap), pa.py_buffer(offsets), pa.py_buffer(buffer)]
    )


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
