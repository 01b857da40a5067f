"""Shredding one patient on a real PostgreSQL: the vault, what was landed, quarantine, superseded and purged versions."""

from __future__ import annotations

import importlib.util
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from medbill.audit.verify import verify
from medbill.deid.vault import Vault
from medbill.errors import DecisionRefused, StoreUnavailable, TokenRefused
from medbill.model.claims import CLAIMS
from medbill.pipelines import deidentify, purge, receive, retention, shred, shred_landed
from medbill.pipelines.context import Partition
from medbill.platforms.base import Extraction
from medbill.store.tables import holds, inbox_files, proposals, quarantine, token_traces

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("faults_world", ROOT / "tests" / "faults" / "world.py")
assert _spec is not None and _spec.loader is not None
w = sys.modules.setdefault("faults_world", importlib.util.module_from_spec(_spec))
if not hasattr(w, "Office"):
    _spec.loader.exec_module(w)

pytestmark = pytest.mark.slow
DAY = date(2026, 9, 15)
#: Values of patient A and of patient B. A's member number of before stands in a superseded version alone.
A = {"patient_id": "ZQPTA", "patient_last_name": "Zqarden", "patient_first_name": "Zqalma", "member_id": "ZQMEMAOLD"}
B = {"patient_id": "ZQPTB", "patient_last_name": "Zqbrook", "patient_first_name": "Zqbert", "member_id": "ZQMEMB"}


class Office(w.Office):  # type: ignore[name-defined, misc]
    """Claims with the patients they are of."""

    def __init__(self) -> None:
        super().__init__()
        self.patients: dict[str, dict[str, str]] = {}

    def of(self, patient: dict[str, str], **changes: Any) -> Any:
        names = {"last": patient["patient_last_name"], "first": patient["patient_first_name"]}
        made = self.claim(**names, member=patient["member_id"], **changes)
        self.patients[made.id] = patient
        return made

    def extract(self, start: date, end: date) -> Extraction:
        found = super().extract(start, end)
        claims = [row | self.patients.get(row["claim_id"], {}) for row in found.tables["claims"].to_pylist()]
        return Extraction(found.tables | {"claims": pa.Table.from_pylist(claims, schema=CLAIMS)})


@pytest.fixture
def world(database: sa.Engine, tmp_path: Path) -> Any:
    """Each patient has a claim that is posted and one that gate 1 refused, of one file and one day."""
    office = Office()
    made = w.open_world(database, tmp_path / "home", office)
    claims = [office.of(patient, **off) for patient in (A, B) for off in ({}, {"charge": 99_999})]
    made.bill()
    office.patients = {k: p | {"member_id": "ZQMEMANEW"} if p is A else p for k, p in office.patients.items()}
    made.bill()  # the day of claims is published anew, with A's new number
    made.drop("a.835", w.interchange(DAY, w.Payment(tuple(claims))))
    made.drop("no.835", b"no interchange, but it speaks of Zqarden, ZQMEMAOLD")
    made.drop("other.835", b"no interchange, of nobody")
    made.run()
    assert len(made.rows(quarantine, quarantine.c.level == "claim")) == 2
    return made


def patients(world: Any) -> dict[str, str]:
    """Patient id -> token."""
    claims = deidentify.read(world.ctx, Partition(w.PRACTICE, "claims", w.SERVICE_DAY))["claims"]
    tokens = sorted(set(claims["patient_token"].to_pylist()))
    return {value: token for token, value in world.ctx.vault(w.PRACTICE).reveal(tokens).items()}


def opened(world: Any) -> dict[str, bytes]:
    found = {}
    for zone in ("landing/", "quarantine/"):
        for key in world.ctx.objects.list(zone):
            found[key] = world.ctx.envelopes.open_object(
                w.PRACTICE, *retention.context_of(key), world.ctx.objects.get(key)
            )
    return found


def everything_of(world: Any, patient: str) -> dict[str, str]:
    return world.ctx.vault(w.PRACTICE).reveal(shred.tokens_of(world.ctx, w.PRACTICE, patient))


def assert_gone(world: Any, before: dict[str, str]) -> None:
    """Nothing of A opens any more, everything of B does."""
    vault, values = world.ctx.vault(w.PRACTICE), shred_landed.Values(before.values())
    for token in before:
        with pytest.raises(TokenRefused, match="shredded"):
            vault.reveal([token])
    left = opened(world)
    assert left and not any(values.in_object(data) for data in left.values())
    of_b = everything_of(world, patients_of_b(world))
    assert {B["patient_id"], B["member_id"], B["patient_last_name"]} <= set(of_b.values())


