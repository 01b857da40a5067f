"""What holds for every batch of claims: the order of claims and lines decides nothing, units add up, dates include their ends.

Each example is one batch of many claims, since a batch costs the scrubber little more than a claim.
"""

from __future__ import annotations

import json
import random
import runpy
from collections import Counter
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

t = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "rules_scrub.py")))
C = t.CODES
FEW = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

CODES = st.sampled_from([*C[:7], C[10], C[11], C[12], C[20], C[21], C[23], C[24], C[25], C[30], C[39], C[42], t.VISIT, "Q0001", "Q9999", None])  # fmt: skip
LINES = st.builds(
    lambda code, modifiers, units, day, diagnoses: t.line(code, modifiers=modifiers, units=units, date_of_service=day, diagnoses=diagnoses),
    CODES,
    st.lists(st.sampled_from(["59", "25", "LT", "RT", "XS", "76", "50", "ZZ"]), max_size=3),
    st.integers(0, 4),
    st.sampled_from([t.DAY, "2026-08-04", "2026-06-30"]),
    st.lists(st.sampled_from(["I10", "M17.11", "M17.12", "J20.0", "J40", "E11.9", "B99"]), min_size=1, max_size=3, unique=True),
)  # fmt: skip
CLAIMS = st.lists(
    st.tuples(st.lists(LINES, min_size=1, max_size=5), st.integers(0, 3), st.sampled_from(["TST01", "PAY09"]), st.sampled_from([None, "05901"])),
    min_size=1,
    max_size=12,
)  # fmt: skip


def claims_of(drawn: list[Any]) -> list[dict[str, Any]]:
    return [
        t.claim(*lines, claim_id=f"c{n}", payer_id=payer, mac=mac, patient={"id": f"p{patient}", "age_years": 40, "sex": "F"})
        for n, (lines, patient, payer, mac) in enumerate(drawn)
    ]  # fmt: skip


def findings(records: list[dict[str, Any]]) -> Counter[str]:
    """Everything said, without where it stands in the output."""
    return Counter(json.dumps([r["claim_id"], i], sort_keys=True) for r in records for i in r["issues"])


@FEW
@given(CLAIMS, st.randoms(use_true_random=False))
def test_order_of_claims_and_lines_decides_nothing(drawn: list[Any], shuffle: random.Random) -> None:
    claims = claims_of(drawn)
    mixed = [{**c, "lines": shuffle.sample(c["lines"], len(c["lines"]))} for c in claims]
    shuffle.shuffle(mixed)
    one, other = t.check(*claims), t.check(*mixed)
    assert findings(one) == findings(other)
    assert {r["claim_id"]: r["validation_result"] for r in one} == {
        r["claim_id"]: r["validation_result"] for r in other
    }
    assert [r["claim_id"] for r in other] == [c["claim_id"] for c in mixed]


@FEW
@given(CLAIMS)
def test_a_rule_that_is_passed_over_would_find_nothing(drawn: list[Any]) -> None:
    scrubber, reference = t.scrubber(), t.reference()
    for claim in claims_of(drawn):
        with reference.cursor() as connection:
            scrubber.prepare(connection, *t.tables([claim]))
            opened = scrubber.open_rules(connection, t.AS_OF)
            for rule in scrubber.rules:
                if rule not in opened:
                    scrubber.apply(connection, rule, t.AS_OF)
            assert connection.execute("SELECT rule_id FROM issue").fetchall() == []


@FEW
@given(CLAIMS)
def test_patients_do_not_touch_each_other(drawn: list[Any]) -> None:
    claims = claims_of(drawn)
    apart: list[dict[str, Any]] = []
    for patient in {c["patient"]["id"] for c in claims}:
        apart += t.check(*(c for c in claims if c["patient"]["id"] == patient))
    assert findings(t.check(*claims)) == findings(apart)


@FEW
@given(CLAIMS)
def test_a_verdict_is_its_findings(drawn: list[Any]) -> None:
    for record in t.check(*claims_of(drawn)):
        severities = {i["severity"] for i in record["issues"]}
        expected = "fail" if "error" in severities else "needs_review" if "warning" in severities else "pass"
        assert record["validation_result"] == expected
        assert bool(record["suggested_actions"]) == (expected != "pass")


@FEW
@given(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4), min_size=1, max_size=20))
def test_units_of_a_day_add_up_however_they_are_split(splits: list[list[int]]) -> None:
    """Limit 2 a day (MAI 2): several lines are refused exactly where their sum alone on one line is."""
    several = [
        t.claim(*(t.line(C[11], units=u, modifiers=["76"]) for u in units), claim_id=f"s{n}", patient={"id": f"s{n}", "age_years": 40, "sex": "F"})
        for n, units in enumerate(splits)
    ]  # fmt: skip
    at_once = [
        t.claim(t.line(C[11], units=sum(units)), claim_id=f"o{n}", patient={"id": f"o{n}", "age_years": 40, "sex": "F"})
        for n, units in enumerate(splits)
    ]  # fmt: skip
    records = t.check(*several, *at_once)
    refused = [any(i["rule_id"] == "MUE-MAI2" for i in r["issues"]) for r in records]
    assert refused[: len(splits)] == refused[len(splits) :] == [sum(units) > 2 for units in splits]


@FEW
@given(st.lists(st.integers(-10, 10), min_size=1, max_size=30, unique=True))
def test_an_edit_holds_from_its_first_day_to_its_last(offsets: list[int]) -> None:
    """3 to 5 August 2026, in the table."""
    days = [date(2026, 8, 4) + timedelta(days=n) for n in offsets]
    claims = [
        t.claim(t.line(C[0], date_of_service=str(d)), t.line(C[4], date_of_service=str(d)), claim_id=str(d), patient={"id": str(d), "age_years": 40, "sex": "F"})
        for d in days
    ]  # fmt: skip
    hit = {r["claim_id"] for r in t.check(*claims) if any(i["rule_id"] == "NCCI-PTP" for i in r["issues"])}
    assert hit == {str(d) for d in days if date(2026, 8, 3) <= d <= date(2026, 8, 5)}


@FEW
@given(
    st.lists(
        st.tuples(st.sampled_from(["LT", "RT", "F1", "F2", ""]), st.sampled_from(["LT", "RT", "F1", "F2", ""])),
        min_size=1,
        max_size=25,
    )
)
def test_sites_bypass_alike_on_either_line(pairs: list[tuple[str, str]]) -> None:
    """Which of the two codes has which site makes no difference."""

    def claims(label: str, swap: bool) -> list[dict[str, Any]]:
        made = []
        for n, (a, b) in enumerate(pairs):
            first, second = (b, a) if swap else (a, b)
            lines = t.line(C[0], modifiers=[first] if first else []), t.line(C[2], modifiers=[second] if second else [])
            made.append(
                t.claim(*lines, claim_id=f"{label}{n}", patient={"id": f"{label}{n}", "age_years": 40, "sex": "F"})
            )
        return made

    records = t.check(*claims("a", False), *claims("b", True))
    said = [[i["severity"] for i in r["issues"] if i["rule_id"] == "NCCI-PTP"] for r in records]
    assert said[: len(pairs)] == said[len(pairs) :]
