"""Canonical content, hashes, ids, edits and texts of proposals."""

from __future__ import annotations

import copy
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from medbill.errors import BadInput, DecisionRefused
from medbill.proposals import edits, render
from medbill.proposals.content import canonical, content_hash, idempotency_key, plain, proposal_id, tokens

CLAIM, LINE, TRACE = "[CLAIM_7KQ2M4XZ7KQ2M4XZA]", "[LINE_7KQ2M4XZ7KQ2M4XZB]", "[TRACE_7KQ2M4XZ7KQ2M4XZC]"
ZERO = "0.00"
REVIEW: dict[str, Any] = {
    "claim_key": f"2026-08-03/{CLAIM}",
    "validation_result": "needs_review",
    "charge": "150.00",
    "payer_name": "Acme Health",
    "issues": [
        {
            "line_item": line,
            "code": code,
            "issue_type": kind,
            "severity": "warning",
            "rule_id": rule,
            "rule_version": version,
            "message": "invented message",
            "evidence": {},
        }
        for line, code, kind, rule, version in (
            (2, "85025", "MUE", "MUE-MAI3", "2026Q3"),
            (None, None, "missing_information", "NO-TABLE-IN-FORCE", "2026-1"),
        )
    ],
    "suggested_actions": ["Correct the units"],
}


def posting() -> dict[str, Any]:
    """Charge 150.00: line 1 of 100.00 paid 60.00, line 2 of 50.00 denied."""
    return {
        "posting": {
            "claim_key": "0123456789abcdef-0",
            "claim_token": CLAIM,
            "payer_name": "Acme Health",
            "payment_date": "2026-11-02",
            "trace_token": TRACE,
            "is_reversal": False,
            "charge": "150.00",
            "paid": "60.00",
            "contractual": "20.00",
            "patient_responsibility": "20.00",
            "denied": "50.00",
            "other": ZERO,
            "note": None,
        },
        "lines": [
            {
                "line_number": 1,
                "line_token": LINE,
                "matched_by": "line_control_number",
                "procedure_code": "99213",
                "charge": "100.00",
                "paid": "60.00",
                "contractual": "20.00",
                "deductible": ZERO,
                "coinsurance": "5.00",
                "copay": "15.00",
                "patient_other": ZERO,
                "denied": ZERO,
                "other": ZERO,
            },
            {
                "line_number": 2,
                "line_token": None,
                "matched_by": "position",
                "procedure_code": "85025",
                "charge": "50.00",
                "paid": ZERO,
                "contractual": ZERO,
                "deductible": ZERO,
                "coinsurance": ZERO,
                "copay": ZERO,
                "patient_other": ZERO,
                "denied": "50.00",
                "other": ZERO,
            },
        ],
    }


DENIAL = {
    "claim_key": "k",
    "recoverable": "50.00",
    "deadline": "2027-02-01",
    "denials": [
        {
            "claim_token": CLAIM,
            "line_number": 2,
            "line_token": LINE,
            "payer_name": "Acme Health",
            "payment_date": "2026-11-02",
            "procedure_code": "85025",
            "modifiers": ["59"],
            "group_code": "CO",
            "reason_code": "197",
            "remark_codes": ["N54"],
            "category": "authorization",
            "action": "appeal",
            "denied": "50.00",
            "recoverable": "50.00",
            "deadline": "2027-02-01",
        }
    ],
}
DISPUTE = {
    "claim_key": "k",
    "lines": [
        {
            "line_number": 1,
            "line_token": LINE,
            "payer_name": "Acme Health",
            "payment_date": "2026-11-02",
            "contract_id": "acme",
            "contract_version": "2026",
            "procedure_code": "99213",
            "modifiers": [],
            "allowed": "80.00",
            "expected": "92.50",
            "variance": "12.50",
            "explanation": "x",
        }
    ],
}


def test_the_hash_is_of_the_content_not_of_its_spelling() -> None:
    a = {"amount": Decimal("80.00"), "day": date(2026, 11, 2), "lines": [1, 2]}
    b = {"lines": (1, 2), "day": "2026-11-02", "amount": "80.00"}
    assert content_hash("posting", CLAIM, a) == content_hash("posting", CLAIM, b)
    assert (
        canonical("posting", CLAIM, {"é": "\u2028"})
        == ('{"claim_token":"' + CLAIM + '","kind":"posting","payload":{"é":"\u2028"}}').encode()
    )


