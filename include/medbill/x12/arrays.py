"""Arrow arrays straight from buffers.

pyarrow.array() would do, but it imports pandas wherever that is installed, which costs more than reading a file does.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from medbill.model.remittances import ERA_TABLES
from medbill.model.types import STRINGS

I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[Any]

#: Of a little-endian eight-byte load, the first n bytes.
_FIRST = np.array([(1 << (8 * n)) - 1 for n in range(9)], np.uint64)
WIDE = 16  # octets that are copied or searched at once
_EPOCH = datetime.date(1970, 1, 1).toordinal()


def bitmap(valid: Bools | None) -> pa.Buffer | None:
    if valid is None or valid.all():
        return None
    return pa.py_buffer(np.packbits(valid, bitorder="little"))


def int32(values: Ints, valid: Bools | None = None) -> pa.Array:
    return pa.Array.from_buffers(
        pa.int32(), len(values), [bitmap(valid), pa.py_buffer(np.ascontiguousarray(values, np.int32))]
    )


def booleans(values: Bools) -> pa.Array:
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(np.packbits(values, bitorder="little"))])


def decimals(values: I64, valid: Bools | None, kind: pa.DataType) -> pa.Array:
    """decimal128 of integers in units of its last decimal."""
    words = np.empty((len(values), 2), np.int64)
    words[:, 0] = values
    np.right_shift(values, 63, out=words[:, 1])
    return pa.Array.from_buffers(kind, len(values), [bitmap(valid), pa.py_buffer(words)])


def dates(days: I32, valid: Bools | None) -> pa.Array:
    """date32 of days since 1970-01-01."""
    return pa.Array.from_buffers(pa.date32(), len(days), [bitmap(valid), pa.py_buffer(days)])


def text(octets: npt.NDArray[np.uint8], start: Ints, length: Ints) -> pa.Array:
    """Strings that stand at these places among the octets, null where the length is zero. They must be UTF-8.

    Sixteen octets must follow each start. Each string is copied with all sixteen; what is too much, the next one covers.
    """
    ends = offsets(length)
    size = int(ends[-1])
    data = np.empty(size + WIDE, np.uint8)
    windows(data)[ends[:-1]] = windows(octets)[start]
    data[size:] = 0
    long = (length > WIDE).nonzero()[0]
    if len(long):
        more = length[long] - WIDE
        places = np.repeat(start[long] + WIDE, more) + within(more)
        data[np.repeat(ends[long] + WIDE, more) + within(more)] = octets[places]
    return pa.Array.from_buffers(
        pa.string(), len(start), [bitmap(length > 0), pa.py_buffer(ends), pa.py_buffer(data[:size])]
    )


def windows(octets: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """The sixteen octets from every place, as one item each."""
    return np.ndarray(len(octets) - WIDE + 1, f"V{WIDE}", octets, 0, (1,))


def within(counts: Ints) -> I64:
    """0, 1, 2, ... within each of consecutive runs of these lengths."""
    after = np.cumsum(counts)
    numbers: I64 = np.arange(after[-1] if len(after) else 0) - np.repeat(after - counts, counts)
    return numbers


def words(array: pa.Array) -> npt.NDArray[np.uint64] | None:
    """The strings of an array as little-endian numbers, null as 0; None where one is longer than eight bytes."""
    _, ends, data = array.buffers()
    ends = np.frombuffer(ends, np.int32)[array.offset : array.offset + len(array) + 1]
    length = np.diff(ends)
    if not len(length) or length.max() > 8:
        return None
    padded = b"".join((data.to_pybytes() if data else b"", bytes(8)))
    loads = np.ndarray(len(padded) - 7, "V8", padded, 0, (1,))[ends[:-1]].view("<u8")
    masked: npt.NDArray[np.uint64] = loads & _FIRST.take(length)
    return masked


def validity(array: pa.Array) -> Bools:
    bits = array.buffers()[0]
    if bits is None:
        return np.ones(len(array), np.bool_)
    every = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little").view(np.bool_)
    return every[array.offset : array.offset + len(array)]


def nulls(rows: int, kind: pa.DataType) -> pa.Array:
    """From the C library's memory: Arrow's own pool takes megabytes at its first use, and nothing else here needs it."""
    return pa.nulls(rows, kind, memory_pool=pa.system_memory_pool())


def lists(offsets: I32, items: pa.Array) -> pa.Array:
    return pa.Array.from_buffers(STRINGS, len(offsets) - 1, [None, pa.py_buffer(offsets)], children=[items])


def offsets(counts: Ints) -> I32:
    """Where each of consecutive runs of these lengths begins, and where the last ends."""
    result = np.zeros(len(counts) + 1, np.int32)
    np.cumsum(counts, out=result[1:])
    return result


def column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """A short column of Python values, None for null: text, whole numbers, dates, truth, or cents for a decimal."""
    valid = np.array([v is not None for v in values], np.bool_)
    if pa.types.is_string(kind):
        encoded = [(v or "").encode("utf-8") for v in values]
        ends = offsets(np.array([len(e) for e in encoded], np.int64))
        return pa.Array.from_buffers(
            kind, len(values), [bitmap(valid), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
        )
    if pa.types.is_boolean(kind):
        return booleans(np.array([bool(v) for v in values], np.bool_))
    if pa.types.is_date32(kind):
        return dates(np.array([v.toordinal() - _EPOCH if v else 0 for v in values], np.int32), valid)
    whole = np.array([v or 0 for v in values], np.int64)
    return decimals(whole, valid, kind) if pa.types.is_decimal(kind) else int32(whole, valid)


@cache
def fields(name: str) -> list[tuple[str, pa.DataType, str]]:
    """Name, type and the type's name of each column of a table (ERA_TABLES); taking a schema apart is slow."""
    return [(item.name, item.type, str(item.type)) for item in ERA_TABLES[name]]


def table(name: str, filled: Mapping[str, pa.Array | None], rows: int) -> pa.Table:
    """A table of that name (ERA_TABLES); columns that are not filled are null."""
    empty: dict[str, pa.Array] = {}
    arrays = []
    for column, kind, key in fields(name):
        array = filled.get(column)
        if array is None:
            if key not in empty:
                empty[key] = nulls(rows, kind)
            array = empty[key]
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=ERA_TABLES[name])
