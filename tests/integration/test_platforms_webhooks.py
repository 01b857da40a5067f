"""The receiver of webhooks: Airflow's real API server with our plugin on a loopback port, and a real PostgreSQL."""

from __future__ import annotations

import base64
import hmac
import json
import os
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from medbill.platforms import webhooks
from medbill.store.tables import webhook_events

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
CANARY = "QUILLSWORTH"
OLD, NEW = "an older secret of the practice", "whsec_" + base64.b64encode(b"k" * 32).decode()
KEYS = {OLD: OLD.encode(), NEW: b"k" * 32}
DAY = datetime.now(UTC).date() - timedelta(days=40)
BODY = json.dumps(
    {"type": "APPOINTMENT_MODIFY", "data": {"patient": CANARY, "scheduled_time": f"{DAY}T09:00:00"}}
).encode()
START_SECONDS = 150


@dataclass
class World:
    url: str
    db: sa.Engine
    airflow: Path
    log: Path

    def send(
        self,
        body: bytes = BODY,
        *,
        id: str | None = None,
        secret: str = NEW,
        age: float = 0,
        sent: bytes | None = None,
        practice: str = "lakeside",
        platform: str = "drchrono",
    ) -> httpx.Response:
        """body: what is signed; sent: what goes out instead."""
        id, at = id or uuid.uuid4().hex, str(int(time.time() - age))
        signature = base64.b64encode(hmac.digest(KEYS[secret], f"{id}.{at}.".encode() + body, "sha256")).decode()
        headers = {"webhook-id": id, "webhook-timestamp": at, "webhook-signature": f"v1,{'A' * 43}= v1,{signature}"}
        return self.post(body if sent is None else sent, headers, f"{platform}/{practice}")

    def post(self, body: bytes, headers: dict[str, str], path: str = "drchrono/lakeside") -> httpx.Response:
        return httpx.post(f"{self.url}/{path}", content=body, headers=headers, timeout=60)

    def events(self, *where: sa.ColumnElement[bool]) -> list[dict[str, Any]]:
        with self.db.connect() as connection:
            return [dict(r) for r in connection.execute(sa.select(webhook_events).where(*where)).mappings()]

    def ledger(self, kind: str) -> list[dict[str, Any]]:
        with self.db.connect() as connection:
            rows = connection.execute(
                sa.text("SELECT convert_from(payload, 'UTF8') FROM audit.rows WHERE kind = :kind ORDER BY seq"),
                {"kind": kind},
            ).scalars()
            return [json.loads(row) for row in rows]

    def woken(self) -> int:
        with sqlite3.connect(self.airflow / "airflow.db") as database:
            (count,) = database.execute("SELECT count(*) FROM asset_event").fetchone()
            return int(count)


