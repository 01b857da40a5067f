"""Riverton, the practice on Tebra, from its platform and back: extract, propose, approve, write a document, read it back.

Real PostgreSQL, vault, ledger, budget and circuit; the stand-in over HTTP; its remittances from the inbox.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
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
from medbill.platforms import circuit, tebra
from medbill.platforms.base import WriteBack
from medbill.proposals import lifecycle
from medbill.proposals.content import proposal_id
from medbill.proposals.lifecycle import Draft
from medbill.sandbox.practice import RIVERTON, generate
from medbill.sandbox.seed import seed_tebra
from medbill.sandbox.tebra import Sandbox, Server
from medbill.settings import Settings
from medbill.store import db
from medbill.store.tables import outbox, partitions, proposals

pytestmark = pytest.mark.slow

PRACTICE = RIVERTON.id
TODAY = date(2026, 11, 20)
START = TODAY - timedelta(days=52)
LATELY = TODAY - timedelta(days=10)  # enough where only the landing matters
ANA = "Ana Ruiz"


@dataclass
class World:
    ctx: Context
    server: Server

    @property
    def connection(self) -> dict[str, Any]:
        own: Mapping[str, str] = self.server.sandbox.credentials
        extra = {n: v for n, v in own.items() if n not in ("user", "password", "practice_id")}
        return {
            "host": self.server.url,
            "login": own["user"],
            "password": own["password"],
            "fhir_host": self.server.url,
            **extra,
        }

    def extract(self, start: date = START, end: date = TODAY) -> list[Partition]:
        with connections.client(self.ctx, PRACTICE, self.connection) as source:
            return extract.extract(self.ctx, PRACTICE, "tebra", source, start, end)

    def apply(self) -> Any:
        with connections.client(self.ctx, PRACTICE, self.connection) as writer:
            return apply.apply(self.ctx, PRACTICE, writer)

    def fault(self, **fields: Any) -> None:
        assert httpx.post(f"{self.server.url}/_sandbox/faults", json=fields).status_code == 201

    def documents(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = httpx.get(f"{self.server.url}/_sandbox/written").json()["documents"]
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


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    seed_tebra(home / "inbox", home / "sandbox", TODAY, claims=60, days=52, remittances=True)
    return home


@pytest.fixture
def world(seeded: Path, database: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for operation in tebra._SPACING:  # the vendor's spacing has its own test
        monkeypatch.setitem(tebra._SPACING, operation, 0.01)
    (tmp_path / "sandbox" / "tebra").mkdir(parents=True)
    for name in ("records.json", "credentials.json"):
        (tmp_path / "sandbox" / "tebra" / name).write_bytes((seeded / "sandbox" / "tebra" / name).read_bytes())
    settings = Settings.from_env(
        {
            "MEDBILL_HOME": str(tmp_path),
            "MEDBILL_DATABASE_URL": database.url.render_as_string(hide_password=False),
            "MEDBILL_INBOX": str(seeded / "inbox"),
            "MEDBILL_INBOX_SETTLE": "0",
            "MEDBILL_INBOX_PATIENCE": "0",
        }
    )
    server = Server(Sandbox(tmp_path / "sandbox", spacing=0))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield World(Context.open(settings, RunContext(service="medbill", dag_id="test")), server)
    server.shutdown()
    server.server_close()


def test_from_the_platform_to_a_document_on_it(world: World) -> None:
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
    assert world.apply().applied == 0 and world.documents() == []  # nothing acts alone
    for proposal in chosen:
        world.approve(proposal["id"])
    world.fault(kind="drop_after", path="CreateDocument")  # the first answer gets lost
    first = world.apply()
    assert (first.applied, first.unknown, first.failed) == (1, 1, 0)
    with world.ctx.db.begin() as connection:  # the rest after an unknown outcome is over
        connection.execute(sa.text("UPDATE medbill.outbox SET lease_until = clock_timestamp() - interval '1 second'"))
    second = world.apply()
    assert (second.applied, second.unknown, second.failed) == (1, 0, 0)
    assert world.apply().applied == 0
    documents = world.documents()
    assert len(documents) == 2  # each once
    rows = world.rows(outbox)
    assert {r["action"] for r in rows} == {"document"} and {r["status"] for r in rows} == {"applied"}
    assert {r["receipt"]["platform_id"] for r in rows} == {str(d["id"]) for d in documents}
    assert {p["status"] for p in world.rows(proposals, proposals.c.id.in_([c["id"] for c in chosen]))} == {"applied"}
    visits = {str(v.id): str(v.patient.id) for v in generate(8, START, claims=60, identity=RIVERTON).visits}
    with connections.client(world.ctx, PRACTICE, world.connection) as platform:
        for row in rows:
            document = next(d for d in documents if d["Name"] == row["receipt"]["reference"])
            text = base64.b64decode(document["FileContent"]).decode("latin-1")
            claim = text.partition("(Claim ")[2].partition(")")[0]
            assert visits[claim] == document["PatientId"]  # on the right patient, the claim in clear
            receipt = platform.find(WriteBack(row["idempotency_key"], "document", claim, "", ""))
            assert receipt is not None and receipt.as_dict() == row["receipt"]
    with world.ctx.db.connect() as connection:
        payloads = connection.execute(
            sa.text("SELECT convert_from(payload, 'UTF8') FROM audit.rows WHERE kind = 'platform.extract'")
        ).scalars()
        asked = json.loads(next(p for p in payloads if '"outcome":"intent"' in p))["details"]["fields"]
    assert "charges.PatientName" in asked and not any(name.startswith("appointments") for name in asked)


def _change_the_last_charge(world: World) -> date:
    """Another amount on the newest charge of the platform; its service date."""
    path = world.server.sandbox.folder / "records.json"
    records = json.loads(path.read_text())
    charge = records["charges"][-1]
    charge.update(TotalCharges="999.00", LastModifiedDate="11/19/2026 9:00:00 AM")
    path.write_text(json.dumps(records))
    month, day, year = map(int, charge["ServiceStartDate"].split("/"))
    return date(year, month, day)


def test_two_runs_of_one_window_at_once_land_the_same_once(world: World) -> None:
    """Two processes, as two workers are: both end well, and their calls count against one budget."""
    world.extract(LATELY)
    before = world.landed("claims")
    changed = _change_the_last_charge(world)
    settings = world.ctx.settings
    env = {
        **os.environ,
        "PYTHONPATH": str(Path(extract.__file__).parents[2]),
        "MEDBILL_HOME": str(settings.home),
        "MEDBILL_DATABASE_URL": settings.database_url,
        "MEDBILL_TODAY": TODAY.isoformat(),
    }
    code = "import json, sys; from medbill.pipelines import tasks; tasks.extract(*json.load(sys.stdin))"
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code], env=env, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for run in runs:
        assert run.stdin is not None
        run.stdin.write(json.dumps([PRACTICE, "tebra", world.connection]))
        run.stdin.close()
    assert [run.wait(120) for run in runs] == [0, 0], [run.stderr.read()[-2000:] for run in runs if run.stderr]
    after = world.landed("claims")
    assert {day for day in after if after[day] != before.get(day)} == {changed}
    assert world.extract(LATELY) == []


@pytest.mark.parametrize("kind", ["truncate", "drift", "throttle", "expired", "reset", "garbage"])
def test_a_platform_that_lasts_in_a_fault_takes_nothing_away(
    world: World, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was landed stays; the watermark does too; when the fault is over the same is found, and nothing is landed twice."""
    monkeypatch.setattr(circuit, "FIRST", timedelta(0))
    monkeypatch.setattr(circuit, "TRIAL", timedelta(0))
    world.extract(LATELY)
    before = world.landed("claims"), world.landed("notes")
    world.fault(kind=kind, path="GetCharges", times=200, field="ID")
    with pytest.raises(PlatformError):
        world.extract(LATELY)
    assert (world.landed("claims"), world.landed("notes")) == before
    httpx.delete(f"{world.server.url}/_sandbox/faults")
    assert world.extract(LATELY) == [] and (world.landed("claims"), world.landed("notes")) == before


