"""A PostgreSQL database as places: every column of every table, and the system views in which values of rows come up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg2
import sqlalchemy as sa
from psycopg2 import sql

from medbill.sweep.places import Item, Place, Unreachable, pieces

#: System views that repeat what rows or statements hold.
_SYSTEM = (
    ("pg_catalog", "pg_stats"),
    ("pg_catalog", "pg_stat_activity"),
    ("pg_catalog", "pg_description"),
    ("pg_catalog", "pg_seclabels"),
    ("pg_catalog", "pg_settings"),
    ("pg_catalog", "pg_largeobject"),
    ("pg_catalog", "pg_prepared_statements"),
)
_TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND n.nspname NOT LIKE 'pg_toast%%' AND n.nspname NOT LIKE 'pg_temp%%'
ORDER BY 1, 2
"""
_COLUMNS = """
SELECT a.attname, t.typname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_type t ON t.oid = a.atttypid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
#: Ends a value: none reaches into the next.
_END = b"\n\xff\n"
_ROWS = 2000


@dataclass(frozen=True)
class Door:
    """Tables that are a place of their own in the report. All of them must be there."""

    name: str
    tables: tuple[str, ...]


def places(label: str, url: str, doors: Sequence[Door] = ()) -> list[Place]:
    """The doors of a database, then all its other tables, then its system views.

    url: of a role that sees every row (a superuser, or one with BYPASSRLS and rights on all tables): with less the place
    counts as not searched, since row security would leave rows out in silence.
    """
    named = {table for door in doors for table in door.tables}
    found = [Place(f"{label}: {door.name}", partial(_tables, url, door.tables)) for door in doors]
    found.append(Place(f"{label}: other tables", lambda: _others(url, named), filled=True))
    found.append(Place(f"{label}: system views", lambda: _system(url), filled=True))
    return found


@contextmanager
def _connected(url: str) -> Iterator[Any]:
    made = sa.make_url(url)
    try:
        connection = psycopg2.connect(
            dbname=made.database,
            user=made.username,
            password=made.password,
            host=made.host or made.query.get("host"),
            port=made.port,
            connect_timeout=10,
            **{k: v for k, v in made.query.items() if k.startswith("ssl") or k == "channel_binding"},
        )
    except psycopg2.Error as error:
        raise Unreachable(f"the database cannot be reached ({type(error).__name__})") from None
    try:
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        with connection.cursor() as cursor:
            cursor.execute("SET row_security = off")  # where it would hide rows, reading them is an error
            yield cursor
    except psycopg2.Error as error:
        raise Unreachable(f"a table may not be read ({error.pgcode or type(error).__name__})") from None
    finally:
        connection.close()


def _known(cursor: Any) -> list[tuple[str, str]]:
    cursor.execute(_TABLES)
    return [(str(schema), str(table)) for schema, table in cursor.fetchall()]


def _tables(url: str, names: tuple[str, ...]) -> Iterator[Item]:
    with _connected(url) as cursor:
        known = _known(cursor)
        for name in names:
            own = [t for t in known if t[1] == name]
            if not own:
                raise Unreachable(f"there is no table {name}")
            for schema, table in own:
                yield from _columns(cursor, schema, table)


def _others(url: str, named: set[str]) -> Iterator[Item]:
    with _connected(url) as cursor:
        for schema, table in _known(cursor):
            if table not in named:
                yield from _columns(cursor, schema, table)


def _system(url: str) -> Iterator[Item]:
    with _connected(url) as cursor:
        for schema, view in _SYSTEM:
            yield from _columns(cursor, schema, view)


def _columns(cursor: Any, schema: str, table: str) -> Iterator[Item]:
    cursor.execute(_COLUMNS, (schema, table))
    columns = cursor.fetchall()
    relation = sql.Identifier(schema, table)
    cursor.execute(sql.SQL("SELECT EXISTS (SELECT 1 FROM {})").format(relation))
    if not cursor.fetchone()[0]:
        return
    for column, kind in columns:
        yield Item(f"{schema}.{table}.{column}", _values(cursor, relation, column, kind == "bytea"))


def _values(cursor: Any, relation: sql.Composable, column: str, binary: bool) -> Iterator[tuple[int, bytes]]:
    """The values of a column one after another, read by a cursor on the server, so that no table is too large."""
    value = sql.Identifier(column) if binary else sql.SQL("{}::text").format(sql.Identifier(column))
    query = sql.SQL("SELECT {} FROM {} WHERE {} IS NOT NULL").format(value, relation, sql.Identifier(column))
    with cursor.connection.cursor(name="sweep") as rows:
        rows.itersize = _ROWS
        rows.execute(query)
        yield from pieces(
            (bytes(found) if binary else found.encode("utf-8", "surrogateescape")) + _END for (found,) in rows
        )
