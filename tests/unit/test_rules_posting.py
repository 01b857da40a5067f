"""Posting: each way a remittance claim finds its claim and lines, each reason to hold it, and where every dollar goes."""

from __future__ import annotations

import runpy
import time
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medbill.errors import BadInput
from medbill.rules import carc, posting

make = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "rules_tables.py")))
Partition, line, money = make.Partition, make.line, make.money
CARCS = carc.load(Path(__file__).parents[2] / "include" / "policies")
BUCKETS = ("contractual", "deductible", "coinsurance", "copay", "patient_other", "denied", "other")


def match(p: Any, quarantined: dict[str, int] | None = None) -> posting.PostingResult:
    return posting.match(p.remittance_tables(), p.claim_tables(), make.PRACTICE, CARCS, quarantined or {})


def only(table: Any) -> dict[str, Any]:
    (row,) = table.to_pylist()
    return row


def allocation(row: dict[str, Any]) -> dict[str, str]:
    """The non-zero parts of a posting line, as a biller reads them."""
    return {name: str(row[name]) for name in ("paid", *BUCKETS) if row[name]}


def held(p: Any) -> str:
    result = match(p)
    assert result.postings.num_rows == 0 and result.lines.num_rows == 0
    row = only(result.holds)
    assert row["reason"]
    return row["reason_code"]


# --- the ordinary claim ------------------------------------------------------------------------------------------------


def test_office_visit_with_copay() -> None:
    p = Partition().billed("C1", ("L1", "99213", "150.00"))
    p.claim("C1", line("99213", "150.00", "CO-45 52.00", "PR-3 20.00", token="L1"))
    result = match(p)
    posted, allocated = only(result.postings), only(result.lines)
    assert (posted["charge"], posted["paid"], posted["contractual"]) == (money(150), money(78), money(52))
    assert (posted["patient_responsibility"], posted["denied"], posted["other"]) == (money(20), 0, 0)
    assert (posted["payer_id"], posted["trace_token"], posted["note"]) == ("LHP01", "[TRACE_1]", None)
    assert allocated["line_token"] == "L1" and allocated["matched_by"] == "line_control_number"
    assert allocation(allocated) == {"paid": "78.00", "contractual": "52.00", "copay": "20.00"}


@pytest.mark.parametrize(
    ("adjustments", "expected"),
    [
        (("CO-45 52.00", "PR-1 98.00"), {"contractual": "52.00", "deductible": "98.00"}),
        (("CO-45 52.00", "PR-2 19.60"), {"paid": "78.40", "contractual": "52.00", "coinsurance": "19.60"}),
        (("CO-45 52.00", "CO-253 1.96"), {"paid": "96.04", "contractual": "53.96"}),
        (("CO-197 150.00",), {"denied": "150.00"}),
        (("PR-204 150.00",), {"patient_other": "150.00"}),  # the patient is liable: not the practice's denied dollars
        (("OA-23 130.00",), {"paid": "20.00", "other": "130.00"}),  # what the first payer did
        (("CO-59 75.00", "CO-45 20.00"), {"paid": "55.00", "contractual": "20.00", "other": "75.00"}),
        (("CO-59 150.00",), {"denied": "150.00"}),  # a reduction to nothing is a denial
        (("CO-ZZ9 7.00", "CO-45 52.00"), {"paid": "91.00", "contractual": "52.00", "other": "7.00"}),
        (("CO-ZZ9 150.00",), {"denied": "150.00"}),
        (("CO-ZZ9 100.00", "PR-1 50.00"), {"deductible": "50.00", "other": "100.00"}),
        (("CO-45 160.00", "CO-94 -10.00"), {"contractual": "150.00"}),
        (("CO-1 150.00",), {"other": "150.00"}),  # a patient's reason, but not the patient's group
        (("co-45 52.00",), {"paid": "98.00", "contractual": "52.00"}),
    ],
)
def test_each_adjustment_has_one_bucket(adjustments: tuple[str, ...], expected: dict[str, str]) -> None:
    p = Partition().billed("C1", ("L1", "99213", "150.00"))
    p.claim("C1", line("99213", "150.00", *adjustments, token="L1"))
    row = only(match(p).lines)
    assert allocation(row) == expected
    assert row["paid"] + sum(row[b] for b in BUCKETS) == row["charge"] == money(150)


