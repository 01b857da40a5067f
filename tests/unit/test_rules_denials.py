"""Triage: what a denial is, what to do, by when, and what it is worth; one small remittance for each rule."""

from __future__ import annotations

import runpy
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medbill.errors import PolicyError
from medbill.model.results import DENIALS
from medbill.rules import carc, contracts, deadlines, denials, posting

make = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "rules_tables.py")))
Partition, line = make.Partition, make.line
POLICIES = Path(__file__).parents[2] / "include" / "policies"
CARCS, LIMITS, AGREED = carc.load(POLICIES), deadlines.load(POLICIES), contracts.load(POLICIES)


def triage(p: Any) -> list[dict[str, Any]]:
    """Denials of a partition whose claims were all billed just as the remittance names them."""
    for claim in p.claims:
        if claim["claim_token"] not in {b["claim_token"] for b in p.billed_claims}:
            own = [x for x in p.service_lines if x["claim_key"] == claim["claim_key"]]
            billed = [
                (
                    f"{claim['claim_token']}/L{x['line_number']}",
                    x["procedure_code"],
                    abs(x["charge"]),
                    x["modifiers"],
                )
                for x in own
            ]
            p.billed(claim["claim_token"], *billed)
    matched = posting.match(p.remittance_tables(), p.claim_tables(), make.PRACTICE, CARCS, {})
    found = denials.triage(p.remittance_tables(), matched.lines, CARCS, LIMITS, AGREED)
    assert found.schema == DENIALS
    return found.to_pylist()


def one(
    *adjustments: str, charge: str = "150.00", code: str = "99213", payer: str | None = "LHP01", **more: Any
) -> Any:
    """The only denial of a claim with one line. Line arguments: remarks, units, allowed; the rest goes to the claim."""
    p = Partition().payment(payer=payer)
    of_line = {k: more.pop(k) for k in ("remarks", "units", "allowed", "modifiers", "rendering_npi") if k in more}
    if "claim_remarks" in more:
        more["remarks"] = more.pop("claim_remarks")
    p.claim("C1", line(code, charge, *adjustments, **of_line), **more)
    (row,) = triage(p)
    return row


# --- what it is and what to do -------------------------------------------------------------------------------------------


def test_missing_authorization() -> None:
    row = one("CO-197 140.00", charge="140.00", code="20610", modifiers=["RT"], rendering_npi="1992000012")
    assert (row["category"], row["stage"], row["action"]) == (
        "authorization_referral",
        "front_end",
        "attach_auth_or_appeal",
    )
    assert (row["denied"], row["recoverable"], row["appealable"]) == (Decimal("140.00"), Decimal("82.50"), True)
    assert (row["deadline"], row["deadline_basis"]) == (date(2026, 8, 29), "payer LHP01 appeal 180 days")
    assert (row["denial_key"], row["line_token"], row["procedure_code"], row["modifiers"], row["rendering_npi"]) == (
        "r1-0/1/1",
        "C1/L1",
        "20610",
        ["RT"],
        "1992000012",
    )
    assert (row["service_year"], row["payment_date"], row["priority"]) == (2026, date(2026, 3, 2), 1)


@pytest.mark.parametrize(
    ("reason", "remarks", "category", "action"),
    [
        ("CO-16", [], "missing_information_data", "supply_information"),
        ("CO-16", ["N290"], "provider_enrollment", "fix_enrollment"),
        ("CO-16", ["M76"], "coding", "corrected_claim"),
        ("CO-16", ["M51"], "coding", "corrected_claim"),
        ("CO-16", ["MA04"], "coordination_of_benefits", "bill_other_payer"),
        ("CO-16", ["N54"], "authorization_referral", "attach_auth_or_appeal"),
        ("CO-96", ["N386"], "medical_necessity", "appeal_with_records"),
        ("CO-96", ["n115"], "medical_necessity", "appeal_with_records"),
        ("CO-96", ["M80"], "bundling_ncci", "review_modifier_or_writeoff"),
        ("CO-151", ["N362"], "benefit_limit_frequency", "review_units_or_appeal"),
        ("CO-151", [], "medical_necessity", "appeal_with_records"),
        ("CO-16", ["M76", "N115"], "medical_necessity", "appeal_with_records"),  # first row of the policy
        ("CO-27", ["M76"], "eligibility_coverage", "correct_member_or_rebill"),  # this reason says enough by itself
        ("CO-97", ["N115"], "bundling_ncci", "review_modifier_or_writeoff"),
        ("CO-16", ["M127"], "missing_information_data", "supply_information"),
    ],
)
def test_remark_code_decides_where_the_reason_code_is_too_general(
    reason: str, remarks: list[str], category: str, action: str
) -> None:
    row = one(f"{reason} 150.00", remarks=remarks)
    assert (row["category"], row["action"]) == (category, action)
    assert row["remark_codes"] == sorted(r.upper() for r in remarks)


