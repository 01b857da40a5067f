"""The reason code table: the shipped one, and files that are refused."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from medbill.errors import PolicyError
from medbill.rules import carc

POLICIES = Path(__file__).parents[2] / "include" / "policies"
HEADER = "carc,category,stage,default_action\n"


def load(tmp_path: Path, rows: str | None = None, remark_codes: str | None = None) -> carc.CarcTable:
    for name, content in (("carc.csv", rows), ("remark_codes.yml", remark_codes)):
        if content is None:
            shutil.copy(POLICIES / name, tmp_path / name)
        else:
            (tmp_path / name).write_text(content)
    return carc.load(tmp_path)


@pytest.mark.parametrize(
    ("code", "category"),
    [
        ("45", "contractual"),
        ("253", "contractual"),
        ("1", "patient_responsibility"),
        ("3", "patient_responsibility"),
        ("23", "prior_payer_amount"),
        ("197", "authorization_referral"),
        ("50", "medical_necessity"),
        ("97", "bundling_ncci"),
        ("18", "duplicate"),
        ("29", "timely_filing"),
        ("B7", "non_covered"),
        (" b7 ", "non_covered"),
        ("59", "pricing_reduction"),
        ("ZZ9", "unclassified"),
        ("", "unclassified"),
    ],
)
def test_category(code: str, category: str) -> None:
    assert carc.load(POLICIES).category(code) == category


def test_unknown_code_is_for_a_person_to_read() -> None:
    table = carc.load(POLICIES)
    assert (table.stage("ZZ9"), table.default_action("ZZ9")) == ("review", "review_reason_code")


def test_contractual_codes() -> None:
    contractual = carc.load(POLICIES).contractual
    assert {"24", "45", "131", "253"} <= contractual
    assert not contractual & {"1", "16", "23", "29", "59", "97"}


def test_the_map_it_was_built_from_agrees_but_for_two_codes(shared: Path) -> None:
    with (shared / "data" / "billing" / "carc_category_map.csv").open() as file:
        given = {row["carc"]: row["category"] for row in csv.DictReader(file)}
    table = carc.load(POLICIES)
    assert table.reasons.keys() == given.keys()
    assert {c for c in given if table.category(c) != given[c]} == {"23", "110"}


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("", "first line"),
        ("code,category\n", "first line"),
        (HEADER, "no reason code"),
        (HEADER + "45,contractual,not_a_denial\n", "line 2: 4 columns"),
        (HEADER + "forty-five,contractual,not_a_denial,post_adjustment\n", "line 2: not the form"),
        (HEADER + "45,contractual,not_a_denial,post_adjustment\n" * 2, "line 3: reason code 45 is listed twice"),
        (HEADER + "45,discount,not_a_denial,post_adjustment\n", "category of 45"),
        (HEADER + "45,contractual,nowhere,post_adjustment\n", "stage of 45"),
        (HEADER + "45,contractual,not_a_denial,shrug\n", "action of 45"),
        (HEADER + "45,contractual,back_end,post_adjustment\n", "contradict"),
        (HEADER + "29,timely_filing,not_a_denial,proof_of_timely_filing\n", "contradict"),
        (HEADER + "29,timely_filing,review,proof_of_timely_filing\n", "contradict"),
        (HEADER + '"45,contractual\n', "malformed"),
        (HEADER + "45,contractual,not_a_denial,post_adjustment\n", "refinable names"),
    ],
)
def test_bad_table_is_refused_with_its_reason(tmp_path: Path, rows: str, reason: str) -> None:
    with pytest.raises(PolicyError) as caught:
        load(tmp_path, rows=rows)
    assert reason in str(caught.value)


REMARKS = 'version: "1"\nrefinable: ["16"]\ncorrected_claim_only: [MA130]\nrefinements:\n'
ROW = "  - {codes: [N115], category: medical_necessity, stage: clinical, action: appeal_with_records}\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("refinements: [", "line 1"),
        (REMARKS + ROW + ROW, "refined twice"),
        (REMARKS + ROW.replace("clinical", "nowhere"), "stage of N115"),
        (REMARKS + ROW.replace("[N115]", "[]"), "refinements.0.codes"),
        (REMARKS + ROW + "extra: 1\n", "extra"),
    ],
)
def test_bad_remark_codes_are_refused_with_their_reason(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(PolicyError) as caught:
        load(tmp_path, remark_codes=text)
    assert reason in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"carc\.csv is missing"):
        carc.load(tmp_path)
