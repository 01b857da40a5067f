"""The denial report over any denials and remittances: tables add up to the headline, rates agree with a plain count."""

from __future__ import annotations

import importlib.util
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from medbill.reports.exact import percent, shares
from medbill.reports.tables import REPORT_TABLES, denial_tables, total
from medbill.settings import Settings

_spec = importlib.util.spec_from_file_location("reports_rows", Path(__file__).parents[1] / "reports_rows.py")
assert _spec and _spec.loader
rows = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(rows)

START, END, AS_OF = date(2026, 6, 1), date(2026, 6, 30), date(2026, 7, 20)
SQL = Settings.from_env().sql

cents = st.integers(1, 10**12).map(lambda n: Decimal(n).scaleb(-2))
days = st.integers(-60, 40).map(lambda n: START + timedelta(days=n))


@st.composite
def remittances(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(denials, claims): up to six claims with up to four answers each, some of them reversals, some denied on some lines."""
    denials, claims = [], []
    for name in range(draw(st.integers(0, 6))):
        for answer in range(draw(st.integers(1, 4))):
            key, day = f"{name}.{answer}", draw(st.one_of(days, st.none()) if answer else days)
            payer = draw(st.sampled_from(["P1", "P2"]))
            back = answer > 0 and draw(st.booleans())
            charge, paid = draw(cents), draw(st.sampled_from([Decimal(0), Decimal("12.34"), Decimal("99.00")]))
            sign = -1 if back else 1
            claims.append(
                rows.claim(key, day, sign * charge, sign * paid, payer_id=payer, payer_name=payer, is_reversal=back)
            )
            for number in range(0 if back else draw(st.integers(0, 3))):
                denied = draw(cents)
                denials.append(
                    rows.denial(
                        key,
                        day,
                        denied,
                        draw(st.sampled_from([Decimal(0), denied, Decimal("0.01")])),
                        payer_id=payer,
                        payer_name=payer,
                        line_number=number,
                        reason_code=draw(st.sampled_from(["16", "197"])),
                        remark_codes=draw(st.lists(st.sampled_from(["M1", "N2"]), max_size=2)),
                        category=draw(st.sampled_from(["coding", "timely_filing"])),
                        action=draw(st.sampled_from(["corrected_claim", "send_records"])),
                        procedure_code=draw(st.sampled_from(["T1001", None])),
                        rendering_npi=draw(st.sampled_from(["1992000004", None])),
                        deadline=draw(st.one_of(st.none(), days)),
                    )
                )
    return denials, claims


def tables_of(found: tuple[list[dict[str, Any]], list[dict[str, Any]]]) -> dict[str, Any]:
    return denial_tables(rows.denials_table(found[0]), rows.claims_table(found[1]), None, START, END, AS_OF, SQL)


@settings(max_examples=30, deadline=None)
@given(remittances())
def test_every_table_adds_up_to_the_headline(found: tuple[list[dict[str, Any]], list[dict[str, Any]]]) -> None:
    made = tables_of(found)
    head = made["headline"].to_pylist()[0]
    assert head["denied"] == sum(
        (d["denied"] for d in found[0] if d["payment_date"] and START <= d["payment_date"] <= END), Decimal(0)
    )
    assert head["denied"] == head["recoverable"] + head["lost"] + head["not_owed"] + head["settled"]
    assert head["lost"] == head["lost_deadline_passed"] + head["lost_not_recoverable"]
    assert 0 <= head["due_soon"] <= head["recoverable"]
    parts = ["denied", "recoverable", "lost", "not_owed", "settled"]
    for name, schema in REPORT_TABLES.items():
        if name in ("headline", "work_list"):
            continue
        for column in [
            *parts,
            *({"denials", "due_soon", "lost_deadline_passed", "lost_not_recoverable"} & set(schema.names)),
        ]:
            assert total(made[name], column) == head[column], (name, column)
        for row in made[name].to_pylist():
            assert row["denied"] == sum((row[p] for p in parts[1:]), Decimal(0)), name
        if "share" in schema.names and head["denied"]:
            assert total(made[name], "share") == Decimal("100.0")
    assert total(made["work_list"], "recoverable") == head["recoverable"]
    assert all(r["days_left"] is None or r["days_left"] >= 0 for r in made["work_list"].to_pylist())
    weeks = made["by_week"].to_pylist()
    assert sum(w["claims_remitted"] for w in weeks) == head["claims_remitted"]
    assert sum(w["initially_denied_claims"] for w in weeks) == head["initially_denied_claims"]


@settings(max_examples=30, deadline=None)
@given(remittances())
def test_rates_agree_with_a_plain_count(found: tuple[list[dict[str, Any]], list[dict[str, Any]]]) -> None:
    denied_keys = {d["claim_key"] for d in found[0]}
    remitted = denied = overturned = 0
    for token in {c["claim_token"] for c in found[1]}:
        answers = [c for c in found[1] if c["claim_token"] == token and c["payment_date"]]
        first_day = min(c["payment_date"] for c in answers)
        first = [c for c in answers if c["payment_date"] == first_day]
        originals = [c for c in first if not c["is_reversal"]]
        if not START <= first_day <= END or 2 * len(originals) <= len(first):
            continue
        remitted += 1
        if not any(c["claim_key"] in denied_keys for c in originals):
            continue
        denied += 1
        payers = {c["payer_id"] for c in first}
        in_part = sum(c["paid"] for c in first) != 0
        later = sum(
            c["paid"] for c in answers if c["payment_date"] > first_day and (not in_part or c["payer_id"] in payers)
        )
        overturned += later > 0
    head = tables_of(found)["headline"].to_pylist()[0]
    assert (head["claims_remitted"], head["initially_denied_claims"], head["overturned_claims"]) == (
        remitted,
        denied,
        overturned,
    )
    assert head["first_pass_claims"] == remitted - denied
    assert head["first_pass_rate"] == percent(remitted - denied, remitted)
    assert head["overturn_rate"] == percent(overturned, denied)


@given(st.lists(st.integers(-(10**6), 10**14).map(lambda n: Decimal(n).scaleb(-2)), max_size=30))
def test_shares_add_up_to_one_hundred_and_stay_close(amounts: list[Decimal]) -> None:
    found = shares(amounts)
    whole = sum(amounts, Decimal(0))
    if not whole:
        assert found == [None] * len(amounts)
        return
    assert sum(s for s in found if s is not None) == Decimal("100.0")
    for amount, share in zip(amounts, found, strict=True):
        assert share is not None and abs(share - amount * 100 / whole) < Decimal("0.1000001")
