"""Deterministic Parquet and the container of tables."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest

from medbill.errors import BadInput
from medbill.model.remittances import ERA_TABLES, REMITTANCE_CLAIMS
from medbill.store import tables_io

ROWS = pa.table(
    {
        "id": pa.array([f"c{i}" for i in range(1000)]),
        "amount": pa.array([Decimal(i) / 100 for i in range(1000)], pa.decimal128(18, 2)),
        "codes": pa.array([["CO", None], [], None, ["PR"]] * 250, pa.list_(pa.string())),
    }
)


def test_equal_tables_give_equal_bytes_however_they_are_chunked() -> None:
    whole = tables_io.parquet_bytes(ROWS)
    chunked = pa.concat_tables([ROWS.slice(0, 7), ROWS.slice(7, 500), ROWS.slice(507)])
    assert tables_io.parquet_bytes(chunked) == whole
    assert tables_io.parquet_bytes(ROWS.replace_schema_metadata({"k": "v"})) == whole
    assert tables_io.parquet_bytes(pa.Table.from_batches(ROWS.to_batches(max_chunksize=3))) == whole


def test_round_trip_keeps_schema_and_values() -> None:
    assert tables_io.read_parquet(tables_io.parquet_bytes(ROWS)).equals(ROWS)
    for schema in ERA_TABLES.values():
        assert tables_io.read_parquet(tables_io.parquet_bytes(schema.empty_table())).schema == schema


def test_container_round_trip_whatever_the_order() -> None:
    tables = {"claims": REMITTANCE_CLAIMS.empty_table(), "a": ROWS}
    data = tables_io.seal_tables(tables)
    assert data == tables_io.seal_tables(dict(reversed(tables.items())))
    opened = tables_io.open_tables(data)
    assert list(opened) == ["a", "claims"]
    assert opened["a"].equals(ROWS)
    assert tables_io.open_tables(tables_io.seal_tables({})) == {}


def test_a_damaged_container_is_refused() -> None:
    data = tables_io.seal_tables({"a": ROWS.slice(0, 3)})
    for broken in (b"", b"MBT1", b"XXXX" + data[4:], data[:-1], data + b"x", data[:20]):
        with pytest.raises(BadInput):
            tables_io.open_tables(broken)
    with pytest.raises(BadInput):
        tables_io.read_parquet(b"%PDF-1.7")