def test_ma130_is_never_appealed() -> None:
    row = one("CO-16 150.00", remarks=["M76", "MA130"])
    assert (row["action"], row["appealable"]) == ("corrected_claim", False)
    assert row["deadline_basis"] == "payer LHP01 corrected_claim 120 days"
    assert row["recoverable"] == Decimal("98.00")


def test_ma130_of_the_claim_holds_for_its_lines_and_shows() -> None:
    row = one("CO-50 150.00", remarks=["N115"], claim_remarks=["MA130", "MA01"])
    assert (row["action"], row["appealable"], row["category"]) == ("corrected_claim", False, "medical_necessity")
    assert row["remark_codes"] == ["MA130", "N115"]


def test_remark_code_of_the_line_wins_over_that_of_the_claim() -> None:
    assert one("CO-16 150.00", remarks=["M76"], claim_remarks=["N115"])["category"] == "coding"
    assert one("CO-16 150.00", claim_remarks=["N115"])["category"] == "medical_necessity"


@pytest.mark.parametrize(
    ("reason", "action", "basis"),
    [
        ("PR-204", "benefit_review_or_bill_patient", "payer LHP01 appeal 180 days"),
        ("PR-50", "benefit_review_or_bill_patient", "payer LHP01 appeal 180 days"),
        ("PR-27", "verify_coverage_or_bill_patient", "payer LHP01 corrected_claim 120 days"),
        ("PR-22", "verify_coverage_or_bill_patient", "payer LHP01 corrected_claim 120 days"),
        ("CO-204", "benefit_review_or_bill_patient", "payer LHP01 appeal 180 days"),
        ("PI-97", "review_modifier_or_writeoff", "payer LHP01 appeal 180 days"),
    ],
)
def test_group_code_says_who_is_liable(reason: str, action: str, basis: str) -> None:
    row = one(f"{reason} 150.00")
    assert (row["action"], row["deadline_basis"]) == (action, basis)


@pytest.mark.parametrize(
    "adjustments",
    [
        ("CO-45 52.00",),
        ("CO-253 1.96",),
        ("PR-1 50.00", "PR-2 10.00", "PR-3 5.00"),
        ("OA-23 130.00",),
        ("CO-59 75.00",),  # a reduction, something is paid
        ("CO-ZZ9 7.00",),
        ("CO-16 0.00",),
        ("CO-97 -20.00",),
        ("CO-97 20.00", "CO-97 -20.00"),  # taken back on the same line
    ],
)
def test_what_is_not_a_denial(adjustments: tuple[str, ...]) -> None:
    p = Partition()
    p.claim("C1", line("99213", "150.00", *adjustments))
    assert triage(p) == []


@pytest.mark.parametrize(
    ("adjustment", "category"), [("CO-ZZ9 150.00", "unclassified"), ("CO-133 150.00", "pricing_reduction")]
)
def test_what_leaves_nothing_of_a_line_is_a_denial_by_effect(adjustment: str, category: str) -> None:
    row = one(adjustment)
    assert (row["category"], row["stage"], row["denied"]) == (category, "review", Decimal("150.00"))


def test_denial_partly_taken_back_on_the_same_line_counts_the_rest() -> None:
    row = one("CO-97 100.00", "CO-97 -30.00", "CO-45 80.00")
    assert (row["denied"], row["denial_key"]) == (Decimal("70.00"), "r1-0/1/1")


def test_denial_of_a_whole_claim_without_lines() -> None:
    p = Partition().billed("C1", ("L1", "99213", "150.00"))
    p.claim(
        "C1", adjustments=("CO-109 150.00",), charge="150.00", status="4", remarks=["N418"], statement_from_year=2026
    )
    (row,) = triage(p)
    assert (row["line_number"], row["line_token"], row["procedure_code"], row["service_year"]) == (0, None, None, 2026)
    assert (row["category"], row["remark_codes"]) == ("coordination_of_benefits", ["N418"])


def test_held_claims_and_reversals_are_not_triaged() -> None:
    p = Partition().billed("C1", ("L1", "99213", "150.00")).billed("C2", ("L2", "99999", "1.00"))
    p.claim("C2", line("99213", "150.00", "CO-197 150.00"))
    p.claim("C3", line("99213", "-150.00", "CO-197 -150.00"), status="22")
    p.claim("C1", line("99213", "150.00", "CO-45 52.00"))
    p.billed_claims.append({"claim_token": "C3", "platform": "drchrono", "charge": Decimal("150.00")})
    assert triage(p) == []