def test_every_part_of_the_content_counts() -> None:
    base = content_hash("posting", CLAIM, {"a": "1.00"})
    assert (
        len(
            {
                base,
                content_hash("posting", CLAIM, {"a": "1.0"}),
                content_hash("posting", LINE, {"a": "1.00"}),
                content_hash("denial_follow_up", CLAIM, {"a": "1.00"}),
                content_hash("posting", CLAIM, {"a": None}),
            }
        )
        == 5
    )


@pytest.mark.parametrize("value", [1.5, float("nan"), b"x", {1: 2}, {"a": {"b": 0.1}}, object(), 2**60, "\ud800"])
def test_what_has_no_exact_form_is_refused_without_being_quoted(value: Any) -> None:
    with pytest.raises(BadInput) as error:
        content_hash("posting", CLAIM, {"a": value})
    assert error.value.code == "BAD_PAYLOAD"
    assert repr(value) not in str(error.value)


def test_ids_are_stable_and_apart() -> None:
    assert proposal_id("lakeside", "posting", "k-0") == "b58d4ca5-ba24-5bd8-b62a-ddacebf48f02"
    ids = {
        proposal_id("p", "k", "x"),
        proposal_id("p", "kx", ""),
        proposal_id("pk", "", "x"),
        proposal_id("p", "k", "x", 2),
        proposal_id("p", "k", "x2"),
        idempotency_key("p", "k", "x"),
    }
    assert len(ids) == 5  # the idempotency key is over the same three words, in another role: never compared
    assert proposal_id("p", "k", "x", 1) == proposal_id("p", "k", "x")


def test_tokens_are_found_wherever_they_stand() -> None:
    assert list(tokens({"a": [f"see {CLAIM}, {LINE}"], "b": {"c": TRACE}, "d": None, "e": "[no token]"})) == [
        CLAIM,
        LINE,
        TRACE,
    ]


# --- edits


def _edited(**of_line_2: str) -> dict[str, Any]:
    after = copy.deepcopy(posting())
    after["lines"][1].update(of_line_2)
    return after


def test_a_denial_may_become_a_write_off_where_line_and_posting_agree() -> None:
    after = _edited(denied=ZERO, contractual="50.00")
    after["posting"].update(denied=ZERO, contractual="70.00", note="payer confirmed")
    edits.check("posting", posting(), after)


@pytest.mark.parametrize(
    ("of_posting", "of_line", "says"),
    [
        ({"paid": "61.00"}, {}, "may not change posting.paid"),
        ({"charge": "151.00"}, {}, "may not change posting.charge"),
        ({}, {"denied": "49.99"}, "line 2 do not add up"),
        ({}, {"denied": ZERO, "contractual": "50.00"}, "must agree"),
        ({"denied": ZERO, "contractual": "70.00"}, {}, "must agree"),
        ({"denied": "49.00"}, {}, "add up to the charge"),
        ({}, {"procedure_code": "85027"}, "may not change lines.*.procedure_code"),
        ({}, {"denied": "50"}, "two decimals"),
        ({}, {"denied": "5e1"}, "two decimals"),
        ({"note": "call 617-555-0143"}, {}, "telephone"),
        ({"note": "x" * 501}, {}, "longer"),
        ({"note": "see [CLAIM_ANOTHERTOKEN2345]"}, {}, "another token"),
        ({"note": 5}, {}, "text"),
    ],
)
def test_an_edit_that_breaks_the_money_or_the_rules_is_refused(of_posting: Any, of_line: Any, says: str) -> None:
    after = _edited(**of_line)
    after["posting"].update(of_posting)
    with pytest.raises(DecisionRefused, match=says.replace("*", r"\*").replace(".", r"\.")):
        edits.check("posting", posting(), after)


def test_a_line_may_not_appear_vanish_or_move() -> None:
    for change in (lambda lines: lines.pop(), lambda lines: lines.append(lines[0]), lambda lines: lines.reverse()):
        after = posting()
        change(after["lines"])
        with pytest.raises(DecisionRefused):
            edits.check("posting", posting(), after)


