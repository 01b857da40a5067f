"""The embedded PostgreSQL by itself: long paths, what its log holds, stop and start."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
import sqlalchemy as sa

from medbill.settings import socket_folder
from medbill.stack.errors import StackError
from medbill.stack.files import Home
from medbill.stack.postgres import DATABASES, Postgres

pytestmark = pytest.mark.slow

CANARY = "CANARY-DOE-JANE"


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not tmp_path: another pytest that starts closes its root to the user the server runs as."""
    found = Path(tempfile.mkdtemp(prefix="mb-pg-"))
    yield found
    shutil.rmtree(found, ignore_errors=True)


@pytest.fixture
def server(folder: Path) -> Iterator[Postgres]:
    home = Home(folder / ("a folder with a long name " * 5) / "home")
    home.create()
    found = Postgres(home)
    yield found
    found.stop()


def test_a_home_too_long_for_a_socket_works(server: Postgres) -> None:
    assert socket_folder(server.home.path) != server.home.path / "postgres"
    server.start()
    server.start()  # nothing to do
    for name in DATABASES:
        engine = sa.create_engine(server.url(name, login="postgres"), poolclass=sa.NullPool)
        with engine.connect() as connection:
            assert connection.scalar(sa.text("SELECT current_database()")) == name
    server.stop()
    assert not server.running()
    assert not server.sockets.exists()
    server.stop()


def test_no_value_reaches_the_servers_log(server: Postgres) -> None:
    server.start()
    engine = sa.create_engine(server.url("medbill", login="postgres"), poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE TABLE t (name text PRIMARY KEY)"))
        connection.execute(sa.text("INSERT INTO t VALUES (:n)"), {"n": CANARY})
        connection.commit()
        for statement in (
            "INSERT INTO t VALUES (:n)",
            "SELECT CAST(:n AS text)::int",
            f"SELECT '{CANARY}' FROM nowhere",
        ):
            with pytest.raises(sa.exc.DBAPIError):
                connection.execute(sa.text(statement), {"n": CANARY})
            connection.rollback()
    log = server.log.read_text()
    assert "ERROR" in log
    # a failed cast repeats the value in its first line whatever the settings are, so values are bound, never cast from text
    assert [line for line in log.splitlines() if CANARY in line and "invalid input syntax" not in line] == []


def test_a_database_that_cannot_start_says_where_to_look(folder: Path) -> None:
    home = Home(folder / "home")
    home.create()
    server = Postgres(home)
    server.start()
    server.stop()
    (server.data / "postgresql.conf").write_text("this is no setting\n")
    with pytest.raises(StackError, match=r"postgres\.log"):
        server.start()
    shutil.rmtree(server.data)
    with pytest.raises(psycopg2.Error):
        psycopg2.connect(dbname="medbill", user="postgres", host=str(server.sockets))


def test_airflows_database_belongs_to_its_login_also_where_the_superuser_made_it(server: Postgres) -> None:
    server.start()
    admin = sa.create_engine(server.url("airflow", login="postgres"), poolclass=sa.NullPool)
    with admin.begin() as connection:  # as an older home has it
        connection.exec_driver_sql("CREATE TABLE dag (id serial PRIMARY KEY, n bigint GENERATED ALWAYS AS IDENTITY)")
        connection.exec_driver_sql(
            "CREATE SEQUENCE alone; CREATE TYPE state AS ENUM ('up'); CREATE VIEW v AS SELECT 1 a"
        )
    server.start()
    airflow = sa.create_engine(server.url("airflow"), poolclass=sa.NullPool)
    with airflow.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE dag ADD COLUMN state state; INSERT INTO dag (state) VALUES ('up')")
        connection.exec_driver_sql("DROP VIEW v; DROP SEQUENCE alone; CREATE TABLE mine (a int)")
        assert not connection.scalar(
            sa.text("SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user")
        )
        owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'airflow'"
        assert connection.scalar(sa.text(owner)) == "airflow"
