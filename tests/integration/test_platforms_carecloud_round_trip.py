"""Pinegrove, the practice on CareCloud, from its platform and back: extract, propose, approve, write a Task, read it back.

And where its account may not write: the same into our own work queue. Real PostgreSQL, vault, ledger, budget and circuit; the
stand-in over HTTP; its remittances from the inbox.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from medbill.pipelines.context import Partition
from medbill.platforms import carecloud
from medbill.platforms.base import WriteBack
from medbill.platforms.budget import Limit, always
from medbill.proposals import work
from medbill.sandbox import wire
from medbill.sandbox.carecloud import Sandbox, Server
from medbill.sandbox.practice import PINEGROVE
from medbill.sandbox.seed import seed_carecloud
from medbill.store import db
from medbill.store.tables import outbox
from platform_world import LASTING, LATELY, TODAY, World, context, copied, served

pytestmark = pytest.mark.slow

PRACTICE = PINEGROVE.id


@dataclass
class Pinegrove(World):
    practice = PRACTICE
    platform = "carecloud"
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


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    seed_carecloud(home / "inbox", home / "sandbox", TODAY, claims=60, days=52, remittances=True)
    return home


@pytest.fixture
def world(seeded: Path, database: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pinegrove]:
    monkeypatch.setattr(carecloud, "LIMITS", always(Limit(500, 1)))  # a guess of ours, and slow
    copied(seeded / "sandbox", tmp_path / "sandbox", "carecloud")
    with served(Server(Sandbox(tmp_path / "sandbox"))) as server:
        yield Pinegrove(context(tmp_path, database, seeded / "inbox"), server)


def test_from_the_platform_to_a_task_on_it(world: Pinegrove) -> None:
    chosen = world.proposed()
    assert world.apply().applied == 0 and world.written("Task") == []  # nothing acts alone
    for proposal in chosen:
        world.approve(proposal["id"])
    world.fault(kind="drop_after", method="POST", path="Task")  # the first answer gets lost
    first = world.apply()
    assert (first.applied, first.unknown, first.failed) == (1, 1, 0)
    world.rest_is_over()
    second = world.apply()
    assert (second.applied, second.unknown, second.failed) == (1, 0, 0)
    assert world.apply().applied == 0
    tasks = world.written("Task")
    assert len(tasks) == 2  # each once
    rows = world.rows(outbox)
    assert {r["action"] for r in rows} == {"task"} and {r["status"] for r in rows} == {"applied"}
    assert {r["receipt"]["platform_id"] for r in rows} == {f"Task/{t['id']}" for t in tasks}
    assert world.states(chosen) == {"applied"}
    claims = {r["id"]: r for r in world.server.sandbox.records("Claim")}
    with world.client() as platform:
        for row in rows:
            task = next(t for t in tasks if t["identifier"][0]["value"] == row["receipt"]["reference"])
            claim = claims[task["focus"]["reference"].partition("/")[2]]
            number = claim["identifier"][1]["value"]
            assert task["for"]["reference"] == claim["patient"]["reference"]  # on the right patient, the claim in clear
            assert f"Claim {number}" in task["note"][0]["text"]
            receipt = platform.find(WriteBack(row["idempotency_key"], "task", number, "", ""))
            assert receipt is not None and receipt.as_dict() == row["receipt"]
    asked = world.fields_asked_for()
    assert {"Claim.item.net.value", "patients.last_name"} < set(asked) and "Claim.insurer" not in asked


def test_where_the_account_may_not_write_a_person_finds_it_in_our_queue(world: Pinegrove) -> None:
    world.write_back = ""
    claim = world.server.sandbox.records("Claim")[0]["identifier"][1]["value"]
    world.approved_posting(claim)
    assert world.apply().applied == 1 and world.apply().applied == 0
    assert world.written("Task") == []
    with db.transaction(world.ctx.db, PRACTICE) as connection:
        items = work.open_items(connection, PRACTICE)
    (row,) = world.rows(outbox)
    assert row["action"] == "task" and row["receipt"]["action"] == work.ACTION
    assert [i["idempotency_key"] for i in items] == [row["idempotency_key"]]
    with world.client() as platform:
        queue = work.OrByHand(platform, world.ctx.db, PRACTICE)
        found = queue.find(WriteBack(row["idempotency_key"], "task", claim, "", ""))
        assert found is not None and found.as_dict() == row["receipt"]


@pytest.mark.parametrize("kind", LASTING)
def test_a_platform_that_lasts_in_a_fault_takes_nothing_away(
    world: Pinegrove, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.lasts_in_a_fault(monkeypatch, kind=kind, path="Claim")


def test_one_changed_claim_lands_its_day_alone(world: Pinegrove) -> None:
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


def test_a_backfill_is_the_same_as_daily_runs(world: Pinegrove) -> None:
    for offset in range(11):
        day = LATELY + timedelta(days=offset)
        world.extract(day, day)
    daily = world.landed("claims"), world.landed("notes")
    assert len(daily[0]) > 5
    assert world.extract(LATELY) == [] and (world.landed("claims"), world.landed("notes")) == daily
