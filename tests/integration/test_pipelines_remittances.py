"""The whole remittance pipeline without Airflow: real PostgreSQL, the sandbox practice over HTTP, real files in the inbox.

The sandbox knows what it planted (Truth); the product must find exactly that, to the cent.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType

import pytest
import sqlalchemy as sa

from medbill.audit.ledger import RunContext
from medbill.audit.verify import verify
from medbill.pipelines import deidentify, extract, post, receive, report, triage
from medbill.pipelines.context import Context, Partition
from medbill.platforms.base import Extraction
from medbill.sandbox import era, practice
from medbill.settings import Settings
from medbill.store.tables import holds, inbox_files, partitions, proposals, quarantine, results

pytestmark = pytest.mark.slow

TODAY = date(2026, 11, 20)
PRACTICE = "lakeside"


@dataclass
class World:
    ctx: Context
    data: practice.PracticeData
    truth: era.Truth

    def rows(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> list[dict]:
        with self.ctx.db.connect() as connection:
            return [dict(r) for r in connection.execute(sa.select(table).where(*where)).mappings()]

    def drop(self, name: str, data: bytes) -> None:
        path = Path(self.ctx.settings.inbox) / PRACTICE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def run(self) -> None:
        receive.scan(self.ctx, PRACTICE)
        receive.land(self.ctx, receive.pending(self.ctx, PRACTICE))
        deidentify.publish(self.ctx, deidentify.pending(self.ctx))
        for step in (post.post, triage.triage):
            pending = (post if step is post.post else triage).pending(self.ctx)
            for partition in pending:
                step(self.ctx, partition)

    def fingerprint(self) -> str:
        """Everything a re-run may not change: rows without their clocks, object keys and bytes of the de-identified zones."""
        digest = hashlib.sha256()
        for table in (inbox_files, partitions, quarantine, holds, proposals, results):
            clocks = {"created_at", "updated_at", "landed_at", "published_at"}
            rows = sorted(
                json.dumps({k: v for k, v in r.items() if k not in clocks}, default=str, sort_keys=True)
                for r in self.rows(table)
            )
            digest.update("\n".join(rows).encode())
        for zone in ("deid/", "results/"):
            for key in sorted(self.ctx.objects.list(zone)):
                digest.update(key.encode() + hashlib.sha256(self.ctx.objects.get(key)).digest())
        return digest.hexdigest()


class Source:
    """The extraction side of the platform, answered from the generator (the adapter has its own tests over HTTP)."""

    name = "drchrono"
    scope: Mapping[str, tuple[str, ...]] = MappingProxyType({})

    def __init__(self, data: practice.PracticeData) -> None:
        self.data = data

    def extract(self, start: date, end: date) -> Extraction:
        return Extraction(self.data.claim_tables())


@pytest.fixture(scope="module")
def world(module_database: sa.Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("home")
    settings = Settings.from_env(
        {
            "MEDBILL_HOME": str(home),
            "MEDBILL_DATABASE_URL": module_database.url.render_as_string(hide_password=False),
            "MEDBILL_INBOX_SETTLE": "0",
            "MEDBILL_INBOX_PATIENCE": "0",
        }
    )
    ctx = Context.open(settings, RunContext(service="medbill", dag_id="test"))
    data = practice.generate(seed=11, today=TODAY)
    truth = era.write(data, Path(settings.inbox))
    made = World(ctx, data, truth)
    extract.extract(ctx, PRACTICE, "drchrono", Source(data), TODAY - timedelta(days=120), TODAY)
    made.run()
    yield made


def cents(rows: list[dict], column: str) -> int:
    return int(sum((r[column] or Decimal(0) for r in rows), Decimal(0)) * 100)


def test_nothing_is_lost_to_the_record_and_to_the_cent(world: World) -> None:
    counts = [p["counts"] for p in world.rows(partitions, partitions.c.object == "remittances")]
    claims_in = sum(c["claims_in"] for c in counts)
    assert claims_in == sum(c["claims_published"] + c["claims_quarantined"] for c in counts)
    total = {k: sum(Decimal(c[k]) for c in counts) for k in ("paid_in", "paid_landed", "paid_quarantined")}
    assert total["paid_in"] == total["paid_landed"] + total["paid_quarantined"]
    posted = [r["counts"] for r in world.rows(results, results.c.kind == "postings")]
    assert sum(p["postings"] + p["held"] for p in posted) == sum(c["claims_published"] for c in counts)
    assert sum(Decimal(p["paid_posted"]) + Decimal(p["paid_held"]) for p in posted) == total["paid_landed"]


def test_what_came_in_is_what_the_sandbox_sent(world: World) -> None:
    counts = [p["counts"] for p in world.rows(partitions, partitions.c.object == "remittances")]
    cut = [p for p in world.truth.planted if p["kind"] == "truncated"]
    sent = sum(f["claims"] for f in world.truth.files if f["counted"])
    assert sent <= sum(c["claims_in"] for c in counts) <= sent + sum(len(p["claim_ids"]) for p in cut)


def test_planted_inputs_end_where_they_must(world: World) -> None:
    refused = {(str(q["day"]), q["reason_code"]) for q in world.rows(quarantine)}
    held = {(str(h["day"]), h["reason_code"]) for h in world.rows(holds)}
    assert world.truth.planted
    for planted in world.truth.planted:
        expected = (planted["day"], planted["reason"])
        if planted["outcome"] == "quarantined" and planted["level"] == "file":
            assert planted["reason"] in {reason for _, reason in refused}, planted["kind"]
        elif planted["outcome"] == "quarantined":
            assert expected in refused, planted["kind"]
        elif planted["outcome"] == "held":
            assert expected in held, planted["kind"]
    outcomes = {p["outcome"] for p in world.truth.planted}
    assert {"quarantined", "held", "accepted", "duplicate"} <= outcomes


def test_underpayments_are_exactly_the_planted_ones(world: World) -> None:
    counts = [r["counts"] for r in world.rows(results, results.c.kind == "postings")]
    planted = world.truth.underpayments
    assert planted
    assert sum(Decimal(c["underpaid"]) for c in counts) == Decimal(sum(u["variance"] for u in planted)) / 100
    assert sum(c["underpaid_lines"] for c in counts) == len(planted)


def test_denied_dollars_are_the_planted_ones_less_what_a_reversal_took_back(world: World) -> None:
    found = sum(Decimal(r["counts"]["denied"]) for r in world.rows(results, results.c.kind == "denials"))
    unknown = sum(d["amount"] for d in world.truth.denials)
    assert 0 < found <= Decimal(unknown) / 100


def test_every_posted_claim_has_one_proposal_and_nothing_is_applied(world: World) -> None:
    posted = sum(r["counts"]["postings"] for r in world.rows(results, results.c.kind == "postings"))
    found = world.rows(proposals, proposals.c.kind == "posting")
    assert len(found) == posted > 100
    assert {p["status"] for p in world.rows(proposals)} == {"proposed"}


def test_running_again_changes_nothing(world: World) -> None:
    before = world.fingerprint()
    era.write(world.data, Path(world.ctx.settings.inbox))  # the same files once more
    extract.extract(world.ctx, PRACTICE, "drchrono", Source(world.data), TODAY - timedelta(days=120), TODAY)
    world.run()
    for partition in world.rows(partitions, partitions.c.object == "remittances"):
        post.post(world.ctx, Partition(PRACTICE, "remittances", partition["day"]))
        triage.triage(world.ctx, Partition(PRACTICE, "remittances", partition["day"]))
    assert world.fingerprint() == before


def test_no_identifier_in_the_deidentified_zones_proposals_or_ledger(world: World) -> None:
    patients = world.data.patients
    values = {p.last_name for p in patients} | {p.member_id for p in patients} | {str(v.id) for v in world.data.visits}
    pattern = re.compile("|".join(sorted(map(re.escape, values), key=len, reverse=True)), re.IGNORECASE)
    import pyarrow.parquet as pq

    texts: list[str] = []
    for zone in ("deid/", "results/"):
        for key in world.ctx.objects.list(zone):
            texts.append(key)
            import io

            texts.append(json.dumps(pq.read_table(io.BytesIO(world.ctx.objects.get(key))).to_pylist(), default=str))
    for table in (inbox_files, partitions, quarantine, holds, proposals, results):
        texts.append(json.dumps(world.rows(table), default=str))
    with world.ctx.db.connect() as connection:
        rows = connection.execute(sa.text("SELECT row_to_json(t)::text FROM audit.rows t")).scalars().all()
    assert len(rows) > 100
    texts += rows
    hits = {m.group(0) for text in texts for m in pattern.finditer(text)}
    assert hits == set()


def test_landing_zone_is_sealed(world: World) -> None:
    names = {p.last_name.encode() for p in world.data.patients}
    for zone in ("landing/", "quarantine/"):
        for key in world.ctx.objects.list(zone):
            data = world.ctx.objects.get(key)
            assert not any(name in data or name.upper() in data for name in names)


def test_the_inbox_is_empty_and_the_ledger_verifies(world: World) -> None:
    assert [p for p in (Path(world.ctx.settings.inbox) / PRACTICE).iterdir() if p.is_file()] == []
    checked = verify(world.ctx.db)
    assert checked.rows > 100 and checked.problems == []


def test_the_report_is_made_of_these_numbers(world: World, tmp_path: Path) -> None:
    made = report.denials(world.ctx, PRACTICE, TODAY - timedelta(days=90), TODAY, tmp_path / "report", TODAY)
    page = made.html.read_text()
    denied = sum(Decimal(r["counts"]["denied"]) for r in world.rows(results, results.c.kind == "denials"))
    assert f"{denied:,.2f}" in page or f"{denied:,.0f}" in page
    assert not re.search(r"""(src|href)=["']https?:""", page)


