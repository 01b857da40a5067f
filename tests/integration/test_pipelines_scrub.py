"""Published claims through the scrubber to coder reviews and back, on a real database, with generated reference tables."""

from __future__ import annotations

import json
import runpy
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from medbill.audit.ledger import RunContext
from medbill.deid import vault as vaults
from medbill.model.claims import CLAIM_LINES, CLAIMS
from medbill.model.scrub import SCRUBBED_CLAIMS, SCRUBBED_ISSUES
from medbill.pipelines import alarms, deidentify, extract, results, scrub, tasks
from medbill.pipelines.apply import apply
from medbill.pipelines.context import Context, Partition
from medbill.pipelines.scrub_cli import app as scrub_app
from medbill.platforms.base import Extraction, Receipt, WriteBack
from medbill.proposals import cli as proposals_cli
from medbill.proposals import lifecycle
from medbill.rules.reference import load
from medbill.settings import Settings
from medbill.store import db
from medbill.store.tables import outbox, proposal_events, proposals
from medbill.store.tables import results as results_table

t = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "rules_scrub.py")))
DAY = date.fromisoformat(t.DAY)
EARLIER = date(2019, 3, 4)  # no table of the tests is in force then
PRACTICE, PLATFORM = "riverton", "tebra"
C = t.CODES

#: claim -> lines (code, modifiers, units) and what must be found; nothing: a clean claim.
PLANTED: dict[str, tuple[list[tuple[str, list[str], int]], str | None]] = {
    "700001": ([(C[39], [], 1)], None),
    "700002": ([(C[0], [], 1), (C[1], [], 1)], "NCCI-PTP"),
    "700003": ([(C[10], [], 3)], "MUE-MAI1"),
    "700004": ([(C[20], [], 1)], "ADD-ON-TYPE1"),
    "700005": ([(C[39], [], 1), (C[39], [], 1)], "DUPLICATE-LINE"),
    "700006": ([("Q0002", [], 1)], "HCPCS-RETIRED"),
    "700007": ([(C[38], [], 1)], None),
}


def tables(day: date = DAY, claims: Mapping[str, Any] = MappingProxyType(PLANTED), **more: Any) -> dict[str, pa.Table]:
    heads, lines = [], []
    for number, (claim, (billed, _)) in enumerate(claims.items()):
        heads.append(
            {
                "claim_id": claim,
                "platform": PLATFORM,
                "patient_id": str(90_000_001 + number),
                "patient_last_name": "Zumbalton",
                "patient_first_name": "Querida",
                "patient_birth_date": date(1980, 1, 1),
                "member_id": f"ZX{100_000_000 + number}",
                "payer_id": "PAY09",
                "payer_name": "Payer of the tests",
                "rendering_npi": t.NPI,
                "place_of_service": "11",
                "service_date": day,
                "billed_date": day,
                "billing_status": None,
                "charge": Decimal(100 * len(billed)),
                **more,
            }
        )
        lines += [
            {
                "claim_id": claim,
                "line_id": f"{claim}{n}",
                "line_number": n,
                "procedure_code": code,
                "modifiers": modifiers,
                "units": Decimal(units),
                "charge": Decimal(100),
                "diagnosis_codes": ["I10"],
            }
            for n, (code, modifiers, units) in enumerate(billed, 1)
        ]
    return {
        "claims": pa.Table.from_pylist(heads, schema=CLAIMS),
        "claim_lines": pa.Table.from_pylist(lines, schema=CLAIM_LINES),
    }


class Source:
    name = PLATFORM
    scope: Mapping[str, tuple[str, ...]] = MappingProxyType({})

    def __init__(self, claims: dict[str, pa.Table]) -> None:
        self.claims = claims

    def extract(self, start: date, end: date) -> Extraction:
        from medbill.model.claims import NOTES

        return Extraction(self.claims, NOTES.empty_table())


