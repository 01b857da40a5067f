"""The search for leaks: planted ones are found, coincidences with public words are not."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from medbill.deid.check import Leak, leaks
from medbill.deid.policy import load
from medbill.deid.vault import _fresh_tokens

POLICY = load(Path(__file__).resolve().parents[2] / "include" / "policies" / "deidentification.yml")


def _originals(**columns: list[object]) -> dict[str, pa.Table]:
    base: dict[str, list[object]] = {
        "claim_id": ["100234", "99213"],
        "patient_last_name": ["Zebrowski", "HC"],
        "patient_first_name": ["Joan", "Blue"],
        "member_id": ["W12 345-678", "CO4"],
        "payer_name": ["BLUE CROSS HC", "HUMANA"],
        "payer_id": ["60054", "99213"],
        "patient_birth_date": [date(1950, 3, 4), None],
        "platform": ["drchrono", "drchrono"],
        "billing_status": ["CO4", "HC"],
    }
    return {"claims": pa.table({**base, **columns})}


def _published(originals: dict[str, pa.Table], **columns: list[object]) -> dict[str, pa.Table]:
    kept = {c: originals["claims"][c] for c in ("payer_name", "payer_id", "platform", "billing_status")}
    return {"claims": pa.table({"claim_token": _fresh_tokens("CLAIM", 2), **kept, **columns})}


def _found(published: dict[str, pa.Table], originals: dict[str, pa.Table]) -> list[Leak]:
    return leaks(published, originals, POLICY, "claims")


def test_clean_data_gives_none_though_names_and_numbers_coincide_with_public_ones() -> None:
    originals = _originals()
    assert _found(_published(originals), originals) == []
    assert leaks({}, {}, POLICY, "claims") == []


@pytest.mark.parametrize(
    ("planted", "kind"),
    [
        ("Zebrowski", "patient_last_name"),
        ("ZEBROWSKI", "patient_last_name"),
        ("see Zebrowski, J.", "patient_last_name"),
        ("xxzebrowskixx", "patient_last_name"),
        ("Joan", "patient_first_name"),
        ("claim 100234 again", "CLAIM"),
        ("PCN100234X", "CLAIM"),
        ("W12 345-678", "MEMBER"),
        ("19500304", "patient_birth_date"),
        ("born 03/04/1950", "patient_birth_date"),
    ],
)
@pytest.mark.parametrize("column", ["payer_name", "claim_token", "billing_status", "surprise"])
def test_a_planted_identifier_is_found_in_any_column(planted: str, kind: str, column: str) -> None:
    originals = _originals()
    ok = _fresh_tokens("CLAIM", 1)[0] if column == "claim_token" else None
    assert Leak("claims", column, kind, 1) in _found(_published(originals, **{column: [planted, ok]}), originals)


def test_an_identifier_in_a_list_is_found() -> None:
    originals = _originals()
    published = _published(originals, modifiers=[["25", "Zebrowski"], []])
    assert Leak("claims", "modifiers", "patient_last_name", 1) in _found(published, originals)


def test_the_count_is_of_cells() -> None:
    originals = _originals()
    published = _published(originals, billing_status=["Zebrowski", "Zebrowski"])
    assert _found(published, originals) == [Leak("claims", "billing_status", "patient_last_name", 2)]


@pytest.mark.parametrize(
    ("payer", "kind"),
    [
        ("SELF PAY ZEBROWSKI JOAN", "PERSON"),
        ("c/o Joan Zebrowski", "PERSON"),
        ("Plan 100234", "CLAIM"),
        ("w12 345 678", "MEMBER"),
    ],
)
def test_a_kept_field_that_came_with_an_identifier_in_it_fires(payer: str, kind: str) -> None:
    originals = _originals(payer_name=[payer, "HUMANA"])
    assert _found(_published(originals), originals) == [Leak("claims", "payer_name", kind, 1)]


@pytest.mark.parametrize(
    "payer", ["ZEBROWSKI MUTUAL", "JOAN OF ARC HEALTH", "PLAN 1002345", "ZEBROWSKIJOAN", "W12 OF 345"]
)
def test_a_kept_field_with_a_coincidence_in_it_does_not(payer: str) -> None:
    originals = _originals(payer_name=[payer, "HUMANA"])
    assert _found(_published(originals), originals) == []


def test_values_under_three_characters_are_not_looked_for() -> None:
    originals = _originals()
    assert _found(_published(originals, surprise=["HC", "xx"]), originals) == []


def test_payer_numbers_the_policy_hides_may_stand_in_fields_it_keeps() -> None:
    originals = {
        "remittances": pa.table(
            {
                "payer_trace_id": ["1512345678"],
                "trace_number": ["1992000004"],
                "payer_id": ["1512345678"],
                "payee_npi": ["1992000004"],
            }
        )
    }
    published = {"remittances": originals["remittances"].select(["payer_id", "payee_npi"])}
    assert leaks(published, originals, POLICY, "remittances") == []
    planted = {"remittances": pa.table({"version": ["check 1992000004"]})}
    assert leaks(planted, originals, POLICY, "remittances") == [Leak("remittances", "version", "TRACE", 1)]


def test_token_and_key_columns_hold_tokens_and_keys_only() -> None:
    originals = _originals()
    good = _fresh_tokens("CLAIM", 1)[0]
    bad = good[:-2] + ("0" if good[-2] != "0" else "1") + "]"
    assert _found(_published(originals, claim_token=[good, bad]), originals) == [
        Leak("claims", "claim_token", "NOT_A_TOKEN", 1)
    ]
    keys = _published(originals, claim_key=["0123456789abcdef-12", "row 7"])
    assert _found(keys, originals) == [Leak("claims", "claim_key", "NOT_A_KEY", 1)]


def test_nothing_found_is_quoted() -> None:
    originals = _originals()
    assert "zebrowski" not in repr(_found(_published(originals, surprise=["Zebrowski", ""]), originals)).lower()
