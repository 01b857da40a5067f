"""A delivery makes the next extraction look at the service day it names, and is done when that has landed."""

from __future__ import annotations

import json
import threading
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from medbill.audit.ledger import Ledger, RunContext
from medbill.errors import PlatformError
from medbill.pipelines import tasks
from medbill.platforms import webhooks
from medbill.platforms.webhooks import Delivery
from medbill.sandbox.drchrono import CREDENTIALS_FILE, Limits, Sandbox, Server
from medbill.sandbox.practice import generate
from medbill.sandbox.seed import seed_practice
from medbill.store.tables import partitions, watermarks, webhook_events

pytestmark = pytest.mark.slow

PRACTICE, TODAY, DAYS, CLAIMS = "lakeside", date(2026, 11, 20), 52, 60
WINDOW = TODAY - timedelta(days=7)


def _days(database: sa.Engine) -> set[date]:
    with database.connect() as connection:
        return set(connection.scalars(sa.select(partitions.c.day).where(partitions.c.object == "claims")))


def _status(database: sa.Engine) -> list[str]:
    with database.connect() as connection:
        return list(connection.scalars(sa.select(webhook_events.c.status)))


def test_the_day_of_a_delivery_is_extracted_and_a_failed_run_leaves_it_waiting(
    tmp_path: Path, database: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed_practice(tmp_path / "inbox", tmp_path / "sandbox", TODAY, claims=CLAIMS, days=DAYS)
    visits = generate(7, TODAY - timedelta(days=DAYS), DAYS, CLAIMS).visits
    old = max(v.service_date for v in visits if v.service_date < WINDOW - timedelta(days=20))
    monkeypatch.setenv("MEDBILL_HOME", str(tmp_path))
    monkeypatch.setenv("MEDBILL_DATABASE_URL", database.url.render_as_string(hide_password=False))
    monkeypatch.setenv("MEDBILL_TODAY", TODAY.isoformat())
    account = json.loads((tmp_path / "sandbox" / CREDENTIALS_FILE).read_text())
    server = Server(Sandbox(tmp_path / "sandbox", Limits(10_000, 1_000_000)))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    connection: dict[str, Any] = {
        "host": server.url,
        "login": account["client_id"],
        "password": account["client_secret"],
        "refresh_token": account["refresh_token"],
    }
    with database.begin() as open_one:
        open_one.execute(
            sa.insert(watermarks).values(practice=PRACTICE, source="drchrono.claims", watermark=TODAY.isoformat())
        )
    ledger = Ledger(database, RunContext(service="test"))
    body = json.dumps({"object": {"scheduled_time": f"{old}T09:00:00"}}).encode()
    delivery = Delivery("d-1", "APPOINTMENT_MODIFY", datetime.now(UTC))
    try:
        tasks.extract(PRACTICE, "drchrono", connection)
        assert min(_days(database)) >= WINDOW
        assert webhooks.accept(database, ledger, PRACTICE, "drchrono", delivery, body).status == "pending"
        fault = {"kind": "error", "path": "/api/appointments", "times": 10, "status": 404}
        assert httpx.post(f"{server.url}/_sandbox/faults", json=fault).status_code == 201
        with pytest.raises(PlatformError):
            tasks.extract(PRACTICE, "drchrono", connection)
        assert _status(database) == ["pending"]
        httpx.delete(f"{server.url}/_sandbox/faults")
        done = tasks.extract(PRACTICE, "drchrono", connection)
    finally:
        server.shutdown()
        server.server_close()
    assert done["days"] == [old.isoformat()] and old in _days(database)
    assert _status(database) == ["done"]
    assert not webhooks.accept(database, ledger, PRACTICE, "drchrono", delivery, body).wakes
    assert _status(database) == ["done"]  # a replay does not open it again
