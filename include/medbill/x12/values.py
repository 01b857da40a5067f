"""Exact numbers and dates out of bytes, whole columns at a time.

Amounts become integers of the column's last decimal (cents for money); nothing passes through a float. Up to eight
characters are read as one 64-bit number whose digits are then added up in parallel; what does not fit that shape
(plus signs, more decimals, text) is read one by one, so that speed never decides what is accepted.
"""

from __future__ import annotations

import datetime
import re
from decimal import Decimal
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from medbill.x12 import arrays
from medbill.x12.codes import U64
from medbill.x12.scan import FIRST, I64, Bools, Section

#: Amounts from here on are not taken for real, in units of the last decimal; sums of a section then fit 64 bits.
LIMIT = 10**13
_NUMBER = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)")


@cache
def _u64(value: int) -> np.uint64:
    return np.uint64(value % 2**64)


_ZEROS = _u64(0x3030303030303030)
_DOTS = _u64(0x2E2E2E2E2E2E2E2E)
_LOW7 = _u64(0x7F7F7F7F7F7F7F7F)
#: of n characters at the end of a load of eight: the bits before them, the bits they take, zeros for the rest
_BEFORE = np.array([8 * (8 - n) for n in range(9)], np.uint64)
_KEPT = np.array([(2**64 - 1) - (2 ** (8 * (8 - n)) - 1) for n in range(9)], np.uint64)
_FILL = _ZEROS & ~_KEPT
#: ... where the first one is
_SIGN_SHIFT = np.array([8 * (8 - n) if n else 0 for n in range(9)], np.uint64)
#: two decimals: the third byte from the end is the point (less "0"); what stands before and after it
_POINT, _POINT_AT = _u64(0xFF << 40), _u64((ord(".") ^ ord("0")) << 40)
_BEFORE_POINT, _AFTER_POINT = _u64((1 << 40) - 1), _u64(0xFFFF << 48)


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
    return _digits_less_zero(w ^ _ZEROS)


def _digits_less_zero(w: U64) -> tuple[U64, Bools]:
    """_digits() of characters less "0"; w is overwritten."""
    high = w + _u64(0x7676767676767676)
    high |= w
    high &= _u64(0x8080808080808080)
    good: Bools = high == 0
    w *= _u64(2561)
    w >>= _u64(8)
    w &= _u64(0x00FF00FF00FF00FF)
    w *= _u64(6553601)
    w >>= _u64(16)
    w &= _u64(0x0000FFFF0000FFFF)
    w *= _u64(42949672960001)
    w >>= _u64(32)
    return w, good


def numbers(section: Section, elements: npt.NDArray[Any], scale: int) -> tuple[I64, Bools, Bools]:
    """Values of the elements in units of 10**-scale (0 where there is none), which have one, which are malformed.

    scale is 2 or 3. An empty element has no value and is not malformed.
    """
    # digits without sign, whole or (scale 2) with two decimals, in one step; the rest in more of them
    end = section.end.take(elements)
    length = end - section.start.take(elements)
    w = section.eight(end - 8)
    w ^= _ZEROS
    before = _BEFORE.take(length, mode="clip")
    w >>= before
    w <<= before
    there: Bools = length > 0
    if scale == 2:
        pointed = (w & _POINT) == _POINT_AT
        moved = w & _BEFORE_POINT
        moved <<= _u64(8)
        np.bitwise_and(w, _AFTER_POINT, out=before)
        moved |= before
        value, good = _digits_less_zero(np.where(pointed, moved, w))
        np.multiply(value, _u64(100), out=w)
        result = np.where(pointed, value, w).view(np.int64)
    else:
        value, good = _digits_less_zero(w)
        value *= _u64(10**scale)
        result = value.view(np.int64)
    good &= length <= 8
    rest = (~good).nonzero()[0]
    if len(rest):
        _signed(section, elements[rest], rest, scale, result, good)
        result[rest] *= good[rest]
    bad = ~good
    good &= there
    return result, good, bad