def patients_of_b(world: Any) -> str:
    claims = deidentify.read(world.ctx, Partition(w.PRACTICE, "claims", w.SERVICE_DAY))["claims"]
    (token,) = world.ctx.vault(w.PRACTICE).alive(sorted(set(claims["patient_token"].to_pylist())))
    return str(token)


def test_a_patient_is_gone_from_vault_landing_and_quarantine_and_the_others_are_not(world: Any) -> None:
    patient = patients(world)[A["patient_id"]]
    before = everything_of(world, patient)
    assert {"ZQMEMAOLD", "ZQMEMANEW", "ZQPTA"} <= set(before.values())  # the old one from a superseded version
    held = [key for key, data in opened(world).items() if shred_landed.Values(before.values()).in_object(data)]
    assert len(held) >= 5  # both versions of the claims, the day of payments with its file, both quarantines
    done = shred.shred(world.ctx, w.PRACTICE, patient)
    assert done.values == len(before) and done.rewritten == 1 and done.objects >= 5
    assert_gone(world, before)
    # B's refused claim still waits, in an object of its own; A's is gone, and so are both quarantined records of A
    rows = world.rows(quarantine, quarantine.c.level == "claim")
    assert sorted(r["purged_at"] is None for r in rows) == [False, True]
    (open_one,) = [r for r in rows if r["purged_at"] is None]
    assert b"ZQMEMB" in opened(world)[retention.key_of(open_one["uri"])]
    files = {r["record_key"]: r["purged_at"] for r in world.rows(quarantine, quarantine.c.level == "file")}
    assert sorted(at is None for at in files.values()) == [False, True]
    # again: nothing; and the pipelines leave all of it as it is
    assert shred.shred(world.ctx, w.PRACTICE, patient) == shred.Shredded(0, 0, 0)
    state = world.fingerprint()
    world.run()
    assert world.fingerprint() == state and verify(world.ctx.db).ok


@pytest.mark.parametrize("at", ["objects", "vault"])
def test_a_shredding_that_breaks_off_is_taken_up_again(world: Any, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    patient = patients(world)[A["patient_id"]]
    before = everything_of(world, patient)
    calls, unit = [0], purge.unit

    def broken(*arguments: Any) -> Any:
        calls[0] += 1
        if at == "vault" or calls[0] == 3:
            raise StoreUnavailable("gone")
        return unit(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(*((Vault, "shred", broken) if at == "vault" else (purge, "unit", broken)))
        with pytest.raises(StoreUnavailable):
            shred.shred(world.ctx, w.PRACTICE, patient)
    assert world.ctx.vault(w.PRACTICE).reveal(sorted(before)) == before  # the values say what is left to do
    assert shred.shred(world.ctx, w.PRACTICE, patient).values == len(before)
    assert_gone(world, before)


def test_what_is_still_needed_is_told_and_the_vault_waits_for_it(world: Any) -> None:
    patient = patients(world)[A["patient_id"]]
    before = everything_of(world, patient)
    again = world.office.of(A | {"member_id": "ZQMEMANEW"})
    held = world.drop("a.835", w.interchange(DAY, w.Payment((again,)), control=7))  # the name came before: held
    world.scan()
    with pytest.raises(DecisionRefused) as refused:
        shred.shred(world.ctx, w.PRACTICE, patient)
    assert refused.value.code == "SHRED_INCOMPLETE"
    assert world.ctx.vault(w.PRACTICE).reveal(sorted(before)) == before
    receive.release(world.ctx, w.PRACTICE, held, actor="ana", accept=False)
    assert shred.shred(world.ctx, w.PRACTICE, patient).values == len(before)
    assert_gone(world, before)
    (file,) = world.rows(inbox_files, inbox_files.c.sha256 == held)
    assert file["purged_at"] is not None


def test_tokens_of_purged_versions_are_found(world: Any) -> None:
    with world.ctx.db.begin() as connection:
        connection.execute(sa.update(proposals).values(status="applied"))
        connection.execute(sa.update(holds).values(status="resolved"))
    patient = patients(world)[A["patient_id"]]
    before = everything_of(world, patient)
    purge.run(world.ctx, datetime.now(UTC) + timedelta(days=40))
    traced = {r["token"] for r in world.rows(token_traces)}
    assert "ZQMEMAOLD" in {before[token] for token in traced if token in before}
    assert everything_of(world, patient) == before
    assert shred.shred(world.ctx, w.PRACTICE, patient).values == len(before)