def test_unknown_reason_code_is_noted_by_count_not_by_value() -> None:
    p = Partition().billed("C1", ("L1", "99213", "150.00"))
    p.claim("C1", line("99213", "150.00", "CO-DOE 7.00", "CO-45 52.00"))
    assert only(match(p).postings)["note"] == "adjustments with an unknown reason code: 1"


# --- which line --------------------------------------------------------------------------------------------------------


def ways(p: Any) -> list[tuple[int, str, str]]:
    return [(r["line_number"], r["line_token"], r["matched_by"]) for r in match(p).lines.to_pylist()]


def test_line_number_of_the_practice_wins_over_the_code() -> None:
    p = Partition().billed("C1", ("L1", "36415", "15.00"), ("L2", "36415", "15.00"))
    p.claim("C1", line("36415", "15.00", token="L2"), line("36415", "15.00", token="L1"))
    assert ways(p) == [(1, "L2", "line_control_number"), (2, "L1", "line_control_number")]


def test_code_modifiers_and_charge_without_a_line_number() -> None:
    p = Partition().billed("C1", ("L1", "20610", "140.00", ["LT"]), ("L2", "20610", "140.00", ["RT", "59"]))
    p.claim("C1", line("20610", "140.00", modifiers=["59", "RT"]), line("20610", "140.00", modifiers=["LT"]))
    assert ways(p) == [(1, "L2", "code_modifiers_charge"), (2, "L1", "code_modifiers_charge")]


def test_payer_dropped_a_modifier() -> None:
    p = Partition().billed("C1", ("L1", "99213", "150.00", ["25"]), ("L2", "20610", "140.00", ["RT"]))
    p.claim("C1", line("99213", "150.00"), line("20610", "140.00", modifiers=["RT"]))
    assert ways(p) == [(1, "L1", "code_charge"), (2, "L2", "code_modifiers_charge")]


def test_payer_changed_the_code_and_sent_the_billed_one() -> None:
    p = Partition().billed("C1", ("L1", "99214", "215.00"), ("L2", "36415", "15.00"))
    p.claim("C1", line("99213", "215.00", submitted="99214"), line("36415", "15.00"))
    result = match(p)
    assert ways(p)[0] == (1, "L1", "code_modifiers_charge")
    assert result.lines.to_pylist()[0]["procedure_code"] == "99214"
    assert only(result.postings)["note"] == "procedure code changed by the payer on lines: 1"


def test_submitted_code_that_is_wrong_falls_back_to_the_adjudicated_one() -> None:
    p = Partition().billed("C1", ("L1", "99214", "215.00"), ("L2", "36415", "15.00"))
    p.claim("C1", line("99214", "215.00", submitted="00000"), line("36415", "15.00"))
    assert ways(p)[0] == (1, "L1", "code_charge")


def test_single_line_left_with_the_same_charge() -> None:
    p = Partition().billed("C1", ("L1", "99214", "215.00"), ("L2", "36415", "15.00"))
    p.claim("C1", line("99213", "215.00"), line("36415", "15.00"))
    assert ways(p) == [(1, "L1", "position"), (2, "L2", "code_modifiers_charge")]
    assert "matched by charge alone, lines: 1" in only(match(p).postings)["note"]


def test_identical_lines_are_used_once_each() -> None:
    p = Partition().billed("C1", ("L1", "36415", "15.00"), ("L2", "36415", "15.00"))
    p.claim("C1", line("36415", "15.00"), line("36415", "15.00", "CO-18 15.00"))
    assert [way[1] for way in ways(p)] == ["L1", "L2"]