# --- reversals -----------------------------------------------------------------------------------------------------------


DENIED = line("99213", "150.00", "CO-16 150.00")
REVERSED = line("99213", "-150.00", "CO-16 -150.00")


def test_denial_taken_back_and_denied_again_for_another_reason_counts_once() -> None:
    p = Partition()
    p.claim("C1", DENIED)
    p.claim("C1", REVERSED, status="22")
    p.claim("C1", line("99213", "150.00", "CO-197 150.00"))
    assert [r["reason_code"] for r in triage(p)] == ["197"]


def test_reversal_on_a_later_day_takes_back_the_earlier_denial() -> None:
    p = Partition()
    p.claim("C1", DENIED)
    p.payment("r2", payment_date=date(2026, 3, 9))
    p.claim("C1", REVERSED, status="22")
    assert triage(p) == []


def test_reversal_before_the_denial_does_not_take_it_back() -> None:
    p = Partition()
    p.claim("C1", REVERSED, status="22")
    p.claim("C1", DENIED)
    assert len(triage(p)) == 1


def test_reversal_of_another_amount_claim_or_payer_takes_nothing_back() -> None:
    p = Partition()
    p.claim("C1", DENIED)
    p.claim("C1", line("99213", "-140.00", "CO-16 -140.00"), status="22")
    p.claim("C2", REVERSED, status="22")
    p.payment("r2", payer="BRM02", payment_date=date(2026, 3, 9))
    p.claim("C1", REVERSED, status="22")
    p.billed("C1", ("L1", "99213", "150.00"), ("L2", "99213", "140.00"))
    assert len(triage(p)) == 1


def test_one_reversal_takes_back_one_of_two_denials() -> None:
    p = Partition()
    p.claim("C1", DENIED)
    p.claim("C1", DENIED)
    p.claim("C1", REVERSED, status="22")
    assert [r["claim_key"] for r in triage(p)] == ["r1-0"]


# --- dollars -------------------------------------------------------------------------------------------------------------


def dollars(p: Any) -> dict[str, str]:
    return {r["denial_key"]: str(r["recoverable"]) for r in triage(p)}


def test_contract_rate_is_what_can_be_recovered() -> None:
    assert str(one("CO-50 150.00")["recoverable"]) == "98.00"
    assert str(one("CO-50 36.00", charge="36.00", code="J1885", units=3)["recoverable"]) == "13.50"


def test_never_more_than_was_denied() -> None:
    assert str(one("CO-151 20.00", "CO-45 80.00", allowed="50.00")["recoverable"]) == "20.00"


def test_what_the_line_already_brought_is_not_recovered_again() -> None:
    row = one("CO-151 70.00", "PR-3 20.00")  # paid 60, copay 20, contract 98
    assert str(row["recoverable"]) == "18.00"


def test_without_a_contract_the_payers_own_ratio_counts() -> None:
    p = Partition().payment(payer="MCD00")
    p.claim("C1", line("99213", "150.00", "CO-45 90.00"))  # allows 60 of 150
    p.claim("C2", line("99214", "50.00", "CO-45 20.00", "PR-3 5.00"))  # allows 30 of 50
    p.claim("C3", line("20610", "33.35", "CO-197 33.35"))  # 33.35 x 90 / 200 = 15.0075
    assert dollars(p) == {"r1-2/1/1": "15.01"}


def test_ratio_leaves_out_denied_lines_reversals_and_secondary_claims() -> None:
    p = Partition().payment(payer="MCD00")
    p.claim("C1", line("99213", "100.00", "CO-45 50.00"))
    p.claim("C2", line("99213", "100.00", "CO-97 99.00"))
    p.claim("C3", line("99213", "-100.00", "CO-45 -90.00"), status="22")
    p.claim("C4", line("99213", "100.00", "OA-23 90.00"), status="2")
    assert dollars(p) == {"r1-1/1/1": "49.50"}


def test_without_contract_and_payments_the_denied_amount_counts() -> None:
    assert str(one("CO-197 150.00", payer="UNW03")["recoverable"]) == "150.00"
    assert str(one("CO-197 150.00", payer=None)["recoverable"]) == "150.00"


def test_secondary_payer_may_owe_all_it_denied() -> None:
    p = Partition()
    p.claim("C1", line("99213", "150.00", "OA-23 130.00", "CO-50 20.00"), status="2")
    assert dollars(p) == {"r1-0/1/2": "20.00"}


