"""What holds for every partition: no dollar and no claim is lost or counted twice, and the order of rows does not matter."""

from __future__ import annotations

import random
import runpy
from collections import Counter, defaultdict
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medbill.rules import carc, contracts, deadlines, denials, posting

make = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "rules_tables.py")))
POLICIES = Path(__file__).parents[2] / "include" / "policies"
CARCS, LIMITS, AGREED = carc.load(POLICIES), deadlines.load(POLICIES), contracts.load(POLICIES)
BUCKETS = ("contractual", "deductible", "coinsurance", "copay", "patient_other", "denied", "other")

# an example is a whole partition of claims, so few examples say a lot
FEW = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

CENTS = st.integers(-5_000, 30_000).map(lambda c: Decimal(c).scaleb(-2))
REASONS = st.sampled_from(
    [
        "CO-45",
        "CO-253",
        "PR-1",
        "PR-2",
        "PR-3",
        "PR-204",
        "OA-23",
        "OA-18",
        "CO-16",
        "CO-29",
        "CO-50",
        "CO-97",
        "CO-197",
        "CO-59",
        "PI-97",
        "CO-ZZ9",
        "CR-45",
        "CO-1",
    ]
)
ADJUSTMENTS = st.lists(st.tuples(REASONS, CENTS).map(lambda a: f"{a[0]} {a[1]}"), max_size=4)
REMARKS = st.lists(st.sampled_from(["MA130", "N115", "M76", "N522", "M127"]), max_size=2)
LINES = st.lists(
    st.tuples(
        st.sampled_from(["99213", "99214", "20610", "J1885"]),
        st.sampled_from(["0.00", "15.00", "150.00"]),
        ADJUSTMENTS,
        st.sampled_from(["token", "wrong token", "none"]),
        st.sampled_from(["same", "no modifier", "other code", "submitted code", "other charge"]),
        st.sampled_from([None, "0.00", "88.00"]),
        REMARKS,
    ),
    max_size=4,
)
CLAIMS = st.lists(
    st.tuples(
        LINES,
        ADJUSTMENTS,
        st.sampled_from(["1", "1", "1", "2", "4", "22", "25"]),
        st.sampled_from(["own"] * 6 + ["stranger", "twice", "missing"]),
        st.sampled_from(["right"] * 6 + ["a cent off", "flagged"]),
    ),
    max_size=8,
)
PAYMENTS = st.lists(
    st.tuples(
        st.sampled_from(["LHP01", "MCR00", "MCD00", None]),
        st.sampled_from(["1992000004"] * 4 + ["1980000009", None]),
        CLAIMS,
    ),
    min_size=1,
    max_size=3,
)


def partition(payments: list[Any], prefix: str = "r") -> Any:
    """Claims as drawn; what the practice billed is what they were before the payer did something to them."""
    p = make.Partition()
    for i, (payer, npi, claims) in enumerate(payments):
        p.payment(f"{prefix}{i}", payer=payer, payee_npi=npi, payment_date=date(2026, 3, 2 + i))
        for j, (lines, adjustments, status, known, balance) in enumerate(claims):
            token = f"C-{prefix}{i}-{j}"
            sign = -1 if status == "22" else 1
            billed, answered = [], []
            for k, (code, charge, triplets, line_token, change, allowed, remarks) in enumerate(lines):
                billed.append((f"{token}/{k}", code, charge, ["25"]))
                more: dict[str, Any] = {"modifiers": ["25"], "allowed": allowed, "remarks": remarks}
                if line_token != "none":
                    more["token"] = f"{token}/{k}" if line_token == "token" else "L-elsewhere"
                if change == "no modifier":
                    more["modifiers"] = []
                elif change == "submitted code":
                    more |= {"submitted": code, "submitted_modifiers": ["25"]}
                answer = "99999" if change in ("other code", "submitted code") else code
                size = Decimal(charge) + (1 if change == "other charge" else 0)
                answered.append(make.line(answer, str(sign * size), *triplets, **more))
            more = {"adjustments": tuple(adjustments), "status": status, "balanced": balance != "flagged"}
            if not answered:
                more["charge"] = "150.00"
            key = p.claim(None if known == "missing" else token, *answered, **more)
            if balance == "a cent off":
                p.claims[-1]["paid"] += Decimal("0.01")
            assert key
            for _ in range({"stranger": 0, "twice": 2}.get(known, 1)):
                p.billed(token, *billed)
    return p


def match(tables: Any, billed: Any) -> posting.PostingResult:
    return posting.match(tables, billed, make.PRACTICE, CARCS, {})


def everything(tables: dict[str, pa.Table], billed: dict[str, pa.Table]) -> dict[str, pa.Table]:
    m = match(tables, billed)
    return {
        "postings": m.postings,
        "lines": m.lines,
        "holds": m.holds,
        "underpayments": contracts.underpayments(tables, m.postings, m.lines, AGREED),
        "denials": denials.triage(tables, m.lines, CARCS, LIMITS, AGREED),
    }