def test_third_copy_of_two_billed_lines_is_held() -> None:
    p = Partition().billed("C1", ("L1", "36415", "15.00"), ("L2", "36415", "15.00"))
    p.claim("C1", *[line("36415", "15.00")] * 3)
    assert held(p) == "LINES_UNMATCHED"


def test_dropped_modifier_that_leaves_a_choice_is_held() -> None:
    p = Partition().billed("C1", ("L1", "20610", "140.00", ["LT"]), ("L2", "20610", "140.00", ["RT"]))
    p.claim("C1", line("20610", "140.00"))
    assert held(p) == "LINES_UNMATCHED"


def test_two_lines_left_are_not_guessed_by_charge() -> None:
    p = Partition().billed("C1", ("L1", "99214", "215.00"), ("L2", "36415", "15.00"))
    p.claim("C1", line("99213", "215.00"), line("36416", "15.00"))
    assert held(p) == "LINES_UNMATCHED"


def test_line_number_with_another_charge_is_held_though_another_line_would_fit() -> None:
    p = Partition().billed("C1", ("L1", "20610", "140.00"), ("L2", "20610", "100.00"))
    p.claim("C1", line("20610", "100.00", token="L1"))
    assert held(p) == "LINE_CHARGE_DIFFERS"


def test_line_number_of_another_claim_falls_back_to_the_code() -> None:
    p = Partition().billed("C1", ("L1", "99213", "150.00")).billed("C2", ("L9", "99213", "150.00"))
    p.claim("C1", line("99213", "150.00", token="L9"))
    assert ways(p) == [(1, "L1", "code_modifiers_charge")]


def test_lines_left_out_of_the_remittance_are_noted() -> None:
    p = Partition().billed("C1", ("L1", "99213", "150.00"), ("L2", "36415", "15.00"))
    p.claim("C1", line("99213", "150.00"))
    assert only(match(p).postings)["note"] == "1 of 2 billed lines not on this remittance"


# --- claim level, reversals, odd amounts ---------------------------------------------------------------------------------


def test_claim_without_service_lines_posts_at_claim_level() -> None:
    p = Partition().billed("C1", ("L1", "99213", "150.00"))
    p.claim("C1", adjustments=("OA-18 150.00",), charge="150.00", status="4")
    row = only(match(p).lines)
    assert (row["line_number"], row["line_token"], row["matched_by"]) == (0, None, "claim_level")
    assert allocation(row) == {"denied": "150.00"}


def test_claim_level_adjustment_beside_lines_goes_to_line_zero() -> None:
    p = Partition().billed("C1", ("L1", "99213", "150.00"))
    p.claim("C1", line("99213", "150.00", "CO-45 52.00", token="L1"), adjustments=("PR-1 40.00",))
    result = match(p)
    zero, first = result.lines.to_pylist()
    assert (zero["charge"], allocation(zero)) == (0, {"paid": "-40.00", "deductible": "40.00"})
    assert allocation(first) == {"paid": "98.00", "contractual": "52.00"}
    assert only(result.postings)["paid"] == money(58)


def test_reversal_keeps_its_signs_and_the_correction_is_ordinary() -> None:
    p = Partition().billed("C1", ("L1", "99213", "150.00"))
    p.claim("C1", line("99213", "150.00", "CO-197 150.00", token="L1"))
    p.claim("C1", line("99213", "-150.00", "CO-197 -150.00", token="L1"), status="22")
    p.claim("C1", line("99213", "150.00", "CO-45 52.00", token="L1"))
    result = match(p)
    denied, reversal, correction = result.postings.to_pylist()
    assert (reversal["is_reversal"], reversal["charge"], reversal["denied"]) == (True, money(-150), money(-150))
    assert denied["denied"] + reversal["denied"] + correction["denied"] == 0
    assert [r["line_token"] for r in result.lines.to_pylist()] == ["L1"] * 3


