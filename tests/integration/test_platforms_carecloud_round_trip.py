"""Pinegrove, the practice on CareCloud, from its platform and back: extract, propose, approve, write a Task, read it back.

And where its account may not write: the same into our own work queue. Real PostgreSQL, vault, ledger, budget and circuit; the
stand-in over HTTP; its remittances from the inbox.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
import sqlalchemy as sa

from medbill.audit.ledger import RunContext
from medbill.errors import PlatformError
from medbill.pipelines import apply, connections, deidentify, extract, post, receive, triage
from medbill.pipelines.context import Context, Partition
from medbill.platforms import carecloud, circuit
from medbill.platforms.base import WriteBack
from medbill.platforms.budget import Limit, always
from medbill.proposals import lifecycle, work
from medbill.proposals.content import proposal_id
from medbill.proposals.lifecycle import Draft
from medbill.sandbox import wire
from medbill.sandbox.carecloud import Sandbox, Server
from medbill.sandbox.practice import PINEGROVE
from medbill.sandbox.seed import seed_carecloud
from medbill.settings import Settings
from medbill.store import db
from medbill.store.tables import outbox, partitions, proposals

pytestmark = pytest.mark.slow

PRACTICE = PINEGROVE.id
TODAY = date(2026, 11, 20)
START = TODAY - timedelta(days=52)
LATELY = TODAY - timedelta(days=10)  # enough where only the landing matters
ANA = "Ana Ruiz"


@dataclass
class World:
    ctx: Context
    server: Server
    write_back: str = "task"

    @property
    def connection(self) -> dict[str, Any]:
        own = self.server.sandbox.credentials
        more = {name: own[name] for name in ("refresh_token", "fhir_client_id", "fhir_client_secret", "fhir_scope")}
        url = self.server.url
        return {
            "host": url,
            "login": own["client_id"],
            "password": own["client_secret"],
            "fhir_host": url,
            "write_back": self.write_back,
            **more,
        }

    def extract(self, start: date = START, end: date = TODAY) -> list[Partition]:
        with connections.client(self.ctx, PRACTICE, self.connection) as source:
            return extract.extract(self.ctx, PRACTICE, "carecloud", source, start, end)

    def apply(self) -> Any:
        with connections.client(self.ctx, PRACTICE, self.connection) as writer:
            return apply.apply(self.ctx, PRACTICE, writer)

    def fault(self, **fields: Any) -> None:
        assert httpx.post(f"{self.server.url}/_sandbox/faults", json=fields).status_code == 201

    def tasks(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = httpx.get(f"{self.server.url}/_sandbox/written").json()["Task"]
        return found

    def rows(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> list[dict[str, Any]]:
        with self.ctx.db.connect() as connection:
            return [dict(r) for r in connection.execute(sa.select(table).where(*where)).mappings()]

    def approve(self, id: str) -> None:
        with db.transaction(self.ctx.db, PRACTICE) as connection:
            shown = lifecycle.show(connection, id)
            lifecycle.approve(connection, id, shown["content_hash"], ANA)

    def landed(self, object_name: str) -> dict[date, str]:
        found = self.rows(partitions, partitions.c.object == object_name)
        return {p["day"]: p["landed_version"] for p in found}

    def proposed(self) -> list[dict[str, Any]]:
        """What the pipelines propose of the whole practice: a posting and a follow-up of a denial."""
        assert self.extract()
        receive.scan(self.ctx, PRACTICE)
        receive.land(self.ctx, receive.pending(self.ctx, PRACTICE))
        deidentify.publish(self.ctx, deidentify.pending(self.ctx))
        for partition in post.pending(self.ctx):
            post.post(self.ctx, partition)
        for partition in triage.pending(self.ctx):
            triage.triage(self.ctx, partition)
        found = self.rows(proposals, proposals.c.practice == PRACTICE)
        assert len(found) > 20
        return [next(p for p in found if p["kind"] == kind) for kind in ("posting", "denial_follow_up")]


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    seed_carecloud(home / "inbox", home / "sandbox", TODAY, claims=60, days=52, remittances=True)
    return home


@pytest.fixture
def world(seeded: Path, database: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(carecloud, "LIMITS", always(Limit(500, 1)))  # a guess of ours, and slow
    (tmp_path / "sandbox" / "carecloud").mkdir(parents=True)
    for name in ("records.json", "credentials.json"):
        (tmp_path / "sandbox" / "carecloud" / name).write_bytes((seeded / "sandbox" / "carecloud" / name).read_bytes())
    settings = Settings.from_env(
        {
            "MEDBILL_HOME": str(tmp_path),
            "MEDBILL_DATABASE_URL": database.url.render_as_string(hide_password=False),
            "MEDBILL_INBOX": str(seeded / "inbox"),
            "MEDBILL_INBOX_SETTLE": "0",
            "MEDBILL_INBOX_PATIENCE": "0",
        }
    )
    server = Server(Sandbox(tmp_path / "sandbox"))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield World(Context.open(settings, RunContext(service="medbill", dag_id="test")), server)
    server.shutdown()
    server.server_close()


def test_from_the_platform_to_a_task_on_it(world: World) -> None:
    chosen = world.proposed()
    assert world.extract() == []  # nothing changed: nothing is landed again
    assert world.apply().applied == 0 and world.tasks() == []  # nothing acts alone
    for proposal in chosen:
        world.approve(proposal["id"])
    world.fault(kind="drop_after", method="POST", path="Task")  # the first answer gets lost
    first = world.apply()
    assert (first.applied, first.unknown, first.failed) == (1, 1, 0)
    with world.ctx.db.begin() as connection:  # the rest after an unknown outcome is over
        connection.execute(sa.text("UPDATE medbill.outbox SET lease_until = clock_timestamp() - interval '1 second'"))
    second = world.apply()
    assert (second.applied, second.unknown, second.failed) == (1, 0, 0)
    assert world.apply().applied == 0
    tasks = world.tasks()
    assert len(tasks) == 2  # each once
    rows = world.rows(outbox)
    assert {r["action"] for r in rows} == {"task"} and {r["status"] for r in rows} == {"applied"}
    assert {r["receipt"]["platform_id"] for r in rows} == {f"Task/{t['id']}" for t in tasks}
    assert {p["status"] for p in world.rows(proposals, proposals.c.id.in_([c["id"] for c in chosen]))} == {"applied"}
    claims = {r["id"]: r for r in world.server.sandbox.records("Claim")}
    with connections.client(world.ctx, PRACTICE, world.connection) as platform:
        for row in rows:
            task = next(t for t in tasks if t["identifier"][0]["value"] == row["receipt"]["reference"])
            claim = claims[task["focus"]["reference"].partition("/")[2]]
            number = claim["identifier"][1]["value"]
            assert task["for"]["reference"] == claim["patient"]["reference"]  # on the right patient, the claim in clear
            assert f"Claim {number}" in task["note"][0]["text"]
            receipt = platform.find(WriteBack(row["idempotency_key"], "task", number, "", ""))
            assert receipt is not None and receipt.as_dict() == row["receipt"]
    with world.ctx.db.connect() as connection:
        payloads = connection.execute(
            sa.text("SELECT convert_from(payload, 'UTF8') FROM audit.rows WHERE kind = 'platform.extract'")
        ).scalars()
        asked = json.loads(next(p for p in payloads if '"outcome":"intent"' in p))["details"]["fields"]
    assert {"Claim.item.net.value", "patients.last_name"} < set(asked) and "Claim.insurer" not in asked


def test_where_the_account_may_not_write_a_person_finds_it_in_our_queue(world: World) -> None:
    world.write_back = ""
    claim = world.server.sandbox.records("Claim")[0]["identifier"][1]["value"]
    token = world.ctx.vault(PRACTICE).tokenize("CLAIM", pa.array([claim]))[0].as_py()
    money = {"charge": "100.00", "paid": "80.00", "contractual": "20.00", "denied": "0.00", "other": "0.00"}
    posting = {"payer_name": "Acme", "payment_date": "2026-11-02", "is_reversal": False, "claim_token": token}
    payload = {"posting": {**money, "patient_responsibility": "0.00", **posting}, "lines": []}
    draft = Draft(PRACTICE, "posting", date(2026, 11, 2), token, "k-0", "Post 80.00", Decimal(80), 20, payload)
    with db.transaction(world.ctx.db, PRACTICE) as connection:
        lifecycle.propose(connection, [draft])
    world.approve(proposal_id(PRACTICE, "posting", "k-0"))
    assert world.apply().applied == 1 and world.apply().applied == 0
    assert world.tasks() == []
    with db.transaction(world.ctx.db, PRACTICE) as connection:
        items = work.open_items(connection, PRACTICE)
    (row,) = world.rows(outbox)
    assert row["action"] == "task" and row["receipt"]["action"] == work.ACTION
    assert [i["idempotency_key"] for i in items] == [row["idempotency_key"]]
    with connections.client(world.ctx, PRACTICE, world.connection) as platform:
        queue = work.OrByHand(platform, world.ctx.db, PRACTICE)
        found = queue.find(WriteBack(row["idempotency_key"], "task", claim, "", ""))
        assert found is not None and found.as_dict() == row["receipt"]


@pytest.mark.parametrize("kind", ["truncate", "drift", "throttle", "expired", "reset", "garbage"])
def test_a_platform_that_lasts_in_a_fault_takes_nothing_away(
    world: World, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was landed stays; the watermark does too; when the fault is over the same is found, and nothing is landed twice."""
    monkeypatch.setattr(circuit, "FIRST", timedelta(0))
    monkeypatch.setattr(circuit, "TRIAL", timedelta(0))
    world.extract(LATELY)
    before = world.landed("claims"), world.landed("notes")
    assert before[0] and before[1]
    world.fault(kind=kind, path="Claim", times=200)
    with pytest.raises(PlatformError):
        world.extract(LATELY)
    assert (world.landed("claims"), world.landed("notes")) == before
    httpx.delete(f"{world.server.url}/_sandbox/faults")
    assert world.extract(LATELY) == [] and (world.landed("claims"), world.landed("notes")) == before


def test_one_changed_claim_lands_its_day_alone(world: World) -> None:
    world.extract(LATELY)
    path = world.server.sandbox.folder / "records.json"
    records = wire.loads(path.read_bytes())
    claim = [c for c in records["Claim"] if c["status"] == "active"][-1]
    claim["item"] = claim["item"][:1]
    claim["item"][0]["net"]["value"] = claim["total"]["value"] = Decimal("999.00")
    claim["meta"]["lastUpdated"] = datetime.now(UTC).isoformat()
    path.write_text(wire.dumps(records))
    day = date.fromisoformat(claim["billablePeriod"]["start"])
    assert world.extract(LATELY) == [Partition(PRACTICE, "claims", day)]


def test_a_backfill_is_the_same_as_daily_runs(world: World) -> None:
    for offset in range(11):
        day = LATELY + timedelta(days=offset)
        world.extract(day, day)
    daily = world.landed("claims"), world.landed("notes")
    assert len(daily[0]) > 5
    assert world.extract(LATELY) == [] and (world.landed("claims"), world.landed("notes")) == daily