def test_other_kinds_take_notes_and_nothing_about_money() -> None:
    edits.check("denial_follow_up", DENIAL, {**DENIAL, "note": "call first", "deadline": "2027-01-15"})
    with pytest.raises(DecisionRefused, match="recoverable"):
        edits.check("denial_follow_up", DENIAL, {**DENIAL, "recoverable": "500.00"})
    with pytest.raises(DecisionRefused, match="deadline"):
        edits.check("denial_follow_up", DENIAL, {**DENIAL, "deadline": "soon"})
    with pytest.raises(DecisionRefused):
        edits.check("underpayment_dispute", DISPUTE, {**DISPUTE, "lines": []})
    edits.check("coder_review", REVIEW, {**REVIEW, "note": "see record", "suggested_actions": ["Append 25"]})
    for change in ({"issues": []}, {"charge": "1.00"}, {"suggested_actions": "none"}, {"suggested_actions": []}):
        with pytest.raises(DecisionRefused):
            edits.check("coder_review", REVIEW, {**REVIEW, **change})
    with pytest.raises(DecisionRefused, match="SSN"):
        edits.check("coder_review", REVIEW, {**REVIEW, "suggested_actions": ["call 312-555-0100"]})
    with pytest.raises(DecisionRefused):
        edits.check("no_such_kind", {"a": "b"}, {"a": "c"})


# --- texts


def test_a_posting_reads_like_an_instruction_to_a_biller() -> None:
    names = {CLAIM: "5012", LINE: "9031", TRACE: "EFT77"}
    assert render.title("posting", posting()) == "Post insurance payment $60.00: Acme Health"
    assert render.text("posting", CLAIM, posting(), names).splitlines() == [
        "Claim 5012",
        "Payment from Acme Health, dated 2026-11-02, check/EFT EFT77",
        "Charge $150.00: paid $60.00, write off $20.00, patient $20.00, denied (do not write off) $50.00",
        "Line 1 99213 (item 9031): paid $60.00, write off $20.00, coinsurance $5.00, copay $15.00",
        "Line 2 85025: paid $0.00, denied $50.00",
    ]


def test_a_reversal_says_so() -> None:
    payload = posting()
    payload["posting"].update(is_reversal=True, paid="-1060.00")
    assert render.title("posting", payload) == "Reverse insurance payment -$1,060.00: Acme Health"
    assert "REVERSAL" in render.text("posting", CLAIM, payload)


def test_a_denial_names_reason_action_and_deadline() -> None:
    assert render.title("denial_follow_up", DENIAL) == "Follow up denial, $50.00 recoverable: Acme Health"
    assert render.text("denial_follow_up", CLAIM, DENIAL, {CLAIM: "5012", LINE: "9031"}).splitlines() == [
        "Claim 5012",
        "Denied by Acme Health, dated 2026-11-02; $50.00 recoverable, answer by 2027-02-01",
        "Line 2 85025 59 (item 9031): $50.00 denied CO-197 (N54), authorization: appeal",
    ]
    assert render.due_on("denial_follow_up", DENIAL) == date(2027, 2, 1)


def test_a_dispute_shows_allowed_against_contract() -> None:
    assert render.title("underpayment_dispute", DISPUTE) == "Dispute underpayment $12.50: Acme Health"
    assert render.text("underpayment_dispute", CLAIM, DISPUTE).splitlines()[-1] == (
        f"Line 1 99213 (item {LINE}): allowed $80.00, contract acme 2026 says $92.50, short $12.50"
    )


def test_a_coder_review_names_line_rule_and_what_to_do() -> None:
    assert render.title("coder_review", REVIEW) == "Coder review $150.00: Acme Health"
    assert render.text("coder_review", CLAIM, REVIEW, {CLAIM: "5012"}).splitlines() == [
        "Claim 5012",
        "Check before it is sent, $150.00: needs review",
        "Line 2 85025: invented message (MUE-MAI3, 2026Q3)",
        "Claim: invented message (NO-TABLE-IN-FORCE, 2026-1)",
        "To do: Correct the units",
    ]
    assert render.tokens("coder_review", CLAIM, REVIEW) == {CLAIM} and render.due_on("coder_review", REVIEW) is None
    many = {**REVIEW, "issues": REVIEW["issues"] * 500}
    lines = render.text("coder_review", CLAIM, many).splitlines()
    assert len(lines) == 24 and "and 980 more" in lines


def test_only_tokens_the_text_shows_are_asked_for() -> None:
    assert render.tokens("posting", CLAIM, posting()) == {CLAIM, LINE, TRACE}
    payload = {**DENIAL, "patient": "[PERSON_7KQ2M4XZ7KQ2M4XZD]"}
    assert render.tokens("denial_follow_up", CLAIM, payload) == {CLAIM, LINE}


def test_plain_keeps_booleans_and_nulls() -> None:
    assert plain({"a": True, "b": None, "c": Decimal("-0.10")}) == {"a": True, "b": None, "c": "-0.10"}
