"""A backfill of 90 days at once equals 90 runs of one day, through the real pipelines and the stand-in of DrChrono."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from medbill.audit.ledger import RunContext
from medbill.pipelines import deidentify, extract, post, receive, triage
from medbill.pipelines.context import Context, Partition, column_sum
from medbill.platforms.budget import RateBudget, always
from medbill.platforms.drchrono import DrChrono
from medbill.platforms.oauth import Credentials
from medbill.sandbox.drchrono import CREDENTIALS_FILE, Limits, Sandbox, Server
from medbill.sandbox.seed import seed_practice
from medbill.settings import Settings
from medbill.store import db
from medbill.store.tables import holds, metadata, partitions, proposals, quarantine, results

pytestmark = pytest.mark.slow

PRACTICE = "lakeside"
TODAY = date(2026, 11, 20)
DAYS = 90
FIRST, LAST = TODAY - timedelta(days=DAYS), TODAY - timedelta(days=1)
#: Service days that have claims, and how many in all; the windows before them are asked for as well.
DAYS_BILLED = 14
CLAIMS = 40
#: Runs after which the daily side publishes what it has.
MIDWAY = {82}
#: Tokens are drawn, not computed: both runs share what the vault and its keys hold, as two runs of one practice do.
KEPT = {"vault_tokens", "vault_secrets", "vault_state", "data_keys"}


@dataclass
class World:
    ctx: Context
    platform: DrChrono

    def extract(self, start: date, end: date) -> int:
        return len(extract.extract(self.ctx, PRACTICE, "drchrono", self.platform, start, end))

    def publish(self) -> None:
        """Claims and remittances. Notes are compared as they landed: publishing those takes minutes."""
        deidentify.publish(self.ctx, [p for p in deidentify.pending(self.ctx) if p.object != "notes"])

    def downstream(self) -> None:
        self.publish()
        for partition in post.pending(self.ctx):
            post.post(self.ctx, partition)
        for partition in triage.pending(self.ctx):
            triage.triage(self.ctx, partition)

    def receive(self) -> None:
        receive.scan(self.ctx, PRACTICE)
        receive.land(self.ctx, receive.pending(self.ctx, PRACTICE))

    def rows(self, *columns: sa.Column[Any]) -> list[tuple[Any, ...]]:
        with db.transaction(self.ctx.db, PRACTICE) as connection:
            return sorted(map(tuple, connection.execute(sa.select(*columns))), key=repr)

    def state(self) -> dict[str, list[tuple[Any, ...]]]:
        p, r, o = partitions.c, results.c, proposals.c
        return {
            "objects": self.objects(),
            "partitions": self.rows(p.object, p.day, p.landed_version, p.published_version, p.content_hash, p.counts),
            "results": self.rows(r.kind, r.day, r.content_hash, r.counts),
            "proposals": self.rows(o.id, o.kind, o.day, o.claim_token, o.content_hash, o.status),
            "quarantine": self.rows(*(quarantine.c[n] for n in ("id", "reason_code", "claims", "charge", "paid"))),
            "holds": self.rows(*(holds.c[n] for n in ("claim_key", "day", "reason_code", "charge", "paid", "status"))),
        }

    def objects(self) -> list[tuple[Any, ...]]:
        """Key and SHA-256 of every object that is not sealed; sealing the same again gives other bytes."""
        root = Path(self.ctx.settings.objects)
        files = (path for path in root.rglob("*") if path.is_file() and path.suffix != ".sealed")
        return sorted((str(f.relative_to(root)), hashlib.sha256(f.read_bytes()).hexdigest()) for f in files)

    def charge(self) -> Decimal:
        """Charges of all landed claims."""
        found = self.rows(partitions.c.object, partitions.c.day, partitions.c.landed_version)
        tables = [
            self.ctx.landed(Partition(PRACTICE, "claims", day), version)["claims"]
            for name, day, version in found
            if name == "claims"
        ]
        return column_sum(pa.concat_tables(tables), "charge")


@pytest.fixture
def seeded(tmp_path: Path) -> Path:
    seed_practice(tmp_path / "inbox", tmp_path / "sandbox", TODAY, claims=CLAIMS, days=DAYS_BILLED)
    return tmp_path


def _world(home: Path, seeded: Path, database: sa.Engine, platform: DrChrono) -> World:
    shutil.copytree(seeded / "inbox", home / "inbox")  # what is taken from an inbox is gone
    settings = Settings.from_env(
        {
            "MEDBILL_HOME": str(home),
            "MEDBILL_DATABASE_URL": database.url.render_as_string(hide_password=False),
            "MEDBILL_KEYRING": str(seeded / "keyring.json"),
            "MEDBILL_INBOX": str(home / "inbox"),
            "MEDBILL_INBOX_SETTLE": "0",
            "MEDBILL_INBOX_PATIENCE": "0",
        }
    )
    return World(Context.open(settings, RunContext(service="medbill", dag_id="test")), platform)


@contextmanager
def _copy(database: sa.Engine, server: str) -> Iterator[sa.Engine]:
    """A second database with the first one's vault and nothing else of it."""
    name = f"{database.url.database}b"
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    database.dispose()
    with admin.connect() as connection:
        connection.execute(  # engines of other contexts of this process
            sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"),
            {"name": database.url.database},
        )
        connection.execute(sa.text(f"CREATE DATABASE {name} TEMPLATE {database.url.database}"))
    second = db.engine(server.replace("/postgres?", f"/{name}?"))
    others = ", ".join(f"medbill.{t.name}" for t in metadata.sorted_tables if t.name not in KEPT)
    with second.begin() as connection:
        connection.exec_driver_sql(f"TRUNCATE {others}")
    try:
        yield second
    finally:
        second.dispose()
        with admin.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


def test_ninety_days_at_once_are_ninety_days_one_by_one(
    seeded: Path, database: sa.Engine, postgres_server: str
) -> None:
    server = Server(Sandbox(seeded / "sandbox", Limits(10_000, 1_000_000)))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    credentials = Credentials.from_file(seeded / "sandbox" / CREDENTIALS_FILE)
    policies = Settings.from_env({}).policies
    try:
        with DrChrono(server.url, credentials, policies=policies, budget=RateBudget(always())) as platform:
            once = _world(seeded / "once", seeded, database, platform)
            assert once.extract(FIRST, LAST) >= 20
            once.receive()
            once.downstream()
            whole, charge = once.state(), once.charge()
            with _copy(database, postgres_server) as second:
                daily = _world(seeded / "daily", seeded, second, platform)
                assert daily.state() == {name: [] for name in whole}
                for offset in range(DAYS):
                    day = FIRST + timedelta(days=offset)
                    daily.extract(day, day)
                    if offset in MIDWAY:  # downstream runs see a growing part of it
                        daily.publish()
                daily.receive()
                daily.downstream()
                parts = daily.state()
                for name, rows in whole.items():
                    assert parts[name] == rows, name
                assert daily.charge() == charge > 0
                assert daily.extract(FIRST, LAST) == 0  # a backfill over what is there lands nothing again
        assert (
            len(whole["proposals"]) > 5
            and len(whole["results"]) > 5
            and len(whole["objects"]) > 30
            and whole["quarantine"]
            and whole["holds"]
        )
    finally:
        server.shutdown()
        server.server_close()