def total(rows: list[dict[str, Any]], *columns: str) -> Decimal:
    return sum((row[c] for row in rows for c in columns), Decimal(0))


@FEW
@given(PAYMENTS)
def test_every_claim_is_posted_or_held_and_every_dollar_has_one_place(payments: list[Any]) -> None:
    p = partition(payments)
    m = match(p.remittance_tables(), p.claim_tables())
    posted, lines, held = m.postings.to_pylist(), m.lines.to_pylist(), m.holds.to_pylist()
    assert Counter(r["claim_key"] for r in posted + held) == Counter(c["claim_key"] for c in p.claims)
    for column in ("charge", "paid"):
        assert total(posted, column) + total(held, column) == sum((c[column] for c in p.claims), Decimal(0))
    of_claim: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in lines:
        assert row["paid"] + total([row], *BUCKETS) == row["charge"]
        of_claim[row["claim_key"]].append(row)
    assert of_claim.keys() == {r["claim_key"] for r in posted}
    for row in posted:
        own = of_claim[row["claim_key"]]
        for column in ("charge", "paid", "contractual", "denied", "other"):
            assert total(own, column) == row[column]
        assert total(own, "deductible", "coinsurance", "copay", "patient_other") == row["patient_responsibility"]
        used = [x["line_token"] for x in own if x["line_token"]]
        assert len(used) == len(set(used))
        assert {x["line_number"] for x in own if x["line_number"]} == {
            x["line_number"] for x in p.service_lines if x["claim_key"] == row["claim_key"]
        }


@FEW
@given(PAYMENTS, st.randoms(use_true_random=False))
def test_order_of_the_rows_does_not_matter(payments: list[Any], rng: random.Random) -> None:
    p = partition(payments)

    def shuffled(tables: dict[str, pa.Table]) -> dict[str, pa.Table]:
        return {n: t.take(pa.array(rng.sample(range(len(t)), len(t)), pa.int64())) for n, t in tables.items()}

    before = everything(p.remittance_tables(), p.claim_tables())
    after = everything(shuffled(p.remittance_tables()), shuffled(p.claim_tables()))
    for name, table in before.items():
        assert table.equals(after[name]), name


@FEW
@given(PAYMENTS, PAYMENTS)
def test_two_days_together_are_the_two_days_apart(one: list[Any], two: list[Any]) -> None:
    p, q = partition(one, "r"), partition(two, "s")
    apart = [everything(x.remittance_tables(), x.claim_tables()) for x in (p, q)]
    both = [
        {name: pa.concat_tables([a[name], b[name]]) for name in a}
        for a, b in (
            (p.remittance_tables(), q.remittance_tables()),
            (p.claim_tables(), q.claim_tables()),
        )
    ]
    together = everything(*both)
    for name in ("postings", "lines", "holds", "underpayments"):
        expected = apart[0][name].to_pylist() + apart[1][name].to_pylist()
        assert together[name].to_pylist() == expected, name
    # ranks and ratios depend on the company a denial is in; what is denied does not
    assert sorted(together["denials"]["denial_key"].to_pylist()) == sorted(
        apart[0]["denials"]["denial_key"].to_pylist() + apart[1]["denials"]["denial_key"].to_pylist()
    )


@FEW
@given(PAYMENTS)
def test_denials_agree_with_the_postings_and_recover_no_dollar_twice(payments: list[Any]) -> None:
    p = partition(payments)
    tables = p.remittance_tables()
    m = match(tables, p.claim_tables())
    found = denials.triage(tables, m.lines, CARCS, LIMITS, AGREED).to_pylist()
    assert [r["priority"] for r in found] == list(range(1, len(found) + 1))
    assert len({r["denial_key"] for r in found}) == len(found)
    posted = {r["claim_key"]: r for r in m.postings.to_pylist()}
    denied: dict[tuple[str, int], Decimal] = defaultdict(Decimal)
    recoverable: dict[tuple[str, int], Decimal] = defaultdict(Decimal)
    for row in found:
        where = (row["claim_key"], row["line_number"])
        assert not posted[row["claim_key"]]["is_reversal"]
        assert row["denied"] > 0 and 0 <= row["recoverable"] <= row["denied"]
        recoverable[where] += row["recoverable"]
        if row["group_code"] != "PR":
            denied[where] += row["denied"]
    negative = {(a["claim_key"], a["line_number"] or 0) for a in p.adjustments if a["amount"] < 0}
    for row in m.lines.to_pylist():
        where = (row["claim_key"], row["line_number"])
        if not posted[where[0]]["is_reversal"] and where not in negative:
            assert denied[where] == row["denied"]
            assert recoverable[where] <= row["denied"] + row["patient_other"]