class World:
    def __init__(self, ctx: Context, folder: Path) -> None:
        self.ctx, self.folder = ctx, folder

    def publish(self, claims: dict[str, pa.Table], day: date = DAY, practice: str = PRACTICE) -> None:
        extract.extract(self.ctx, practice, PLATFORM, Source(claims), day, day)
        deidentify.publish(self.ctx, [p for p in deidentify.pending(self.ctx) if p.object == "claims"])

    def load(self, *kinds: str) -> None:
        for kind, paths in t.files(self.folder).items():
            if not kinds or kind in kinds:
                load.load(self.ctx.objects, kind, paths)

    def scrub(self) -> Counter[str]:
        step = scrub.Step(self.ctx)
        for partition in step.pending():
            step.scrub(self.ctx, partition)
        scrub.tell(self.ctx)
        return step.totals

    def rows(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> list[dict[str, Any]]:
        with self.ctx.db.connect() as connection:
            return [dict(r) for r in connection.execute(sa.select(table).where(*where)).mappings()]

    def claim_ids(self, tokens: list[str], practice: str = PRACTICE) -> list[str]:
        found = self.ctx.vault(practice).reveal(tokens)
        return [found[token] for token in tokens]

    def state(self) -> str:
        """Everything a re-run may not change, clocks apart from those of proposals and results."""
        kept = [self.rows(table) for table in (proposals, proposal_events, results_table, outbox)]
        objects = {key: self.ctx.objects.get(key) for key in self.ctx.objects.list("results/")}
        return repr((kept, objects))


@pytest.fixture
def world(database: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    vaults._cache._tokens = {}
    monkeypatch.setenv("MEDBILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MEDBILL_DATABASE_URL", database.url.render_as_string(hide_password=False))
    monkeypatch.setenv("MEDBILL_TODAY", str(t.AS_OF))
    (tmp_path / "tables").mkdir()
    yield World(Context.open(Settings.from_env(), RunContext(service="medbill", dag_id="test")), tmp_path / "tables")


def test_planted_errors_are_found_proposed_once_and_a_rerun_changes_nothing(world: World) -> None:
    world.load()
    world.publish(tables())
    assert scrub.pending(world.ctx) == [Partition(PRACTICE, "claims", DAY)]
    totals = world.scrub()
    bad = {claim: rule for claim, (_, rule) in PLANTED.items() if rule}
    assert totals["claims"] == len(PLANTED) == totals["scrubbed"] + totals["held"] and totals["held"] == 0
    assert (totals["clean"], totals["failed"]) == (len(PLANTED) - len(bad), len(bad))
    found = world.rows(proposals)
    assert {p["kind"] for p in found} == {"coder_review"} and {p["status"] for p in found} == {"proposed"}
    by_claim = dict(zip(world.claim_ids([p["claim_token"] for p in found]), found, strict=True))
    assert by_claim.keys() == bad.keys()
    for claim, proposal in by_claim.items():
        first = proposal["payload"]["issues"][0]
        assert first["rule_id"] == bad[claim] and first["rule_version"] and first["evidence"], claim
        assert proposal["payload"]["suggested_actions"]
    edit = by_claim["700002"]["payload"]["issues"][0]["evidence"]
    assert (edit["column1"], edit["column2"], edit["table"]) == (C[0], C[1], "ncci_ptp_practitioner")
    before = world.state()
    assert scrub.pending(world.ctx) == [] and world.scrub()["claims"] == 0
    scrub.Step(world.ctx).scrub(world.ctx, Partition(PRACTICE, "claims", DAY))  # even where it is asked for again
    assert world.state() == before
    stored = results.read(world.ctx, PRACTICE, "scrub", DAY, DAY)
    assert stored["claims"][0].schema.equals(SCRUBBED_CLAIMS) and stored["issues"][0].schema.equals(SCRUBBED_ISSUES)
    assert alarms.lines(world.ctx.settings.home) == []
    done = CliRunner().invoke(scrub_app, ["--status"])
    assert "riverton: 7 claims, clean-claim rate 28.6 %: 2 pass, 0 needs_review, 5 fail" in done.output


def test_nothing_stored_or_proposed_names_the_patient_or_the_day_of_service(world: World) -> None:
    world.load()
    world.publish(tables())
    world.scrub()
    stored = results.read(world.ctx, PRACTICE, "scrub", DAY, DAY)
    text = json.dumps([table.to_pylist() for of in stored.values() for table in of], default=str)
    payloads = [{k: v for k, v in p["payload"].items() if k != "claim_key"} for p in world.rows(proposals)]
    text += json.dumps(payloads)
    assert not [
        value for value in ("Zumbalton", "Querida", "1980", "ZX1000", "90000001", "70000", t.DAY) if value in text
    ]


def test_a_claim_that_is_corrected_loses_its_review_and_a_changed_one_is_revised(world: World) -> None:
    world.load()
    world.publish(tables())
    world.scrub()
    corrected = {**PLANTED, "700002": ([(C[0], [], 1)], None), "700003": ([(C[10], [], 4)], "MUE-MAI1")}
    world.publish(tables(claims=corrected))
    world.scrub()
    found = world.rows(proposals)
    statuses = dict(zip(world.claim_ids([p["claim_token"] for p in found]), [p["status"] for p in found], strict=True))
    assert statuses.pop("700002") == "expired" and set(statuses.values()) == {"proposed"}
    assert Counter(e["event"] for e in world.rows(proposal_events)) == {"proposed": 5, "withdrawn": 1, "revised": 1}


def test_without_tables_claims_are_held_with_one_alarm_and_no_proposal(world: World) -> None:
    world.publish(tables(claims={k: PLANTED[k] for k in ("700001", "700002", "700007")}))
    world.publish(tables(EARLIER, {"600001": PLANTED["700001"]}), EARLIER)
    totals = world.scrub()
    assert (totals["claims"], totals["scrubbed"], totals["held"], totals["clean"]) == (4, 0, 4, 0)
    assert world.rows(proposals) == []
    stored = results.read(world.ctx, PRACTICE, "scrub", DAY, DAY)
    assert set(stored["claims"][0]["validation_result"].to_pylist()) == {"needs_review"}
    assert "NO-TABLE-IN-FORCE" in stored["issues"][0]["rule_id"].to_pylist()
    (line,) = alarms.lines(world.ctx.settings.home)
    assert "REFERENCE_MISSING" in line and "4 claim(s)" in line and "ncci_ptp_practitioner for 2019Q1, 2026Q3" in line
    assert scrub.pending(world.ctx) == []
    world.load()
    assert scrub.pending(world.ctx) == [Partition(PRACTICE, "claims", DAY)]  # those of the day they judge
    assert world.scrub()["failed"] == 1
    (line,) = alarms.lines(world.ctx.settings.home)
    assert "1 claim(s)" in line and "2026Q3" not in line
    assert world.claim_ids([p["claim_token"] for p in world.rows(proposals)]) == ["700002"]


def test_an_error_that_needs_no_table_is_proposed_without_tables(world: World) -> None:
    world.publish(tables(claims={"700005": PLANTED["700005"]}))
    assert world.scrub()["failed"] == 1
    (proposal,) = world.rows(proposals)
    rules = [i["rule_id"] for i in proposal["payload"]["issues"]]
    assert rules[0] == "DUPLICATE-LINE" and "NO-TABLE-IN-FORCE" in rules  # what was not checked is said
    assert alarms.lines(world.ctx.settings.home) == []


#: practice, platform, fields, code -> verdict, and what is said in either case.
GIVEN: list[tuple[str, str, dict[str, Any], str, str, str]] = [
    ("lakeside", "drchrono", {"place_of_service": None}, C[39], "pass", "place_of_service is missing"),
    ("pinegrove", "carecloud", {"place_of_service": None}, C[39], "fail", "place_of_service is missing"),
    ("riverton", "tebra", {"payer_id": None}, C[39], "pass", "payer_id is missing"),
    ("lakeside", "drchrono", {"payer_id": None}, C[39], "fail", "payer_id is missing"),
    ("lakeside", "drchrono", {"payer_id": "LHP01"}, "E0601", "pass", "E0601 needs prior authorization"),
    ("pinegrove", "carecloud", {"payer_id": "LHP01"}, "E0601", "fail", "E0601 needs prior authorization"),
    ("pinegrove", "carecloud", {"payer_id": "BRM02"}, "G0270", "pass", "G0270 needs a referral"),
]


def test_what_a_platform_never_gives_is_said_and_decides_nothing(world: World) -> None:
    world.load()
    for practice, platform, fields, code, verdict, says in GIVEN:
        world.publish(
            tables(claims={"700001": ([(code, [], 1)], None)}, platform=platform, **fields), practice=practice
        )
        world.scrub()
        stored = results.read(world.ctx, practice, "scrub", DAY, DAY)
        assert stored["claims"][0]["validation_result"].to_pylist() == [verdict], says
        assert any(m.startswith(says) for m in stored["issues"][0]["message"].to_pylist())


def test_high_charges_come_first(world: World) -> None:
    world.load()
    world.publish(tables(claims={"700002": PLANTED["700002"]}, charge=Decimal("900.00")))
    world.scrub()
    (proposal,) = world.rows(proposals)
    assert (proposal["amount"], proposal["priority"]) == (Decimal("900.00"), 30)


class Platform:
    name = PLATFORM

    def __init__(self) -> None:
        self.written: list[WriteBack] = []

    def write(self, write_back: WriteBack) -> Receipt:
        self.written.append(write_back)
        return Receipt(self.name, write_back.action, "1", write_back.idempotency_key)

    def find(self, write_back: WriteBack) -> Receipt | None:
        return None


def test_a_coder_decides_and_an_analyst_may_not(world: World) -> None:
    world.load()
    world.publish(tables(claims={k: PLANTED[k] for k in ("700002", "700003")}))
    world.scrub()
    found = {claim: p for p in world.rows(proposals) for claim in world.claim_ids([p["claim_token"]])}
    first, second = found["700002"], found["700003"]

    def say(*words: str) -> Any:
        return CliRunner().invoke(proposals_cli.app, list(words))

    refused = say("approve", first["id"], "--hash", first["content_hash"], "--actor", "Gia Moss")
    assert refused.exit_code != 0 and refused.exception.code == "ROLE_REFUSED"
    assert {p["status"] for p in world.rows(proposals)} == {"proposed"}
    note = "59 is not borne out by the record"
    done = say("approve", first["id"], "--hash", first["content_hash"], "--actor", "Dev Rao", "--note", note)
    assert done.exit_code == 0, done.output
    assert say("reject", second["id"], "--actor", "Dev Rao", "--note", "records support the units").exit_code == 0
    platform = Platform()
    assert apply(world.ctx, PRACTICE, platform).applied == 1
    (sent,) = platform.written
    assert sent.claim_id == "700002" and sent.text.startswith("Claim 700002\n") and "(NCCI-PTP, 2026Q3" in sent.text
    with db.transaction(world.ctx.db, PRACTICE) as connection:
        shown = {p["id"]: lifecycle.show(connection, p["id"]) for p in (first, second)}
    assert [shown[p["id"]]["status"] for p in (first, second)] == ["applied", "rejected"]
    told = [(e["event"], e["actor"], e["note"]) for e in shown[first["id"]]["events"]]
    assert ("approved", "Dev Rao", note) in told
    before = world.rows(proposals)
    scrub.Step(world.ctx).scrub(world.ctx, Partition(PRACTICE, "claims", DAY))  # decided once is decided
    assert world.rows(proposals) == before


def test_the_task_hands_over_counts_and_days_alone(world: World) -> None:
    world.load()
    extract.extract(world.ctx, PRACTICE, PLATFORM, Source(tables()), DAY, DAY)
    assert tasks.publish("claims")["waiting"] == 1  # so that the asset of published claims wakes scrub_claims
    assert tasks.scrub({"day": None, "pending": True}) == {
        "partitions": 1,
        "days": [t.DAY],
        "waiting": 0,
        "scrubbed": 7,
        "clean": 2,
        "held": 0,
    }
    assert tasks.scrub({"day": None, "pending": True})["partitions"] == 0
    assert tasks.scrub({"day": t.DAY, "pending": False})["clean"] == 2  # a backfill of that day
    assert tasks.publish("claims")["waiting"] == 0