def test_one_changed_charge_lands_its_day_alone(world: World) -> None:
    world.extract(LATELY)
    day = _change_the_last_charge(world)
    assert world.extract(LATELY) == [Partition(PRACTICE, "claims", day)]


def test_a_platform_that_is_down_is_left_alone_and_approved_write_backs_wait(world: World) -> None:
    """Down for long: no attempt of a write-back is used up meanwhile, and the other platform's circuit is its own."""
    claim = str(generate(8, START, claims=60, identity=RIVERTON).visits[0].id)
    token = world.ctx.vault(PRACTICE).tokenize("CLAIM", pa.array([claim]))[0].as_py()
    money = {"charge": "100.00", "paid": "80.00", "contractual": "20.00", "denied": "0.00", "other": "0.00"}
    posting = {"payer_name": "Acme", "payment_date": "2026-11-02", "is_reversal": False, "claim_token": token}
    payload = {"posting": {**money, "patient_responsibility": "0.00", **posting}, "lines": []}
    draft = Draft(PRACTICE, "posting", date(2026, 11, 2), token, "k-0", "Post 80.00", Decimal(80), 20, payload)
    with db.transaction(world.ctx.db, PRACTICE) as connection:
        lifecycle.propose(connection, [draft])
    world.approve(proposal_id(PRACTICE, "posting", "k-0"))
    world.fault(kind="error", path="*", status=503, times=500)
    with pytest.raises(PlatformError):
        world.extract(LATELY)
    for _ in range(8):  # more dispatches than a write-back has attempts
        result = world.apply()
        assert (result.applied, result.failed, result.unknown, result.waiting) == (0, 0, 0, 1)
    circuit.DatabaseCircuit(world.ctx.db, "lakeside", "drchrono").enter()
    httpx.delete(f"{world.server.url}/_sandbox/faults")
    with world.ctx.db.begin() as connection:
        connection.execute(sa.text("UPDATE medbill.platform_circuits SET open_until = clock_timestamp()"))
    assert world.apply().applied == 1 and len(world.documents()) == 1
