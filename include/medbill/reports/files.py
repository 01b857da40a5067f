"""Report files: deterministic bytes, written whole or not at all."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from medbill.errors import StoreUnavailable

#: A spreadsheet takes a cell that begins so for a formula (OWASP, CSV injection); the wide forms are folded to these by some.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def csv_bytes(table: pa.Table) -> bytes:
    """RFC 4180 with a header, UTF-8, LF. A text cell a spreadsheet would run gets an apostrophe in front; numbers stay numbers."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.column_names)
    for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
        writer.writerow([_cell(value) for value in row])
    return out.getvalue().encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + value if value.lstrip(" ").startswith(_FORMULA) else value
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return f"{value:f}"
    return str(value)


def parquet_bytes(table: pa.Table) -> bytes:
    """Parquet with the table's exact schema; the same table gives the same bytes."""
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd", row_group_size=65536)
    return out.getvalue()


def write(path: Path, data: bytes) -> Path:
    """Write a file by renaming a finished one into place, readable by all. Raises StoreUnavailable where the folder takes no file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".part-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StoreUnavailable(
            "the report folder takes no file: check that it exists, is writable and has space"
        ) from error
    return path
