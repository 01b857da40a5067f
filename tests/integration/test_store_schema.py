"""Migrations on a real PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from medbill.errors import StoreUnavailable
from medbill.store import schema
from medbill.store.tables import metadata

pytestmark = pytest.mark.slow


def test_migrations_give_exactly_the_declared_tables(database: sa.Engine) -> None:
    with database.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_schemas": True,
                "include_name": lambda name, kind, _: kind != "schema" or name == "medbill",
                "version_table_schema": "medbill",
                "compare_server_default": False,
            },
        )
        assert compare_metadata(context, metadata) == []


def test_upgrading_again_and_at_the_same_time_changes_nothing(database: sa.Engine) -> None:
    url = database.url.render_as_string(hide_password=False)
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(schema.upgrade, [url] * 4):
            pass
    with database.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM medbill.alembic_version")) == 1


def test_an_empty_database_migrated_by_four_processes_at_once(database: sa.Engine) -> None:
    with database.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA medbill CASCADE; DROP SCHEMA IF EXISTS audit CASCADE"))
    test_upgrading_again_and_at_the_same_time_changes_nothing(database)


def test_database_down_at_start_is_a_typed_error() -> None:
    with pytest.raises(StoreUnavailable, match="no connection"):
        schema.upgrade("postgresql+psycopg2://postgres@127.0.0.1:1/medbill?connect_timeout=2")