def _signed(section: Section, elements: npt.NDArray[Any], rows: I64, scale: int, result: I64, good: Bools) -> None:
    """Any number of up to eight characters, longer ones by _longer."""
    end = section.end[elements]
    length = end - section.start[elements]
    n = np.minimum(length, 8)
    w = (section.eight(end - 8) & _KEPT[n]) | _FILL[n]
    negative = ((w >> _SIGN_SHIFT[n]) & _u64(0xFF)) == _u64(ord("-"))
    w ^= (negative * _u64(ord("-") ^ ord("0"))) << _SIGN_SHIFT[n]
    # exact test for a point: 0x80 in each byte that is one
    dot = w ^ _DOTS
    dot = ~(((dot & _LOW7) + _LOW7) | dot | _LOW7)
    below = (dot >> _u64(7)) - _u64(1)
    above = ~((dot << _u64(1)) - _u64(1))
    pointed = dot != 0
    value, fits = _digits(np.where(pointed, (w & above) | ((w & below) << _u64(8)) | _u64(0x30), w))
    at6, at5, at4 = ((dot >> _u64(bit)) & _u64(1) for bit in (55, 47, 39))
    factor = _u64(10**scale) - at6 * _u64(9 * 10 ** (scale - 1)) - at5 * _u64(99 * 10 ** (scale - 2))
    early = _u64(0x80808080_80)  # a point so far left that more decimals follow than the scale has
    if scale == 3:
        factor -= at4 * _u64(999)
        early = _u64(0x80808080)
    fits &= ((dot & early) == 0) & (length <= 8) & (length > negative.astype(np.int32) + pointed)
    whole = (value * factor).view(np.int64)
    result[rows] = np.where(negative, -whole, whole)
    good[rows] = fits
    if not fits.all():
        _longer(section, elements[~fits], rows[~fits], scale, result, good)


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
    for i in (~done).nonzero()[0]:
        one = parse_one(section.buffer[start[i] : end[i]], scale)
        good[rows[i]] = one is not None
        result[rows[i]] = one or 0


#: Months by 100 * year + month, less _FIRST_MONTH: days from 1970-01-01 to the first of each, and how many it has.
_FIRST_MONTH, _MONTHS = 190_000, 20_000


@cache
def _months() -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    month = np.arange(_FIRST_MONTH // 100 * 12, (_FIRST_MONTH + _MONTHS) // 100 * 12)
    at = month // 12 * 100 + month % 12 + 1 - _FIRST_MONTH
    begins = np.append(month, month[-1] + 1) - 1970 * 12
    days = begins.view("datetime64[M]").astype("datetime64[D]").view(np.int64)
    first, length = np.zeros(_MONTHS, np.int32), np.zeros(_MONTHS, np.uint8)
    first[at], length[at] = days[:-1], np.diff(days)
    return first, length


def dates(section: Section, elements: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int32], Bools, Bools]:
    """Days since 1970-01-01 of CCYYMMDD elements, which have one, which are malformed."""
    start = section.start.take(elements)
    length = section.end.take(elements) - start
    value, good = _digits(section.eight(start))
    good &= length == 8
    number = value.astype(np.uint32)
    month = number // np.uint32(100)
    day = number - month * np.uint32(100)
    month -= np.uint32(_FIRST_MONTH)  # wraps around for earlier ones, as does day 0 below
    good &= month < _MONTHS
    month *= good
    day -= np.uint32(1)
    first, days = _months()
    good &= day < days.take(month)
    result = first.take(month)
    result += day.view(np.int32)
    there = length > 0
    for row in (there > good).nonzero()[0].tolist():
        one = parse_date(section.buffer[start[row] : start[row] + length[row]])
        if one is not None:
            good[row], result[row] = True, one.toordinal() - datetime.date(1970, 1, 1).toordinal()
    result *= good
    return result, good, there & ~good


def cents(column: pa.ChunkedArray | pa.Array) -> tuple[I64, Bools]:
    """The reverse of decimals: integers and validity (0 where null)."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    values, valid = [np.zeros(0, np.int64)], [np.zeros(0, np.bool_)]
    for chunk in chunks:
        there = arrays.validity(chunk)
        low = np.frombuffer(chunk.buffers()[1], np.int64)[2 * chunk.offset : 2 * (chunk.offset + len(chunk)) : 2]
        values.append(low * there)
        valid.append(there)
    return np.concatenate(values), np.concatenate(valid)


def same_text(section: Section, elements: npt.NDArray[Any], text: bytes) -> Bools:
    """Whether each element is exactly this text of at most eight bytes."""
    start = section.start[elements]
    length = section.end[elements] - start
    words = section.eight(start) & FIRST[len(text)]
    same: Bools = (length == len(text)) & (words == _u64(int.from_bytes(text, "little")))
    return same
