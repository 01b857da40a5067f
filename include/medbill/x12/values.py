"""Exact numbers and dates out of bytes, whole columns at a time.

Amounts become integers of the column's last decimal (cents for money); nothing passes through a float. Up to eight
characters are read as one 64-bit number whose digits are then added up in parallel; what does not fit that shape
(plus signs, more decimals, text) is read one by one, so that speed never decides what is accepted.
"""

from __future__ import annotations

import datetime
import re
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from medbill.x12.codes import U64
from medbill.x12.scan import FIRST, I64, Bools, Section

#: Amounts from here on are not taken for real, in units of the last decimal; sums of a section then fit 64 bits.
LIMIT = 10**13
_NUMBER = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)")


def _u64(value: int) -> np.uint64:
    return np.uint64(value % 2**64)


_ZEROS = _u64(0x3030303030303030)
_DOTS = _u64(0x2E2E2E2E2E2E2E2E)
_LOW7 = _u64(0x7F7F7F7F7F7F7F7F)
_HIGH4 = _u64(0xF0F0F0F0F0F0F0F0)
_SIX = _u64(0x0606060606060606)
#: of n characters at the end of a load of eight: which bits they take, zeros for the rest, where the first one is
_KEPT = np.array([(2**64 - 1) - (2 ** (8 * (8 - n)) - 1) for n in range(9)], np.uint64)
_FILL = _ZEROS & ~_KEPT
_SIGN_SHIFT = np.array([8 * (8 - n) if n else 0 for n in range(9)], np.uint64)


def parse_one(text: bytes, scale: int) -> int | None:
    """The number in units of 10**-scale; None where it is no X12 R or N element, not exact at this scale, or absurd."""
    text = text.strip()
    if not _NUMBER.fullmatch(text) or len(text) > 40:
        return None
    value = Decimal(text.decode("ascii")).scaleb(scale)
    whole = int(value)
    return whole if whole == value and abs(whole) < LIMIT else None


def parse_date(text: bytes) -> datetime.date | None:
    """CCYYMMDD; None where it is not a day of the calendar."""
    if len(text) != 8 or not text.isdigit():
        return None
    try:
        return datetime.date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return None


def _digits(w: U64) -> tuple[U64, Bools]:
    """The number eight digit characters make, and whether they all are digits."""
    good = ((w & _HIGH4) | (((w + _SIX) & _HIGH4) >> _u64(4))) == _u64(0x3333333333333333)
    v = ((w & _u64(0x0F0F0F0F0F0F0F0F)) * _u64(2561)) >> _u64(8)
    v = ((v & _u64(0x00FF00FF00FF00FF)) * _u64(6553601)) >> _u64(16)
    return ((v & _u64(0x0000FFFF0000FFFF)) * _u64(42949672960001)) >> _u64(32), good


def numbers(section: Section, elements: npt.NDArray[Any], scale: int) -> tuple[I64, Bools, Bools]:
    """Values of the elements in units of 10**-scale (0 where there is none), which have one, which are malformed.

    scale is 2 or 3. An empty element has no value and is not malformed.
    """
    end = section.end[elements]
    length = end - section.start[elements]
    n = np.minimum(length, 8)
    w = section.eight(end - 8)
    w &= _KEPT[n]
    w |= _FILL[n]
    shift = _SIGN_SHIFT[n]
    negative = ((w >> shift) & _u64(0xFF)) == _u64(ord("-"))
    w ^= (negative * _u64(ord("-") ^ ord("0"))) << shift
    # exact test for a dot: 0x80 in each byte that is one
    dot = w ^ _DOTS
    dot = ~(((dot & _LOW7) + _LOW7) | dot | _LOW7)
    below = (dot >> _u64(7)) - _u64(1)
    above = ~((dot << _u64(1)) - _u64(1))
    pointed = dot != 0
    w = np.where(pointed, (w & above) | ((w & below) << _u64(8)) | _u64(0x30), w)
    value, good = _digits(w)
    at6, at5, at4 = ((dot >> _u64(bit)) & _u64(1) for bit in (55, 47, 39))
    if scale == 2:
        factor = _u64(100) - at6 * _u64(90) - at5 * _u64(99)
        good &= (dot & _u64(0x00000080_80808080)) == 0
    else:
        factor = _u64(1000) - at6 * _u64(900) - at5 * _u64(990) - at4 * _u64(999)
        good &= (dot & _u64(0x00000000_80808080)) == 0
    good &= (length <= 8) & (length > negative.astype(np.int32) + pointed)
    result = (value * factor).view(np.int64)
    np.negative(result, out=result, where=negative)
    there = length > 0
    rest = np.flatnonzero(there & ~good)
    if len(rest):
        _longer(section, np.asarray(elements)[rest], rest, scale, result, good)
    good &= there
    result *= good
    return result, good, there & ~good


