"""Planting: identifiers of every kind get into what the platform and the payers send, no count changes, and they stay."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medbill.cli import app
from medbill.errors import BadInput
from medbill.sandbox.seed import seed_practice
from medbill.sweep.canaries import read

TODAY = date(2026, 6, 25)


def seed(folder: Path, canaries: int | None = None) -> dict:
    truth = seed_practice(folder / "inbox", folder / "state", TODAY, claims=60, canaries=canaries)
    return truth.totals


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted")
    seed(folder)
    command = ["phi-sweep", "plant", "--inbox", str(folder / "inbox"), "--state", str(folder / "state"), "--seed", "3"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert done.output.strip() == str(folder / "state" / "canaries.jsonl")
    return folder


def test_no_count_and_no_amount_changes(planted: Path, tmp_path: Path) -> None:
    truth = json.loads((planted / "state" / "truth.json").read_text())
    assert truth["totals"] == seed(tmp_path)
    files = {p.name for p in (planted / "inbox" / "lakeside").iterdir()}
    assert len(files - {p.name for p in (tmp_path / "inbox" / "lakeside").iterdir()}) == 2


def test_seeding_again_keeps_every_byte(planted: Path) -> None:
    before = content(planted)
    seed(planted)
    assert content(planted) == before
    with pytest.raises(BadInput):
        seed_practice(planted / "inbox", planted / "state", TODAY, claims=61)


def test_every_value_stands_in_what_comes_in(planted: Path) -> None:
    platform = (planted / "state" / "practice.json").read_text()
    remittances = "".join(p.read_text() + p.name for p in (planted / "inbox" / "lakeside").glob("*.835"))
    everything = (platform + remittances).lower()
    missing = {}
    for canary in read(planted / "state" / "canaries.jsonl"):
        value = canary.value.lower()
        if canary.kind == "birth_date":
            year, month, day = value.split("-")
            value = f"{month}/{day}/{year}" if f"{month}/{day}/{year}" in everything else value
        forms = (value, value.replace("-", ""), "*".join(reversed(value.split())))
        if not any(form in everything for form in forms):
            missing.setdefault(canary.kind, []).append(canary.ordinal)
    # notes come round: what one person's notes do not say, another's do
    kinds = {c.kind for c in read(planted / "state" / "canaries.jsonl")}
    assert all(
        len(missing.get(kind, ())) < sum(c.kind == kind for c in read(planted / "state" / "canaries.jsonl"))
        for kind in kinds
    )
    assert not missing.keys() & {
        "first_name",
        "last_name",
        "member_id",
        "patient_id",
        "claim_id",
        "line_id",
        "mrn",
        "ssn",
    }


def test_without_a_seeded_practice_there_is_nothing_to_plant_into(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["phi-sweep", "plant", "--inbox", str(tmp_path), "--state", str(tmp_path)])
    assert done.exit_code == 1 and isinstance(done.exception, BadInput | SystemExit)


def test_a_sweep_needs_its_canaries(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["phi-sweep"]).exit_code == 2
    gone = CliRunner().invoke(app, ["phi-sweep", "--canaries", str(tmp_path / "nowhere")])
    assert gone.exit_code == 2 and "CANARIES" in gone.output
    (tmp_path / "c.jsonl").write_text('{"kind": "ssn", "value": "412-55-6789"}')
    odd = CliRunner().invoke(app, ["phi-sweep", "--canaries", str(tmp_path / "c.jsonl"), "--without", "attic=no"])
    assert odd.exit_code == 2 and "attic" in odd.output
