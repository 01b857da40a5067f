"""Riverton, the practice on Tebra, from its platform and back: extract, propose, approve, write a document, read it back.

Real PostgreSQL, vault, ledger, budget and circuit; the stand-in over HTTP; its remittances from the inbox.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from medbill.errors import PlatformError
from medbill.pipelines import extract
from medbill.pipelines.context import Partition
from medbill.platforms import circuit, tebra
from medbill.platforms.base import WriteBack
from medbill.sandbox.practice import RIVERTON, generate
from medbill.sandbox.seed import seed_tebra
from medbill.sandbox.tebra import Sandbox, Server
from medbill.store.tables import outbox
from platform_world import LASTING, LATELY, START, TODAY, World, context, copied, served

pytestmark = pytest.mark.slow

PRACTICE = RIVERTON.id


@dataclass
class Riverton(World):
    practice = PRACTICE
    platform = "tebra"

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


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    seed_tebra(home / "inbox", home / "sandbox", TODAY, claims=60, days=52, remittances=True)
    return home


@pytest.fixture
def world(seeded: Path, database: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Riverton]:
    for operation in tebra._SPACING:  # the vendor's spacing has its own test
        monkeypatch.setitem(tebra._SPACING, operation, 0.01)
    copied(seeded / "sandbox", tmp_path / "sandbox", "tebra")
    with served(Server(Sandbox(tmp_path / "sandbox", spacing=0))) as server:
        yield Riverton(context(tmp_path, database, seeded / "inbox"), server)


def test_from_the_platform_to_a_document_on_it(world: Riverton) -> None:
    chosen = world.proposed()
    assert world.apply().applied == 0 and world.written("documents") == []  # nothing acts alone
    for proposal in chosen:
        world.approve(proposal["id"])
    world.fault(kind="drop_after", path="CreateDocument")  # the first answer gets lost
    first = world.apply()
    assert (first.applied, first.unknown, first.failed) == (1, 1, 0)
    world.rest_is_over()
    second = world.apply()
    assert (second.applied, second.unknown, second.failed) == (1, 0, 0)
    assert world.apply().applied == 0
    documents = world.written("documents")
    assert len(documents) == 2  # each once
    rows = world.rows(outbox)
    assert {r["action"] for r in rows} == {"document"} and {r["status"] for r in rows} == {"applied"}
    assert {r["receipt"]["platform_id"] for r in rows} == {str(d["id"]) for d in documents}
    assert world.states(chosen) == {"applied"}
    visits = {str(v.id): str(v.patient.id) for v in generate(8, START, claims=60, identity=RIVERTON).visits}
    with world.client() as platform:
        for row in rows:
            document = next(d for d in documents if d["Name"] == row["receipt"]["reference"])
            text = base64.b64decode(document["FileContent"]).decode("latin-1")
            claim = text.partition("(Claim ")[2].partition(")")[0]
            assert visits[claim] == document["PatientId"]  # on the right patient, the claim in clear
            receipt = platform.find(WriteBack(row["idempotency_key"], "document", claim, "", ""))
            assert receipt is not None and receipt.as_dict() == row["receipt"]
    asked = world.fields_asked_for()
    assert "charges.PatientName" in asked and not any(name.startswith("appointments") for name in asked)


def _change_the_last_charge(world: Riverton) -> date:
    """Another amount on the newest charge of the platform; its service date."""
    path = world.server.sandbox.folder / "records.json"
    records = json.loads(path.read_text())
    charge = records["charges"][-1]
    charge.update(TotalCharges="999.00", LastModifiedDate="11/19/2026 9:00:00 AM")
    path.write_text(json.dumps(records))
    month, day, year = map(int, charge["ServiceStartDate"].split("/"))
    return date(year, month, day)


def test_two_runs_of_one_window_at_once_land_the_same_once(world: Riverton) -> None:
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


@pytest.mark.parametrize("kind", LASTING)
def test_a_platform_that_lasts_in_a_fault_takes_nothing_away(
    world: Riverton, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.lasts_in_a_fault(monkeypatch, kind=kind, path="GetCharges", field="ID")


def test_one_changed_charge_lands_its_day_alone(world: Riverton) -> None:
    world.extract(LATELY)
    day = _change_the_last_charge(world)
    assert world.extract(LATELY) == [Partition(PRACTICE, "claims", day)]


def test_a_platform_that_is_down_is_left_alone_and_approved_write_backs_wait(world: Riverton) -> None:
    """Down for long: no attempt of a write-back is used up meanwhile, and the other platform's circuit is its own."""
    claim = str(generate(8, START, claims=60, identity=RIVERTON).visits[0].id)
    world.approved_posting(claim)
    world.fault(kind="error", path="*", status=503, times=500)
    with pytest.raises(PlatformError):
        world.extract(LATELY)
    for _ in range(8):  # more dispatches than a write-back has attempts
        result = world.apply()
        assert (result.applied, result.failed, result.unknown, result.waiting) == (0, 0, 0, 1)
    circuit.DatabaseCircuit(world.ctx.db, "lakeside", "drchrono").enter()
    world.heal()
    with world.ctx.db.begin() as connection:
        connection.execute(sa.text("UPDATE medbill.platform_circuits SET open_until = clock_timestamp()"))
    assert world.apply().applied == 1 and len(world.written("documents")) == 1