def test_zero_charge_and_negative_payment() -> None:
    p = Partition().billed("C1", ("L1", "G8427", "0.00"), ("L2", "99213", "150.00"))
    p.claim("C1", line("G8427", "0.00", "CO-246 0.00"), line("99213", "150.00", "CO-45 160.00"))
    result = match(p)
    assert [r["paid"] for r in result.lines.to_pylist()] == [0, money(-10)]
    assert only(result.postings)["paid"] == money(-10)


def test_claim_with_no_money_at_all_is_posted_as_a_claim_level_zero() -> None:
    p = Partition().billed("C1", ("L1", "99213", "0.00"))
    p.claim("C1", charge="0.00")
    assert only(match(p).lines)["charge"] == 0


def test_claim_of_ten_thousand_lines() -> None:
    p = Partition()
    p.billed("C1", *[(f"L{i}", "36415", f"{15 + i % 7}.00") for i in range(10_000)])
    p.claim("C1", *[line("36415", f"{15 + i % 7}.00", "CO-45 6.00") for i in range(10_000)])
    started = time.monotonic()
    result = match(p)
    assert time.monotonic() - started < 10
    assert only(result.postings)["contractual"] == money(60_000)
    assert len(set(result.lines["line_token"].to_pylist())) == 10_000


# --- holds ---------------------------------------------------------------------------------------------------------------


def ordinary() -> Any:
    return Partition().billed("C1", ("L1", "99213", "150.00"))


def test_claim_the_practice_never_billed() -> None:
    p = ordinary()
    p.claim("C2", line("99213", "150.00"))
    assert held(p) == "UNMATCHED_CLAIM"


def test_claim_number_of_two_claims() -> None:
    p = ordinary().billed("C1", ("L2", "99214", "215.00"))
    p.claim("C1", line("99213", "150.00", token="L1"))
    assert held(p) == "AMBIGUOUS_CLAIM"


def test_payment_to_another_practice_is_held_whatever_else_is_wrong() -> None:
    p = ordinary().payment(payee_npi="1980000009")
    p.claim(None, line("99213", "150.00"), balanced=False)
    assert held(p) == "OTHER_PRACTICE"


@pytest.mark.parametrize("npi", [None, ""])
def test_payment_without_a_payee(npi: str | None) -> None:
    p = ordinary().payment(payee_npi=npi)
    p.claim("C1", line("99213", "150.00"))
    assert held(p) == "PAYEE_NOT_STATED"


def test_payee_named_by_its_tax_id_alone() -> None:
    p = ordinary().payment(payee_npi=None, payee_tax_id="990001234")
    p.claim("C1", line("99213", "150.00", token="L1"))
    assert match(p).postings.num_rows == 1
    other = ordinary().payment(payee_npi=None, payee_tax_id="111111111")
    other.claim("C1", line("99213", "150.00", token="L1"))
    assert held(other) == "OTHER_PRACTICE"


@pytest.mark.parametrize("token", [None, ""])
def test_claim_without_a_number(token: str | None) -> None:
    p = ordinary()
    p.claim(token, line("99213", "150.00"))
    assert held(p) == "MISSING_CLAIM_ID"


@pytest.mark.parametrize(
    "claim",
    [
        {"balanced": False},
        {"paid": "88.00"},  # the numbers themselves do not add up, whatever the flag says
        {"charge": "160.00"},
    ],
)
def test_unbalanced_claim(claim: dict[str, Any]) -> None:
    p = ordinary()
    p.claim("C1", line("99213", "150.00", "CO-45 52.00"), **{"paid": "98.00", **claim})
    assert held(p) == "CLAIM_UNBALANCED"


def test_unbalanced_lines_that_make_up_for_each_other() -> None:
    p = Partition().billed("C1", ("L1", "99213", "150.00"), ("L2", "36415", "15.00"))
    p.claim("C1", line("99213", "150.00", paid="151.00"), line("36415", "15.00", paid="14.00"))
    assert held(p) == "CLAIM_UNBALANCED"