@pytest.fixture(scope="module")
def world(module_database: sa.Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("airflow")
    log = home / "server.log"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MEDBILL"))}
    env.update(
        AIRFLOW_HOME=str(home),
        AIRFLOW__CORE__PLUGINS_FOLDER=str(ROOT / "plugins"),
        AIRFLOW__CORE__DAGS_FOLDER=str(ROOT / "dags"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS="True",
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{home}/airflow.db",
        AIRFLOW__OPENLINEAGE__DISABLED="True",
        AIRFLOW__API_AUTH__JWT_SECRET="x" * 64,
        AIRFLOW_CONN_DRCHRONO_LAKESIDE=json.dumps(
            {"conn_type": "http", "host": "http://127.0.0.1:1", "extra": {"webhook_secrets": [NEW, OLD]}}
        ),
        MEDBILL_HOME=str(home / "medbill"),
        MEDBILL_DATABASE_URL=module_database.url.render_as_string(hide_password=False),
        PYTHONPATH=os.pathsep.join(str(ROOT / name) for name in ("include", "plugins", "dags")),
    )
    with log.open("w") as out:
        server = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/integration/airflow_webhooks.py"), str(ROOT / "dags")],
            env=env,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield World(f"{_address(server, log)}/medbill/webhooks", module_database, home, log)
    finally:
        server.terminate()
        server.wait(30)


def _address(server: subprocess.Popen[bytes], log: Path) -> str:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and server.poll() is None:
        ports = [line.split()[1] for line in log.read_text().splitlines() if line.startswith("PORT ")]
        if ports:
            url = f"http://127.0.0.1:{ports[0]}"
            try:
                httpx.get(f"{url}/api/v2/version", timeout=5)
            except httpx.TransportError:
                time.sleep(0.2)
                continue
            return url
        time.sleep(0.2)
    raise AssertionError(log.read_text()[-3000:])


def test_a_signed_delivery_is_stored_without_its_body_and_wakes_the_extraction(world: World) -> None:
    before = world.woken()
    answer = world.send(id="evt-1")
    assert (answer.status_code, answer.json()) == (200, {"detail": "pending"})
    (row,) = world.events(webhook_events.c.event_id == "evt-1")
    assert (row["type"], row["day"], row["status"]) == ("APPOINTMENT_MODIFY", DAY, "pending")
    assert CANARY not in str(row)
    assert world.woken() == before + 1
    assert {r["outcome"] for r in world.ledger("webhook.receive")} == {"intent", "success"}
    assert world.send(id="evt-older", secret=OLD).status_code == 200  # while the secret is replaced
    assert world.woken() == before + 1  # the first one is still on its way


def test_a_bad_signature_is_refused_and_in_the_ledger_once_a_minute(world: World) -> None:
    for _ in range(3):
        answer = world.send(id="evt-forged", sent=BODY.replace(b"2", b"3"))
        assert (answer.status_code, answer.json()) == (401, {"detail": "WEBHOOK_REFUSED"})
    assert world.post(BODY, {}).status_code == 401
    rows = [r for r in world.ledger("webhook.refuse") if r["details"]["code"] == "WEBHOOK_SIGNATURE"]
    assert 1 <= len(rows) <= 2 and rows[0]["practice"] == "lakeside" and rows[0]["outcome"] == "failure"
    assert world.events(webhook_events.c.event_id == "evt-forged") == []


def test_a_body_changed_by_one_space_is_refused(world: World) -> None:
    assert world.send(id="evt-space", sent=BODY.replace(b": ", b":  ", 1)).status_code == 401
    assert world.events(webhook_events.c.event_id == "evt-space") == []


@pytest.mark.parametrize("age", [301, -310, 86_400])
def test_a_stale_delivery_is_refused(world: World, age: float) -> None:
    assert world.send(id=f"evt-stale{int(age)}", age=age).status_code == 401
    assert "WEBHOOK_STALE" in {r["details"]["code"] for r in world.ledger("webhook.refuse")}
    assert world.events(webhook_events.c.event_id == f"evt-stale{int(age)}") == []


def test_a_delivery_within_the_window_is_taken(world: World) -> None:
    assert world.send(age=280).status_code == 200


def test_a_replay_does_nothing(world: World) -> None:
    world.send(id="evt-again")
    first = world.events(webhook_events.c.event_id == "evt-again")
    answer = world.send(id="evt-again")
    assert (answer.status_code, answer.json()) == (200, {"detail": "duplicate"})
    assert world.events(webhook_events.c.event_id == "evt-again") == first


@pytest.mark.parametrize(
    ("body", "stored"),
    [
        (b'{"type": "INVOICE_PAID"}', "INVOICE_PAID"),
        (json.dumps({"type": f"{CANARY} 1961-02-03"}).encode(), "UNREADABLE"),
        (json.dumps({"type": [CANARY]}).encode(), "UNREADABLE"),
        (b"not json", "UNREADABLE"),
        (b"[" * 100_000, "UNREADABLE"),
        (b"", "UNREADABLE"),
    ],
)
def test_an_unknown_type_is_parked(world: World, body: bytes, stored: str) -> None:
    before, id = world.woken(), uuid.uuid4().hex
    answer = world.send(body, id=id)
    assert (answer.status_code, answer.json()) == (202, {"detail": "parked"})
    (row,) = world.events(webhook_events.c.event_id == id)
    assert (row["type"], row["status"], row["day"]) == (stored, "parked", None)
    assert world.woken() == before


def test_what_changes_no_claim_is_noted(world: World) -> None:
    id = uuid.uuid4().hex
    assert world.send(b'{"type": "PING"}', id=id).status_code == 200
    assert [r["status"] for r in world.events(webhook_events.c.event_id == id)] == ["noted"]


def test_sixteen_at_once_of_one_id_are_one_row(world: World) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: world.send(id="evt-burst"), range(16)))
    assert {a.status_code for a in answers} == {200}
    assert sorted(a.json()["detail"] for a in answers) == ["duplicate"] * 15 + ["pending"]
    assert len(world.events(webhook_events.c.event_id == "evt-burst")) == 1


