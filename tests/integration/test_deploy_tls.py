"""PostgreSQL as docker-compose.yml runs it: its TLS options, pg_hba.conf and certificates, and clients with its settings.

On the operating system's own PostgreSQL, where it has one: the embedded server is built without TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import shlex
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psycopg2
import pytest
import yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
CLIENT = {name: value for name, value in COMPOSE["x-airflow"]["environment"].items() if name.startswith("PG")}


@dataclass(frozen=True)
class Server:
    port: int
    folder: Path

    def dsn(self, **changes: str) -> dict[str, object]:
        """As a service of the compose file connects, with its PG* variables."""
        said = {
            "host": "localhost",
            "user": "medbill",
            "password": "right",
            "dbname": "postgres",
            "sslmode": CLIENT["PGSSLMODE"],
            "sslrootcert": str(self.folder / "tls" / "ca.crt"),
            "channel_binding": CLIENT["PGCHANNELBINDING"],
        }
        return {**said, "port": self.port, "connect_timeout": 5, **changes}

    def refusal(self, **changes: str) -> str:
        with pytest.raises(psycopg2.OperationalError) as caught:
            psycopg2.connect(**self.dsn(**changes)).close()
        return str(caught.value)


@pytest.fixture(scope="module")
def server() -> Iterator[Server | None]:
    """None where the system has no PostgreSQL of its own."""
    if not SERVERS:
        yield None
        return
    programs = SERVERS[-1].parent
    folder = Path(tempfile.mkdtemp(prefix="mb-tls-"))
    account = "postgres" if os.getuid() == 0 else getpass.getuser()  # the server refuses to run as root

    def run(*command: str) -> None:
        done = subprocess.run(command, user=account if os.getuid() == 0 else None, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    subprocess.run([ROOT / "deploy" / "certificates.sh", folder / "tls", "localhost"], check=True, capture_output=True)
    subprocess.run(
        [ROOT / "deploy" / "certificates.sh", folder / "other", "localhost"], check=True, capture_output=True
    )
    folder.chmod(0o755)
    (folder / "data").mkdir()
    (folder / "pg_hba.conf").write_text((ROOT / "deploy" / "postgres" / "pg_hba.conf").read_text())
    if os.getuid() == 0:
        for path in (folder / "data", folder / "tls" / "server.key"):
            shutil.chown(path, account)
        (folder / "tls" / "server.key").chmod(0o600)
    run(str(programs / "initdb"), "-D", str(folder / "data"), "-U", "postgres", "--auth-host=scram-sha-256")
    options = COMPOSE["services"]["postgres"]["command"].removeprefix("postgres ")
    for inside, outside in (
        ("/run/secrets/postgres_certificate", folder / "tls" / "server.crt"),
        ("/run/secrets/postgres_key", folder / "tls" / "server.key"),
        ("/etc/medbill/pg_hba.conf", folder / "pg_hba.conf"),
    ):
        assert inside in options
        options = options.replace(inside, str(outside))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["-w", "-t", "30", "-D", str(folder / "data"), "-l", str(folder / "data" / "log")]
    options += f" -p {port} -c listen_addresses=localhost -k {shlex.quote(str(folder / 'data'))}"
    run(str(programs / "pg_ctl"), *arguments, "-o", options, "start")
    try:
        # the one local rule is the superuser's own
        statement = "CREATE ROLE medbill LOGIN PASSWORD 'right'"
        psql = [str(programs / "psql"), "-h", str(folder / "data"), "-p", str(port), "-U", "postgres", "-c", statement]
        if account == "postgres":
            run(*psql)
            yield Server(port, folder)
        else:
            yield None  # peer knows the superuser by the account `postgres` alone
    finally:
        with contextlib.suppress(AssertionError):
            run(str(programs / "pg_ctl"), *arguments, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def test_a_client_with_the_settings_of_the_compose_file_gets_in_by_tls(server: Server | None) -> None:
    if server is None:
        return
    connection = psycopg2.connect(**server.dsn())
    with connection.cursor() as cursor:
        cursor.execute("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        ssl, version = cursor.fetchone()
        cursor.execute("SHOW password_encryption")
        assert cursor.fetchone() == ("scram-sha-256",)
    connection.close()
    assert ssl and version in ("TLSv1.2", "TLSv1.3")


def test_plaintext_a_wrong_authority_a_wrong_name_and_a_wrong_password_are_refused(server: Server | None) -> None:
    if server is None:
        return
    assert "no encryption" in server.refusal(sslmode="disable", channel_binding="prefer")
    assert "certificate verify failed" in server.refusal(sslrootcert=str(server.folder / "other" / "ca.crt"))
    assert "does not match host name" in server.refusal(host="127.0.0.1")
    assert "password authentication failed" in server.refusal(password="wrong")
    assert "no encryption" in server.refusal(sslmode="disable", channel_binding="prefer", user="postgres")
    assert "protocol" in server.refusal(ssl_max_protocol_version="TLSv1.1", ssl_min_protocol_version="TLSv1")


def test_airflows_asynchronous_driver_takes_the_same_settings(
    server: Server | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if server is None:
        return
    monkeypatch.setenv("PGSSLMODE", CLIENT["PGSSLMODE"])

    async def encrypted(authority: str) -> bool:
        monkeypatch.setenv("PGSSLROOTCERT", str(server.folder / authority / "ca.crt"))
        connection = await asyncpg.connect(
            host="localhost", port=server.port, user="medbill", password="right", database="postgres", timeout=10
        )
        try:
            return bool(await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))
        finally:
            await connection.close()

    assert asyncio.run(encrypted("tls"))
    with pytest.raises(OSError, match="verify failed"):
        asyncio.run(encrypted("other"))


def test_the_certificate_is_renewed_under_the_same_authority(tmp_path: Path) -> None:
    script = ROOT / "deploy" / "certificates.sh"
    subprocess.run([script, tmp_path / "tls"], check=True, capture_output=True)
    before = {name: (tmp_path / "tls" / name).read_bytes() for name in ("ca.crt", "ca.key", "server.crt")}
    subprocess.run([script, tmp_path / "tls"], check=True, capture_output=True)
    after = {name: (tmp_path / "tls" / name).read_bytes() for name in before}
    assert [name for name in before if before[name] != after[name]] == ["server.crt"]
    assert (tmp_path / "tls" / "ca.key").stat().st_mode & 0o777 == 0o600