def test_missing_amounts_are_never_posted() -> None:
    p = ordinary()
    p.claim("C1", line("99213", "150.00", "CO-45 52.00"))
    p.adjustments[0]["amount"] = None
    assert held(p) == "CLAIM_UNBALANCED"


def test_adjustment_of_a_line_that_is_not_there() -> None:
    p = ordinary()
    p.claim("C1", line("99213", "150.00", "CO-45 52.00"))
    p.adjustments[0]["line_number"] = 9
    assert held(p) == "CLAIM_UNBALANCED"


def test_payment_that_is_not_the_sum_of_its_claims() -> None:
    p = ordinary().payment(balanced=False)
    p.claim("C1", line("99213", "150.00"))
    assert held(p) == "TRANSACTION_UNBALANCED"


@pytest.mark.parametrize("reason", ["PAYMENT_REPEATED", "PAYMENT_CHANGED"])
def test_every_claim_of_a_payment_that_came_before_is_held_whatever_else_is_wrong(reason: str) -> None:
    p = ordinary()
    p.claim("C1", line("99213", "100.00", "CO-45 20.00"))
    p.claim("C2", line("99213", "100.00", "CO-45 20.00"))  # never billed
    keys = p.remittance_tables()["remittances"]["remittance_key"].to_pylist()
    result = posting.match(
        p.remittance_tables(), p.claim_tables(), make.PRACTICE, CARCS, {}, dict.fromkeys(keys, reason)
    )
    assert result.postings.num_rows == 0
    assert set(result.holds["reason_code"].to_pylist()) == {reason}
    assert result.holds.num_rows == p.remittance_tables()["claims"].num_rows
    other = posting.match(p.remittance_tables(), p.claim_tables(), make.PRACTICE, CARCS, {}, {"another": reason})
    assert reason not in other.holds["reason_code"].to_pylist()


def test_price_given_in_advance_is_not_posted() -> None:
    p = ordinary()
    p.claim("C1", line("99213", "150.00", "OA-101 150.00"), status="25")
    assert held(p) == "PREDETERMINATION"


def test_claim_whose_payment_is_not_published() -> None:
    p = ordinary()
    p.claim("C1", line("99213", "150.00"), payment="r1")
    p.remittances.clear()
    assert held(p) == "REMITTANCE_MISSING"


def test_held_claims_keep_their_amounts_and_do_not_stop_the_others() -> None:
    p = ordinary()
    p.claim("C1", line("99213", "150.00"))
    p.claim("C2", line("99213", "150.00", "CO-45 52.00"))
    result = match(p)
    assert result.postings.num_rows == 1
    assert (only(result.holds)["charge"], only(result.holds)["paid"]) == (money(150), money(98))


def test_deposit_with_quarantined_claims_is_noted() -> None:
    p = ordinary()
    p.claim("C1", line("99213", "150.00"))
    assert only(match(p, {"r1": 1}).postings)["note"] == "1 claim of this deposit is in quarantine"
    assert only(match(p, {"r1": 2, "r9": 1}).postings)["note"] == "2 claims of this deposit are in quarantine"


def test_stated_patient_responsibility_that_differs_is_noted() -> None:
    p = ordinary()
    p.claim("C1", line("99213", "150.00", "PR-3 20.00"), patient_responsibility=Decimal("25.00"))
    assert only(match(p).postings)["note"] == "patient responsibility stated (CLP05) differs from group PR"


def test_nothing_in_nothing_out() -> None:
    result = match(Partition())
    assert (result.postings.num_rows, result.lines.num_rows, result.holds.num_rows) == (0, 0, 0)


def test_claim_key_given_twice_is_refused() -> None:
    p = ordinary()
    p.claim("C1", line("99213", "150.00"))
    p.claims.append(p.claims[0])
    with pytest.raises(BadInput, match="DUPLICATE_KEY"):
        match(p)