def _longer(section: Section, elements: npt.NDArray[Any], rows: I64, scale: int, result: I64, good: Bools) -> None:
    """Numbers of nine to sixteen characters by two loads, whatever else there is one by one."""
    start, end = section.start[elements], section.end[elements]
    length = end - start
    n = np.clip(length - 8, 1, 8)
    high = (section.eight(end - 16) & _KEPT[n]) | _FILL[n]
    negative = ((high >> _SIGN_SHIFT[n]) & _u64(0xFF)) == _u64(ord("-"))
    high ^= (negative * _u64(ord("-") ^ ord("0"))) << _SIGN_SHIFT[n]
    low = section.eight(end - 8)
    points = np.array([[0, 47, 55]], np.uint64)  # without a point, two decimals, one decimal
    value_high, fits = _digits(high)
    done = np.zeros(len(rows), np.bool_)
    for bit in points[0]:
        if bit:
            at = _u64(0x80) << (bit - _u64(7))
            here = (low >> (bit - _u64(7))) & _u64(0xFF) == _u64(ord("."))
            below = (at >> _u64(7)) - _u64(1)
            above = ~((at << _u64(1)) - _u64(1))
            joined = (low & above) | ((low & below) << _u64(8)) | _u64(0x30)
            power, factor = 10**7, 10**scale // (100 if bit == 47 else 10)
        else:
            here, joined, power, factor = np.ones(len(rows), np.bool_), low, 10**8, 10**scale
        value_low, low_fits = _digits(joined)
        whole = value_high * _u64(power) + value_low
        taken = here & fits & low_fits & (length > 8) & (length <= 16) & ~done & (whole < _u64(LIMIT // factor))
        done |= taken
        result[rows[taken]] = np.where(negative, -1, 1)[taken] * (whole[taken] * _u64(factor)).view(np.int64)
    good[rows[done]] = True
    for i in np.flatnonzero(~done):
        one = parse_one(section.buffer[start[i] : end[i]], scale)
        good[rows[i]] = one is not None
        result[rows[i]] = one or 0


_YEARS = np.arange(10_000)
_LEAP = (_YEARS % 4 == 0) & ((_YEARS % 100 != 0) | (_YEARS % 400 == 0))
_BEFORE = _YEARS - 1
#: days from 1970-01-01 to the first of January of each year
_NEW_YEAR = (_BEFORE * 365 + _BEFORE // 4 - _BEFORE // 100 + _BEFORE // 400 - 719_162).astype(np.int32)
_LENGTHS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], np.int32)
#: per month number up to 99, common years then leap years: days before it, and days it has
_DAYS_IN, _DAYS_BEFORE = np.zeros(200, np.int32), np.zeros(200, np.int32)
for _leap in (0, 1):
    _months = _LENGTHS + np.array([0, 0, _leap] + [0] * 10)
    _DAYS_IN[100 * _leap : 100 * _leap + 13] = _months
    _DAYS_BEFORE[100 * _leap + 1 : 100 * _leap + 14] = np.cumsum(_months)


def dates(section: Section, elements: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int32], Bools, Bools]:
    """Days since 1970-01-01 of CCYYMMDD elements, which have one, which are malformed."""
    start = section.start[elements]
    length = section.end[elements] - start
    value, good = _digits(section.eight(start))
    good &= length == 8
    value *= good
    number = value.astype(np.uint32)
    year, rest = number // np.uint32(10_000), number % np.uint32(10_000)
    month, day = rest // np.uint32(100), (rest % np.uint32(100)).astype(np.int32)
    slot = month + np.uint32(100) * _LEAP[year]
    good &= (day >= 1) & (day <= _DAYS_IN[slot]) & (year >= 1)
    days = _NEW_YEAR[year] + _DAYS_BEFORE[slot] + day - 1
    days *= good
    return days.astype(np.int32), good, (length > 0) & ~good


def decimals(values: I64, valid: Bools | None, kind: pa.DataType) -> pa.Array:
    """Arrow decimal128 of integers in units of its last decimal."""
    words = np.empty((len(values), 2), np.int64)
    words[:, 0] = values
    np.right_shift(values, 63, out=words[:, 1])
    return pa.Array.from_buffers(kind, len(values), [_bitmap(valid), pa.py_buffer(words)])


def cents(column: pa.ChunkedArray | pa.Array) -> tuple[I64, Bools]:
    """The reverse of decimals: integers and validity (0 where null)."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    values, valid = [np.zeros(0, np.int64)], [np.zeros(0, np.bool_)]
    for chunk in chunks:
        there = np.asarray(chunk.is_valid()) if chunk.null_count else np.ones(len(chunk), np.bool_)
        low = np.frombuffer(chunk.buffers()[1], np.int64)[2 * chunk.offset : 2 * (chunk.offset + len(chunk)) : 2]
        values.append(low * there)
        valid.append(there)
    return np.concatenate(values), np.concatenate(valid)


def date_array(days: npt.NDArray[np.int32], valid: Bools) -> pa.Array:
    return pa.Array.from_buffers(pa.date32(), len(days), [_bitmap(valid), pa.py_buffer(days)])


def _bitmap(valid: Bools | None) -> pa.Buffer | None:
    if valid is None or valid.all():
        return None
    return pa.py_buffer(np.packbits(valid, bitorder="little"))


def same_text(section: Section, elements: npt.NDArray[Any], text: bytes) -> Bools:
    """Whether each element is exactly this text of at most eight bytes."""
    start = section.start[elements]
    length = section.end[elements] - start
    words = section.eight(start) & FIRST[len(text)]
    return (length == len(text)) & (words == _u64(int.from_bytes(text, "little")))
