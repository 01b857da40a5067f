"""One patient or two in a note."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from medbill.deid.cli import app
from medbill.deid.text.engine import Engine
from medbill.deid.text.patients import more_than_one

ENGINE = Engine()


def _helper(name: str) -> ModuleType:
    path = Path(__file__).resolve().parents[1] / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


notes, queries = _helper("deidtext_notes"), _helper("deidtext_queries")


def fires(text: str, record: dict[str, Any] | None = None) -> bool:
    return more_than_one(text, ENGINE.analyze([text], [record])[0], record)


def _share(documents: list[dict[str, Any]], records: bool) -> float:
    known = [d["record"] if records else None for d in documents]
    spans = ENGINE.analyze([d["text"] for d in documents], known)
    return sum(more_than_one(d["text"], s, k) for d, s, k in zip(documents, spans, known, strict=True)) / len(documents)


@pytest.mark.parametrize(
    "text",
    [
        "Pt Anna Novak, MRN 4471982. Pt Omar Haddad, MRN 8812003.",
        "SSN 219-09-9999 on page 1, SSN 457-55-5462 on page 2.",
        "DOB 03/14/1962 ... DOB: July 9, 1988",
        "Patient Anna Novak called. Patient: Omar Haddad, claim denied.",
        "Patient Mary Smith and patient John Smith share an account.",
    ],
)
def test_two_patients_are_noticed(text: str) -> None:
    assert fires(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Patient Anna Novak, MRN 4471982, seen by Dr. Omar Haddad; spouse Petr Novak called.",
        "Patient: Novak, Anna. Anna K. Novak, MRN 4471982 (MRN 447-1982). Mrs. Novak paid.",
        "Guarantor Petr Novak, SSN 219-09-9999, DOB 03/14/1962. Patient Anna Novak, SSN 457-55-5462, DOB 07/09/1988.",
        "DOB 03/14/1962, corrected from DOB 03/15/1962.",
        "Patient Liz Brown = Elizabeth Brown, DOB 1/2/1950 (January 2, 1950).",
        "Attending: Omar Haddad, MD. Patient Anna Novak. Attorney Jean Petit. Rep Maria Garcia.",
    ],
)
def test_relatives_providers_and_other_spellings_are_no_second_patient(text: str) -> None:
    assert not fires(text)


def test_the_records_own_patient_is_the_first() -> None:
    record = {"first_name": "Anna", "last_name": "Novak"}
    assert not fires("Patient Anna Novak called.", record)
    assert not fires("Pt Novaak, Ana called.", record)
    assert fires("Patient Omar Haddad called.", record)


@pytest.mark.parametrize("records", [True, False])
def test_at_most_two_of_a_hundred_notes_of_one_patient_are_held(records: bool) -> None:
    documents = notes.notes(500, seed=notes.HELD_BACK) + queries.queries(500, seed=queries.HELD_BACK)
    assert _share(documents, records) <= 0.02


@pytest.mark.parametrize("records", [True, False])
def test_at_least_95_of_a_hundred_notes_of_two_patients_are_held(records: bool) -> None:
    assert _share([queries.two_patients(queries.HELD_BACK + n) for n in range(500)], records) >= 0.95


def test_the_command_leaves_such_a_note_out_and_says_which(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [
        {"id": "one", "text": "Patient Anna Novak, MRN 4471982."},
        {"id": "two", "text": "Patient Anna Novak, MRN 4471982. Patient Omar Haddad, MRN 8812003."},
    ]
    source.write_text("\n".join(json.dumps(r) for r in rows))
    done = CliRunner().invoke(app, ["run", str(source), "--out", str(out), "--no-vault"])
    assert done.exit_code == 3
    assert "more than one patient: two" in done.stderr and "Novak" not in done.output + done.stderr
    assert json.loads(done.stdout) == {"documents": 1, "identifiers": 2, "refused": 0, "held": 1}
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == ["one"]
    done = CliRunner().invoke(app, ["run", str(source), "--out", str(out), "--no-vault", "--allow-several-patients"])
    assert done.exit_code == 0 and len(out.read_text().splitlines()) == 2
