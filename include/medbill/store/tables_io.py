"""Arrow tables as bytes: Parquet, and a container of several tables. Equal tables give equal bytes."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from medbill.errors import BadInput

_MAGIC = b"MBT1"
_ROWS = 131_072  # rows per row group: one page of work for a reader, independent of how the table was chunked


def parquet_bytes(table: pa.Table) -> bytes:
    """Parquet of a table. The bytes depend on schema and values alone, not on chunks or schema metadata.

    (And on the version of pyarrow, which writes its name into the file.)
    """
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata(None).combine_chunks(),
        sink,
        row_group_size=_ROWS,
        compression="zstd",
        compression_level=3,
        version="2.6",
        use_dictionary=True,
        write_statistics=True,
    )
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def read_parquet(data: bytes) -> pa.Table:
    """The table parquet_bytes() was given. Raises BadInput where the bytes are no Parquet file."""
    try:
        return pq.read_table(pa.BufferReader(data))
    except (pa.ArrowInvalid, OSError):
        raise BadInput("not a Parquet file, or a damaged one", code="NOT_PARQUET") from None


def seal_tables(tables: Mapping[str, pa.Table]) -> bytes:
    """Several named tables in one run of bytes, ready to be sealed; open_tables() gives them back."""
    parts = [_MAGIC, struct.pack(">I", len(tables))]
    for name in sorted(tables):
        data = parquet_bytes(tables[name])
        parts += [struct.pack(">HQ", len(name.encode()), len(data)), name.encode(), data]
    return b"".join(parts)


def open_tables(data: bytes) -> dict[str, pa.Table]:
    """The tables of seal_tables(). Raises BadInput where the bytes are not a whole container."""
    tables: dict[str, pa.Table] = {}
    try:
        if data[:4] != _MAGIC:
            raise ValueError
        (count,) = struct.unpack_from(">I", data, 4)
        at = 8
        for _ in range(count):
            name_length, length = struct.unpack_from(">HQ", data, at)
            at += 10
            name = data[at : at + name_length].decode()
            at += name_length
            if at + length > len(data):
                raise ValueError
            tables[name] = read_parquet(data[at : at + length])
            at += length
        if at != len(data):
            raise ValueError
    except (ValueError, struct.error):
        raise BadInput("not a container of tables, or a damaged one", code="NOT_TABLES") from None
    return tables
