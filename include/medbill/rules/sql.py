"""DuckDB over Arrow tables in memory: the rules about sets are SQL, their results have exactly the declared schema."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    import duckdb


def connect(**tables: pa.Table) -> duckdb.DuckDBPyConnection:
    """A private in-memory database with the given tables as views; nothing is read from or written to disk or network."""
    import duckdb

    connection = duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "temp_directory": "",  # what does not fit into memory fails, and is not spilled
        },
    )
    for name, table in tables.items():
        connection.register(name, table)
    return connection


def fetch(connection: duckdb.DuckDBPyConnection, query: str, schema: pa.Schema) -> pa.Table:
    """The rows of a query as a table of the schema: columns by name, one chunk, values cast exactly."""
    found = connection.sql(query).to_arrow_table()
    columns = [found[field.name].combine_chunks().cast(field.type) for field in schema]
    table = pa.Table.from_arrays(columns, schema=schema)
    table.validate()
    return table


def rows(schema: Mapping[str, pa.DataType], values: Iterable[tuple[Any, ...]]) -> pa.Table:
    """A small table from tuples in the order of the schema."""
    names = list(schema)
    return pa.Table.from_pylist([dict(zip(names, v, strict=True)) for v in values], schema=pa.schema(schema.items()))