def test_a_body_too_large_is_refused_before_it_is_checked(world: World) -> None:
    assert world.send(b" " * (webhooks.MAX_BYTES + 1)).status_code == 413

    def parts() -> Iterator[bytes]:  # without a length
        for _ in range(20):
            yield b" " * 65_536

    assert httpx.post(f"{world.url}/drchrono/lakeside", content=parts(), timeout=60).status_code == 413
    assert world.send(b" " * webhooks.MAX_BYTES).status_code == 202


@pytest.mark.parametrize(
    ("platform", "practice"), [("drchrono", "nowhere"), ("tebra", "lakeside"), ("tebra", "riverton"), (CANARY, CANARY)]
)
def test_an_address_without_a_secret_answers_as_a_bad_signature(world: World, platform: str, practice: str) -> None:
    answer = world.send(platform=platform, practice=practice)
    assert (answer.status_code, answer.json()) == (401, {"detail": "WEBHOOK_REFUSED"})


def test_there_is_no_signing_service_under_the_standard_scheme(world: World) -> None:
    answer = httpx.get(f"{world.url}/drchrono/lakeside", params={"msg": "evt.1.x"})
    assert answer.status_code == 404 and "secret_token" not in answer.text


def test_while_the_database_is_down_nothing_is_confirmed(world: World, postgres_server: str) -> None:
    name = world.db.url.database
    admin = sa.create_engine(postgres_server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    try:
        with admin.connect() as connection:
            connection.exec_driver_sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            connection.execute(
                sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"), {"name": name}
            )
        down = world.send(id="evt-down")
        forged = world.send(id="evt-down", sent=b"{}")
    finally:
        with admin.connect() as connection:
            connection.exec_driver_sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        admin.dispose()
        world.db.dispose()
    assert (down.status_code, down.json()) == (503, {"detail": "WEBHOOK_LATER"})
    assert int(down.headers["retry-after"]) > 0
    assert forged.status_code == 401
    again = world.send(id="evt-down")
    assert (again.status_code, again.json()["detail"]) == (200, "pending")


def test_an_extraction_takes_what_waits_and_only_that(world: World) -> None:
    today = datetime.now(UTC).date()
    world.send(id="evt-taken")
    found = webhooks.pending(world.db, "lakeside", "drchrono", today - timedelta(days=7))
    assert "evt-taken" in found.ids and found.windows() == [(DAY, DAY)]
    world.send(id="evt-later")
    webhooks.done(world.db, "lakeside", "drchrono", found.ids)
    status = {r["event_id"]: r["status"] for r in world.events()}
    assert (status["evt-taken"], status["evt-later"]) == ("done", "pending")
    assert webhooks.pending(world.db, "riverton", "drchrono", today).ids == ()


def test_nothing_of_a_delivery_lies_in_logs_ledger_or_airflow(world: World) -> None:
    world.send(BODY)
    assert CANARY not in world.log.read_text().replace(f"/{CANARY}", "")  # that one was in the address
    assert CANARY.encode() not in (world.airflow / "airflow.db").read_bytes()
    with world.db.connect() as connection:
        rows = connection.execute(sa.text("SELECT convert_from(payload, 'UTF8') FROM audit.rows")).scalars().all()
    assert rows and not any(CANARY in row for row in rows)


def test_neighbouring_days_are_one_window() -> None:
    first = date(2026, 1, 1)
    days = [first, first + timedelta(days=1), *(first + timedelta(days=10 + n) for n in range(40))]
    windows = webhooks.Pending((), frozenset(days)).windows()
    assert windows[0] == (first, first + timedelta(days=1))
    assert [d for low, high in windows for d in _days(low, high)] == sorted(days)
    assert max(high - low for low, high in windows) < timedelta(days=32)


def _days(low: date, high: date) -> list[date]:
    return [low + timedelta(days=n) for n in range((high - low).days + 1)]
