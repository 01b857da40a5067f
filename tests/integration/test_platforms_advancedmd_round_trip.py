"""Cedarhill, the practice on AdvancedMD, from its platform and back: extract, propose, approve, write files and a note, read back.

Real PostgreSQL, vault, ledger, budget and circuit; the stand-in over HTTP; its remittances from the inbox.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from medbill.pipelines.context import Partition
from medbill.platforms import advancedmd
from medbill.platforms.base import WriteBack
from medbill.sandbox.advancedmd import Sandbox, Server
from medbill.sandbox.practice import CEDARHILL, generate
from medbill.sandbox.seed import seed_advancedmd
from medbill.store.tables import outbox
from platform_world import LASTING, LATELY, START, TODAY, World, context, copied, served

pytestmark = pytest.mark.slow

PRACTICE = CEDARHILL.id


@dataclass
class Cedarhill(World):
    practice = PRACTICE
    platform = "advancedmd"

    @property
    def connection(self) -> dict[str, Any]:
        own = self.server.sandbox.credentials
        extra = {name: value for name, value in own.items() if name not in ("user", "password")}
        return {"host": self.server.url, "login": own["user"], "password": own["password"], **extra}


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    seed_advancedmd(home / "inbox", home / "sandbox", TODAY, claims=60, days=52, remittances=True)
    return home


@pytest.fixture
def world(seeded: Path, database: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cedarhill]:
    copied(seeded / "sandbox", tmp_path / "sandbox", "advancedmd")
    # the day on which a claim's visit is looked for is that of the made-up data
    evening = datetime(TODAY.year, TODAY.month, TODAY.day, 23, tzinfo=UTC)
    opened = advancedmd.open_

    def open_then(setup: Any) -> advancedmd.AdvancedMD:
        platform = opened(setup)
        platform._now = lambda: evening
        return platform

    monkeypatch.setattr(advancedmd, "ADAPTER", replace(advancedmd.ADAPTER, open=open_then))
    with served(Server(Sandbox(tmp_path / "sandbox"))) as server:
        yield Cedarhill(context(tmp_path, database, seeded / "inbox"), server)


def test_from_the_platform_to_a_file_and_a_note_on_it(world: Cedarhill) -> None:
    chosen = world.proposed()
    assert world.apply().applied == 0 and world.written("files") == []  # nothing acts alone
    for proposal in chosen:
        world.approve(proposal["id"])
    world.fault(kind="drop_after", path="uploadfile")  # the first answer gets lost
    first = world.apply()
    assert first.unknown == 1 and first.failed == 0
    for _ in range(2):
        world.rest_is_over()
        world.apply()
    rows = world.rows(outbox)
    assert sorted(r["action"] for r in rows) == ["file", "file", "note"]
    assert {r["status"] for r in rows} == {"applied"}
    files, notes = world.written("files"), world.written("notes")
    assert (len(files), len(notes)) == (2, 1)  # each once
    assert {r["receipt"]["platform_id"] for r in rows} == {str(w["id"]) for w in (*files, *notes)}
    assert world.states(chosen) == {"applied"}
    visits = {str(v.id): str(v.patient.id) for v in generate(9, START, claims=60, identity=CEDARHILL).visits}
    with world.client() as platform:
        for row in (r for r in rows if r["action"] == "file"):
            file = next(f for f in files if f["description"] == row["receipt"]["reference"])
            text = base64.b64decode(file["filecontents"]).decode("latin-1")
            claim = text.partition("(Claim ")[2].partition(")")[0]
            assert file["patientid"] == f"pat{visits[claim]}"  # on the right patient, the claim in clear
            receipt = platform.find(WriteBack(row["idempotency_key"], "file", claim, "", ""))
            assert receipt is not None and receipt.as_dict() == row["receipt"]
    assert len(notes[0]["note"]) <= 1000 and notes[0]["note"].splitlines()[-1].startswith("medbill:")
    assert world.server.sandbox.logins == 1  # all clients share the session
    asked = world.fields_asked_for()
    assert "patients.dob" in asked and not any("ssn" in name for name in asked)


@pytest.mark.parametrize("kind", LASTING)
def test_a_platform_that_lasts_in_a_fault_takes_nothing_away(
    world: Cedarhill, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.lasts_in_a_fault(monkeypatch, kind=kind, path="getupdatedvisits", field="@id")


def test_one_changed_charge_lands_its_day_alone(world: Cedarhill) -> None:
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
