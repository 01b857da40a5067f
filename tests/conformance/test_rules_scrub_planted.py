"""Errors of every issue type planted among claims in order: all are found, and next to nothing else is said."""

from __future__ import annotations

import random
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from medbill.model.scrub import ISSUE_TYPES

t = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "rules_scrub.py")))
C, line = t.CODES, t.line
Planted = Callable[[], dict[str, Any]]


def _with(*lines: dict[str, Any], **more: Any) -> Planted:
    return lambda: {"lines": [{"line_item": n, **one} for n, one in enumerate(lines, 1)], **more}


#: issue type -> ways to make the error, each a change to a claim in order.
ERRORS: dict[str, list[Planted]] = {
    "NCCI_edit": [
        _with(line(C[0]), line(C[1])),
        _with(line(C[0]), line(C[2])),
        _with(line(C[0], modifiers=["LT"]), line(C[2], modifiers=["LT"])),
    ],
    "MUE": [_with(line(C[10], units=3)), _with(line(C[11]), line(C[11], units=2, modifiers=["76"])), _with(line(C[12], units=5))],
    "add_on": [_with(line(C[20])), _with(line(C[23])), _with(line(C[24]), line(C[39]))],
    "medical_necessity": [_with(line(C[30], diagnoses=["I10"]), mac="05901"), _with(line(C[30], diagnoses=["J40"]), mac="05901")],
    "modifier": [_with(line(modifiers=["25"])), _with(line(modifiers=["26", "TC"])), _with(line(t.VISIT, modifiers=["50"]))],
    "duplicate": [_with(line(), line())],
    "coding": [_with(line("Q9999")), _with(line("Q0002")), _with(line(diagnoses=["B99"])), _with(line(diagnoses=["M171"])), _with(line(units=0)), _with(line(modifiers=["LT"], diagnoses=["M1711"]))],
    "demographic": [_with(line(diagnoses=["N400"]), patient={"age_years": 40, "sex": "F"}), _with(line(diagnoses=["P0700"]), patient={"age_years": 40, "sex": "F"})],
    "payer_rule": [_with(line(modifiers=["59"]), payer_id="TST01"), _with(line(C[37]), payer_id="TST01", place_of_service="10")],
    "authorization": [_with(line(C[35]), payer_id="TST01"), _with(line(C[36]), payer_id="TST01")],
    "timely_filing": [_with(line(date_of_service="2026-08-02"), payer_id="TST01")],
    "missing_information": [_with(line(rendering_npi="1234567890")), _with(line(), payer_id=None), _with(line(charge=None))],
}  # fmt: skip


def test_planted_errors_are_found() -> None:
    assert set(ERRORS) == ISSUE_TYPES
    draw = random.Random(20260803)
    planted: set[tuple[str, str]] = set()
    claims = []
    for n in range(1_500):
        key = f"c{n:04d}"
        made: dict[str, Any] = t.claim(
            *(line(code, modifiers=draw.choice([[], [], ["76"], ["LT"]]), units=draw.choice([1, 1, 2]), diagnoses=draw.choice([["I10"], ["E11.9", "I10"], ["M17.0"]]))
              for code in draw.sample([C[7], C[8], C[9], C[14], C[15], C[39], "Q0001"], draw.randint(1, 4))),
            claim_id=key,
        )  # fmt: skip
        if n % 5 == 0:
            kind = draw.choice(sorted(ERRORS))
            made |= draw.choice(ERRORS[kind])()
            planted.add((key, kind))
        made["patient"] = {"id": f"p{n}", "age_years": 40, "sex": "F"} | made["patient"] | {"id": f"p{n}"}
        claims.append(made)
    draw.shuffle(claims)
    said = {(r["claim_id"], i["issue_type"]) for r in t.check(*claims, as_of=t.date(2026, 8, 23)) for i in r["issues"]}
    assert {kind for _, kind in planted} == ISSUE_TYPES
    assert planted - said == set()  # recall 1.0
    assert len(said & planted) / len(said) >= 0.98, sorted(said - planted)[:10]