@pytest.mark.parametrize(
    ("adjustment", "basis", "appealable"),
    [
        ("OA-18 150.00", "none: nothing to file", False),
        ("CO-29 150.00", "payer LHP01 appeal 180 days", True),
    ],
)
def test_duplicates_and_late_claims_bring_nothing(adjustment: str, basis: str, appealable: bool) -> None:
    row = one(adjustment)
    assert (str(row["recoverable"]), row["deadline_basis"], row["appealable"]) == ("0.00", basis, appealable)


def test_two_reasons_on_one_line_do_not_count_its_dollars_twice() -> None:
    p = Partition()
    p.claim("C1", line("99213", "150.00", "CO-16 90.00", "CO-197 60.00"))
    assert dollars(p) == {"r1-0/1/1": "90.00", "r1-0/1/2": "8.00"}


def test_what_cannot_be_recovered_takes_nothing_from_the_other_reason() -> None:
    p = Partition()
    p.claim("C1", line("99213", "150.00", "OA-18 50.00", "CO-197 100.00"))
    assert dollars(p) == {"r1-0/1/1": "0.00", "r1-0/1/2": "98.00"}


# --- deadlines and ranking -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payer", "indicator", "kind", "basis"),
    [
        ("BRM02", "MB", "appeal", "payer BRM02 appeal 90 days"),
        ("MCR00", "MB", "appeal", "payer type medicare appeal 120 days"),
        ("MCD00", "MC", "corrected_claim", "payer type medicaid corrected_claim 90 days"),
        ("XX", "12", "appeal", "payer type commercial appeal 180 days"),
        ("XX", "ZZ", "appeal", "default appeal 60 days"),
        (None, None, "corrected_claim", "default corrected_claim 90 days"),
    ],
)
def test_limit(payer: str | None, indicator: str | None, kind: Any, basis: str) -> None:
    limit = LIMITS.limit(payer, indicator, kind)
    assert limit.basis == basis and str(limit.days) in basis


def test_deadline_uses_the_filing_indicator_of_the_claim() -> None:
    row = one("CO-50 150.00", payer="MCR00", filing_indicator="MB")
    assert (row["deadline"], row["deadline_basis"]) == (date(2026, 6, 30), "payer type medicare appeal 120 days")


def test_no_payment_date_no_deadline() -> None:
    p = Partition().payment(payment_date=None)
    p.claim("C1", line("99213", "150.00", "CO-50 150.00"))
    (row,) = triage(p)
    assert (row["deadline"], row["deadline_basis"], row["priority"]) == (None, "none: no payment date", 1)


def test_near_deadline_weighs_more_than_a_few_dollars() -> None:
    p = Partition().payment(payer="UNW03")  # 60 days: weight 2
    p.claim("C1", line("99213", "60.00", "CO-197 60.00"))
    p.payment("r2", payer="LHP01")  # 180 days: weight 1
    p.claim("C2", line("99213", "150.00", "CO-197 150.00"))  # 98.00
    p.claim("C3", line("99213", "150.00", "CO-197 150.00"))
    p.claim("C4", line("99213", "150.00", "OA-18 150.00"))
    assert [(r["claim_token"], r["priority"]) for r in triage(p)] == [("C1", 1), ("C2", 2), ("C3", 3), ("C4", 4)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the file"),
        ("default: {appeal: 0, corrected_claim: 1}", "default.appeal"),
        ("default: {appeal: soon, corrected_claim: 1}", "default.appeal"),
        ("payer_types: {a: {filing_indicators: [], appeal: 1, corrected_claim: 1}}", "payer_types.a.filing_indicators"),
        (
            "payer_types: {a: {filing_indicators: [MB], appeal: 1, corrected_claim: 1},"
            " b: {filing_indicators: [MB], appeal: 2, corrected_claim: 2}}",
            "two payer types",
        ),
        ("urgency: [{within_days: 10, weight: 1}, {within_days: 20, weight: 2}]", "nearer deadline weighs less"),
        ("urgency: [{within_days: 10, weight: 0.5}]", "urgency.0.weight"),
    ],
)
def test_bad_deadlines_are_refused_with_their_reason(tmp_path: Path, text: str, reason: str) -> None:
    base = {
        "version": '"1"',
        "default": "{appeal: 1, corrected_claim: 1}",
        "payer_types": "{}",
        "payers": "{}",
        "urgency": "[]",
    }
    if text:
        key, _, value = text.partition(": ")
        text = "\n".join(f"{k}: {v}" for k, v in (base | {key: value}).items())
    (tmp_path / "appeal_deadlines.yml").write_text(text)
    with pytest.raises(PolicyError) as caught:
        deadlines.load(tmp_path)
    assert reason in str(caught.value)


def test_nothing_in_nothing_out() -> None:
    assert triage(Partition()) == []
