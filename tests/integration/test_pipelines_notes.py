"""The free text of claims from the platform to published notes, on a real database, vault and free-text engine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

import pyarrow as pa
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from medbill.audit.ledger import RunContext
from medbill.audit.verify import verify
from medbill.deid import vault as vaults
from medbill.deid.reidentify import tokens_in
from medbill.deid.text.engine import Engine
from medbill.deid.text.errors import TextTooHard
from medbill.errors import BadInput, QualityGateClosed, StoreUnavailable, TamperedData, TokenRefused
from medbill.model.claims import NOTES
from medbill.pipelines import deidentify, extract, notes, retention, shred, shred_landed
from medbill.pipelines.context import Context, Partition
from medbill.pipelines.vault_cli import app
from medbill.platforms.base import Extraction
from medbill.sandbox import notes as written
from medbill.sandbox import practice
from medbill.settings import Settings
from medbill.store.tables import partitions, quarantine, vault_tokens

pytestmark = pytest.mark.slow
TODAY = date(2026, 11, 20)
PRACTICE = practice.PRACTICE_ID


def notes_of(data: practice.PracticeData) -> pa.Table:
    rows = []
    for visit in data.visits:
        patient = visit.patient
        record = {
            "claim_id": str(visit.id),
            "patient_id": str(patient.id),
            "patient_last_name": patient.last_name,
            "patient_first_name": patient.first_name,
            "patient_birth_date": patient.birth_date,
            "member_id": patient.member_id,
        }
        rows.append(
            {
                **record,
                "note_id": str(visit.id),
                "note_type": "appointment",
                "written_on": visit.service_date,
                "text": written.of_visit(visit),
            }
        )
        for note in written.of_claim(visit):
            day = datetime.fromisoformat(note["created_at"]).date()
            rows.append(
                {**record, "note_id": str(note["id"]), "note_type": "billing", "written_on": day, "text": note["text"]}
            )
    return pa.Table.from_pylist(rows, schema=NOTES)


class Source:
    name = "drchrono"
    scope: Mapping[str, tuple[str, ...]] = MappingProxyType({})

    def __init__(self, data: practice.PracticeData, texts: pa.Table) -> None:
        self.data, self.texts = data, texts

    def extract(self, start: date, end: date) -> Extraction:
        return Extraction(self.data.claim_tables(), self.texts)


class World:
    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.data = practice.generate(seed=5, today=TODAY, days=6, claims=60)
        self.notes = notes_of(self.data)

    def land(self, texts: pa.Table | None = None) -> list[Partition]:
        source = Source(self.data, self.notes if texts is None else texts)
        return extract.extract(self.ctx, PRACTICE, "drchrono", source, TODAY - timedelta(days=30), TODAY)

    def publish(self) -> list[Partition]:
        return deidentify.publish(self.ctx, [p for p in deidentify.pending(self.ctx) if p.object == "notes"])

    def rows(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> list[dict]:
        with self.ctx.db.connect() as connection:
            return [dict(r) for r in connection.execute(sa.select(table).where(*where)).mappings()]

    def published(self) -> list[dict]:
        mine = self.rows(partitions, partitions.c.object == "notes")
        days = [Partition(PRACTICE, "notes", row["day"]) for row in mine if row["published_uri"]]
        return [row for day in days for row in deidentify.read(self.ctx, day)["notes"].to_pylist()]

    def one_note(self, text: str) -> Partition:
        """Land a single note with this text, on the first visit."""
        first = self.notes.slice(0, 1).set_column(4, NOTES.field("text"), pa.array([text]))
        self.land(first)
        (day,) = {v.service_date for v in self.data.visits if str(v.id) == first["claim_id"][0].as_py()}
        return Partition(PRACTICE, "notes", day)


@pytest.fixture
def world(database: sa.Engine, tmp_path: Path) -> Iterator[World]:
    vaults._cache._tokens = {}
    url = database.url.render_as_string(hide_password=False)
    settings = Settings.from_env({"MEDBILL_HOME": str(tmp_path), "MEDBILL_DATABASE_URL": url})
    yield World(Context.open(settings, RunContext(service="medbill", dag_id="test")))


def test_every_note_is_published_without_an_identifier_or_waits_for_a_person(world: World) -> None:
    landed = world.land()
    assert {p.object for p in landed} == {"claims", "notes"}
    changed = world.publish()
    assert changed and {p.object for p in changed} == {"notes"}
    out, refused = world.published(), world.rows(quarantine, quarantine.c.object == "notes")
    assert len(out) + len(refused) == world.notes.num_rows
    assert len(out) > 0.9 * world.notes.num_rows
    assert {r["level"] for r in refused} <= {"note"} and {r["reason_code"] for r in refused} <= notes.REASONS.keys()
    text = "\n".join(row["text"] for row in out)
    for note in world.notes.to_pylist():
        for name in ("patient_last_name", "patient_first_name", "member_id"):
            assert not re.search(rf"\b{re.escape(note[name])}\b", text, re.IGNORECASE), name
    assert not re.search(r"555-01|@example|Marsh Lane|Evanston|Farquhar|Pinder|Thornbury", text)
    assert all(tokens_in(row["text"]) == re.findall(r"\[[A-Z_]+_[0-9A-Z]{17}\]", row["text"]) for row in out)
    # what the analysis needs is still there
    for code in ("99213", "BP 128/82", "A1c 7.1", "$25.00", "PR-1", "CO-16 N286", "metformin 500 mg"):
        if any(code in note["text"] for note in world.notes.to_pylist()):
            assert code in text, code
    kinds = {kind for (kind,) in {(row["kind"],) for row in world.rows(vault_tokens)}}
    assert {"PERSON", "DATE", "PHONE", "NOTE", "CLAIM"} <= kinds
    # a note's claim has the token the claim itself has
    claims = [Partition(PRACTICE, "claims", p.day) for p in changed]
    deidentify.publish(world.ctx, claims)
    known = {t for p in claims for t in deidentify.read(world.ctx, p)["claims"]["claim_token"].to_pylist()}
    assert {row["claim_token"] for row in out} <= known


def test_again_changes_nothing_and_a_changed_note_changes_its_day_alone(world: World) -> None:
    world.land()
    world.publish()
    before = world.rows(partitions), world.published(), world.rows(quarantine)
    assert world.land() == []
    assert (
        deidentify.publish(
            world.ctx, [Partition(PRACTICE, "notes", r["day"]) for r in before[0] if r["object"] == "notes"]
        )
        == []
    )
    assert (world.rows(partitions), world.published(), world.rows(quarantine)) == before
    texts = world.notes["text"].to_pylist()
    texts[0] = "Corrected: 99214 not 99213."
    again = world.land(world.notes.set_column(4, NOTES.field("text"), pa.array(texts)))
    assert len(again) == 1 and world.publish() == again
    assert "Corrected: 99214 not 99213." in {row["text"] for row in world.published()}


def test_a_note_on_two_patients_waits_and_comes_through_once_it_is_mended(world: World) -> None:
    two = (
        "Payment for John Ashgrove (DOB 02/03/1961, member ID QXA119274) was posted to patient Mary Wexcombe, "
        "DOB 04/17/1958, member ID ZQX77131, by mistake."
    )
    day = world.one_note(two)
    world.publish()
    (row,) = world.rows(quarantine)
    assert (row["reason_code"], row["level"], row["day"]) == ("SEVERAL_PATIENTS", "note", day.day)
    assert "Ashgrove" not in str(row) and vaults.is_token(row["record_key"])
    assert deidentify.read(world.ctx, day)["notes"].num_rows == 0
    world.one_note("Payment posted to the right account.")
    world.publish()
    assert world.rows(quarantine) == []
    assert deidentify.read(world.ctx, day)["notes"]["text"].to_pylist() == ["Payment posted to the right account."]


def test_one_note_that_is_too_hard_stops_itself_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    hard = world.notes["text"][3].as_py()
    real = Engine.analyze

    def analyze(self: Engine, texts: list[str], records: object = None) -> object:
        if any(text == hard for text in texts):
            raise TextTooHard("a pattern ran out of time")
        return real(self, texts, records)  # type: ignore[arg-type]

    monkeypatch.setattr(Engine, "analyze", analyze)
    world.land()
    world.publish()
    refused = world.rows(quarantine, quarantine.c.reason_code == "NOTE_TOO_HARD")
    assert len(refused) == world.notes["text"].to_pylist().count(hard)
    assert len(world.published()) + len(world.rows(quarantine)) == world.notes.num_rows


def test_what_an_engine_misses_the_guard_holds_and_gate_two_would_close(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = world.data.visits[0].patient
    text = f"Seen again: {patient.first_name} {patient.last_name}, call 415-555-0199"
    monkeypatch.setattr(Engine, "analyze", lambda self, texts, records=None: [[] for _ in texts])
    claims = [p for p in world.land() if p.object == "claims"]
    deidentify.publish(world.ctx, claims)
    day = world.one_note(text)
    world.publish()
    held = world.rows(quarantine, quarantine.c.day == day.day, quarantine.c.object == "notes")
    assert [row["reason_code"] for row in held] in (["EGRESS_KNOWN_VALUE"], ["EGRESS_PATTERN"])
    # and were it not for that, gate 2 itself looks at a sample
    real = notes.deidentify

    def blind(*arguments: object) -> notes.Notes:
        done = real(*arguments)  # type: ignore[arg-type]
        landed = arguments[0]
        return replace(done, table=landed, texts=landed["text"].combine_chunks(), refused={})

    monkeypatch.setattr(notes, "deidentify", blind)
    world.one_note(text + " today")
    with pytest.raises(QualityGateClosed, match="notes/"):
        world.publish()
    assert deidentify.read(world.ctx, day)["notes"].num_rows == 0


def test_without_vault_or_key_no_note_is_published(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.land()
    pending = [p for p in deidentify.pending(world.ctx) if p.object == "notes"]

    def down(*_: object) -> None:
        raise StoreUnavailable("down")

    monkeypatch.setattr(vaults.Vault, "tokenize", down)
    with pytest.raises(StoreUnavailable):
        deidentify.publish(world.ctx, pending)
    assert world.published() == []


def test_one_altered_landed_object_stops_its_own_partition_alone(world: World) -> None:
    landed = sorted(p.day for p in world.land() if p.object == "notes")
    sealed = world.ctx.objects.list(f"landing/{PRACTICE}/notes/")
    world.ctx.objects.put(sealed[0], world.ctx.objects.get(sealed[0])[:-1] + b"x")
    world.ctx.objects.delete(sealed[1])
    with pytest.raises(TamperedData, match="2 landed partition"):
        world.publish()
    done = {r["day"] for r in world.rows(partitions, partitions.c.object == "notes") if r["published_uri"]}
    assert done == set(landed[2:])


def test_a_shredded_patient_is_gone_from_the_vault_and_nobody_else_is(world: World) -> None:
    world.land()
    pending = deidentify.pending(world.ctx)
    deidentify.publish(world.ctx, pending)
    per_patient: dict[str, set[str]] = {}
    for day in [p for p in pending if p.object == "claims"]:
        for row in deidentify.read(world.ctx, day)["claims"].to_pylist():
            per_patient.setdefault(row["patient_token"], set()).add(row["claim_token"])
    patient, claims = next(iter(per_patient.items()))
    vault = world.ctx.vault(PRACTICE)
    own = shred.tokens_of(world.ctx, PRACTICE, patient)
    before = vault.reveal(own)
    assert {patient, *claims} <= set(own)
    done = shred.shred(world.ctx, PRACTICE, patient)
    assert done.values == len(own) and done.objects > 0
    left = shred_landed.Values(before.values())
    for key in world.ctx.objects.list("landing/"):
        zone, context = retention.context_of(key)
        opened = world.ctx.envelopes.open_object(PRACTICE, zone, context, world.ctx.objects.get(key))
        assert not left.in_object(opened)
    assert shred.shred(world.ctx, PRACTICE, patient) == shred.Shredded(0, 0, 0)
    for token in own:
        with pytest.raises(TokenRefused) as refused:
            vault.reveal([token])
        assert refused.value.code == "TOKEN_SHREDDED"
    everybody = {t for p in pending for table in deidentify.read(world.ctx, p).values() for t in shred._tokens(table)}
    rest = vault.reveal(sorted(everybody - set(own)))
    assert len(rest) > len(own) and not set(rest.values()) & set(before.values())
    # the same patient comes again: known under new tokens, not under the dead ones
    (known,) = vault.tokenize("PATIENT", pa.array([before[patient]])).to_pylist()
    assert known != patient
    for wrong, code in (
        (next(iter(claims)), "NOT_A_PATIENT_TOKEN"),
        ("P", "NOT_A_PATIENT_TOKEN"),
        (known, "PATIENT_UNKNOWN"),
    ):
        with pytest.raises(BadInput) as error:
            shred.shred(world.ctx, PRACTICE, wrong)
        assert error.value.code == code
    assert verify(world.ctx.db).problems == []


def test_the_vault_command_rotates_and_shreds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.land()
    deidentify.publish(world.ctx, deidentify.pending(world.ctx))
    monkeypatch.setenv("MEDBILL_DATABASE_URL", world.ctx.settings.database_url)
    monkeypatch.setenv("MEDBILL_HOME", str(world.ctx.settings.home))
    monkeypatch.delenv("MEDBILL_ACTOR", raising=False)
    texts = [row["text"] for row in world.published()]
    turned = CliRunner().invoke(app, ["rotate", "--practice", PRACTICE, "--actor", "Finn Aro"])
    assert turned.exit_code == 0 and re.fullmatch(r"[1-9]\d* values under new keys\n", turned.output), turned.output
    tokens = sorted({token for text in texts for token in tokens_in(text)})
    assert len(Context.open(world.ctx.settings).vault(PRACTICE).reveal(tokens)) == len(tokens)
    day = next(p for p in [Partition(PRACTICE, "claims", r["day"]) for r in world.rows(partitions)])
    patient = deidentify.read(world.ctx, day)["claims"]["patient_token"][0].as_py()
    command = ["shred", patient, "--practice", PRACTICE, "--actor", "Ben Ode"]
    stopped = CliRunner().invoke(app, command, input="n\n")
    assert stopped.exit_code != 0 and world.ctx.vault(PRACTICE).reveal([patient])
    done = CliRunner().invoke(app, [*command, "--yes"])
    assert done.exit_code == 0 and "values shredded" in done.output
    assert CliRunner().invoke(app, command[:-2]).exit_code != 0  # for nobody
    with world.ctx.db.connect() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT kind, outcome, on_behalf_of FROM audit.rows WHERE kind LIKE 'vault.%' AND outcome <> 'intent'"
            )
        ).all()
    assert {tuple(r) for r in rows} == {("vault.rotate", "success", "Finn Aro"), ("vault.shred", "success", "Ben Ode")}


def test_a_payer_may_be_named_though_the_vault_has_the_like(world: World) -> None:
    payer = world.data.claim_tables()["claims"]["payer_name"][0].as_py()
    world.ctx.vault(PRACTICE).tokenize("FACILITY", pa.array([payer]))
    deidentify.publish(world.ctx, [p for p in world.land() if p.object == "claims"])
    day = world.one_note(f"ELIGIBILITY VERIFIED WITH {payer}, DX I10.")
    world.publish()
    assert world.rows(quarantine) == []
    assert deidentify.read(world.ctx, day)["notes"].num_rows == 1