def test_same_name_with_other_content_waits_for_a_person(world: World) -> None:
    name = next(f["name"] for f in world.truth.files if f["kind"] == "regular")
    files, _ = era.build(practice.generate(seed=12, today=TODAY))
    other = next(f for f in files if f.kind == "regular")
    world.drop(name, other.data)
    assert receive.scan(world.ctx, PRACTICE).held == 1
    held = world.rows(inbox_files, inbox_files.c.status == "held")
    assert [(h["reason_code"], h["version"]) for h in held] == [("NAME_REUSED", 2)]
    receive.release(world.ctx, PRACTICE, held[0]["sha256"], actor="ana", accept=False)
    assert world.rows(inbox_files, inbox_files.c.status == "held") == []


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("empty.835", b"", "EMPTY_FILE"),
        ("blank.835", b" \r\n", "EMPTY_FILE"),
        ("scan.835", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n", "NOT_X12"),
    ],
)
def test_files_that_are_no_remittance_are_quarantined_with_their_reason(
    world: World, name: str, data: bytes, reason: str
) -> None:
    world.drop(f"other-{name}", data)
    receive.scan(world.ctx, PRACTICE)
    sha = hashlib.sha256(data).hexdigest()
    found = world.rows(quarantine, quarantine.c.record_key == sha)
    assert [(q["level"], q["reason_code"]) for q in found] == [("file", reason)]
