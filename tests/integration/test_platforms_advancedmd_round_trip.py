"""Cedarhill, the practice on AdvancedMD, from its platform and back: extract, propose, approve, write files and a note, read back.

Real PostgreSQL, vault, ledger, budget and circuit; the stand-in over HTTP; its remittances from the inbox.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from medbill.audit.ledger import RunContext
from medbill.errors import PlatformError
from medbill.pipelines import apply, connections, deidentify, extract, post, receive, triage
from medbill.pipelines.context import Context, Partition
from medbill.platforms import advancedmd, circuit
from medbill.platforms.base import WriteBack
from medbill.proposals import lifecycle
from medbill.sandbox.advancedmd import Sandbox, Server
from medbill.sandbox.practice import CEDARHILL, generate
from medbill.sandbox.seed import seed_advancedmd
from medbill.settings import Settings
from medbill.store import db
from medbill.store.tables import outbox, partitions, proposals

pytestmark = pytest.mark.slow

PRACTICE = CEDARHILL.id
TODAY = date(2026, 11, 20)
START = TODAY - timedelta(days=52)
LATELY = TODAY - timedelta(days=10)
ANA = "Ana Ruiz"


@dataclass
class World:
    ctx: Context
    server: Server

    @property
    def connection(self) -> dict[str, Any]:
        own = self.server.sandbox.credentials
        extra = {name: value for name, value in own.items() if name not in ("user", "password")}
        return {"host": self.server.url, "login": own["user"], "password": own["password"], **extra}

    def extract(self, start: date = START, end: date = TODAY) -> list[Partition]:
        with connections.client(self.ctx, PRACTICE, self.connection) as source:
            return extract.extract(self.ctx, PRACTICE, "advancedmd", source, start, end)

    def apply(self) -> Any:
        with connections.client(self.ctx, PRACTICE, self.connection) as writer:
            return apply.apply(self.ctx, PRACTICE, writer)

    def fault(self, **fields: Any) -> None:
        assert httpx.post(f"{self.server.url}/_sandbox/faults", json=fields).status_code == 201

    def written(self, resource: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = httpx.get(f"{self.server.url}/_sandbox/written").json()[resource]
        return found

    def rows(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> list[dict[str, Any]]:
        with self.ctx.db.connect() as connection:
            return [dict(r) for r in connection.execute(sa.select(table).where(*where)).mappings()]

    def landed(self, object_name: str) -> dict[date, str]:
        return {p["day"]: p["landed_version"] for p in self.rows(partitions, partitions.c.object == object_name)}


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    seed_advancedmd(home / "inbox", home / "sandbox", TODAY, claims=60, days=52, remittances=True)
    return home


@pytest.fixture
def world(seeded: Path, database: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    (tmp_path / "sandbox" / "advancedmd").mkdir(parents=True)
    for name in ("records.json", "credentials.json"):
        content = (seeded / "sandbox" / "advancedmd" / name).read_bytes()
        (tmp_path / "sandbox" / "advancedmd" / name).write_bytes(content)
    settings = Settings.from_env(
        {
            "MEDBILL_HOME": str(tmp_path),
            "MEDBILL_DATABASE_URL": database.url.render_as_string(hide_password=False),
            "MEDBILL_INBOX": str(seeded / "inbox"),
            "MEDBILL_INBOX_SETTLE": "0",
            "MEDBILL_INBOX_PATIENCE": "0",
        }
    )
    # the day on which a claim's visit is looked for is that of the made-up data
    evening = datetime(TODAY.year, TODAY.month, TODAY.day, 23, tzinfo=UTC)
    opened = advancedmd.open_

    def open_then(setup: Any) -> advancedmd.AdvancedMD:
        platform = opened(setup)
        platform._now = lambda: evening
        return platform

    monkeypatch.setattr(advancedmd, "ADAPTER", replace(advancedmd.ADAPTER, open=open_then))
    server = Server(Sandbox(tmp_path / "sandbox"))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield World(Context.open(settings, RunContext(service="medbill", dag_id="test")), server)
    server.shutdown()
    server.server_close()


def test_from_the_platform_to_a_file_and_a_note_on_it(world: World) -> None:
    assert world.extract()
    assert world.extract() == []  # nothing changed: nothing is landed again
    receive.scan(world.ctx, PRACTICE)
    receive.land(world.ctx, receive.pending(world.ctx, PRACTICE))
    deidentify.publish(world.ctx, deidentify.pending(world.ctx))
    for partition in post.pending(world.ctx):
        post.post(world.ctx, partition)
    for partition in triage.pending(world.ctx):
        triage.triage(world.ctx, partition)
    found = world.rows(proposals, proposals.c.practice == PRACTICE)
    chosen = [next(p for p in found if p["kind"] == kind) for kind in ("posting", "denial_follow_up")]
    assert len(found) > 20
    assert world.apply().applied == 0 and world.written("files") == []  # nothing acts alone
    for proposal in chosen:
        with db.transaction(world.ctx.db, PRACTICE) as connection:
            shown = lifecycle.show(connection, proposal["id"])
            lifecycle.approve(connection, proposal["id"], shown["content_hash"], ANA)
    world.fault(kind="drop_after", path="uploadfile")  # the first answer gets lost
    first = world.apply()
    assert first.unknown == 1 and first.failed == 0
    for _ in range(2):
        with world.ctx.db.begin() as connection:  # the rest after an unknown outcome is over
            connection.execute(
                sa.text("UPDATE medbill.outbox SET lease_until = clock_timestamp() - interval '1 second'")
            )
        world.apply()
    rows = world.rows(outbox)
    assert sorted(r["action"] for r in rows) == ["file", "file", "note"]
    assert {r["status"] for r in rows} == {"applied"}
    files, notes = world.written("files"), world.written("notes")
    assert (len(files), len(notes)) == (2, 1)  # each once
    assert {r["receipt"]["platform_id"] for r in rows} == {str(w["id"]) for w in (*files, *notes)}
    assert {p["status"] for p in world.rows(proposals, proposals.c.id.in_([c["id"] for c in chosen]))} == {"applied"}
    visits = {str(v.id): str(v.patient.id) for v in generate(9, START, claims=60, identity=CEDARHILL).visits}
    with connections.client(world.ctx, PRACTICE, world.connection) as platform:
        for row in (r for r in rows if r["action"] == "file"):
            file = next(f for f in files if f["description"] == row["receipt"]["reference"])
            text = base64.b64decode(file["filecontents"]).decode("latin-1")
            claim = text.partition("(Claim ")[2].partition(")")[0]
            assert file["patientid"] == f"pat{visits[claim]}"  # on the right patient, the claim in clear
            receipt = platform.find(WriteBack(row["idempotency_key"], "file", claim, "", ""))
            assert receipt is not None and receipt.as_dict() == row["receipt"]
    assert len(notes[0]["note"]) <= 1000 and notes[0]["note"].splitlines()[-1].startswith("medbill:")
    assert world.server.sandbox.logins == 1  # all clients share the session
    with world.ctx.db.connect() as connection:
        payloads = connection.execute(
            sa.text("SELECT convert_from(payload, 'UTF8') FROM audit.rows WHERE kind = 'platform.extract'")
        ).scalars()
        asked = json.loads(next(p for p in payloads if '"outcome":"intent"' in p))["details"]["fields"]
    assert "patients.dob" in asked and not any("ssn" in name for name in asked)


@pytest.mark.parametrize("kind", ["truncate", "drift", "throttle", "expired", "reset", "garbage"])
def test_a_platform_that_lasts_in_a_fault_takes_nothing_away(
    world: World, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was landed stays; when the fault is over the same is found, and nothing is landed twice."""
    monkeypatch.setattr(circuit, "FIRST", timedelta(0))
    monkeypatch.setattr(circuit, "TRIAL", timedelta(0))
    world.extract(LATELY)
    before = world.landed("claims"), world.landed("notes")
    assert before[0] and before[1]
    world.fault(kind=kind, path="getupdatedvisits", times=200, field="@id")
    with pytest.raises(PlatformError):
        world.extract(LATELY)
    assert (world.landed("claims"), world.landed("notes")) == before
    httpx.delete(f"{world.server.url}/_sandbox/faults")
    assert world.extract(LATELY) == [] and (world.landed("claims"), world.landed("notes")) == before


def test_one_changed_charge_lands_its_day_alone(world: World) -> None:
    world.extract(LATELY)
    path = world.server.sandbox.folder / "records.json"
    records = json.loads(path.read_text())
    detail = records["charge_details"][-1]
    visit = next(v for v in records["visits"] if v["@id"] == detail["@visit"])
    charge = next(c for c in visit["chargelist"]["charge"] if c["@id"] == detail["@id"])
    for record, name in ((detail, "@fee"), (charge, "@amount")):
        record[name] = "999.00"
    path.write_text(json.dumps(records))
    month, day, year = map(int, visit["@date"].split("/"))
    assert world.extract(LATELY) == [Partition(PRACTICE, "claims", date(year, month, day))]
