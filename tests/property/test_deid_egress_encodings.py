"""Whatever the guard knows is found in every writing of it."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medbill.deid.egress import EgressRefused

cases = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "egress_cases.py")))
ENCODINGS, KNOWN, STACKABLE = cases.ENCODINGS, cases.KNOWN, cases.STACKABLE
GUARD, _ = cases.guard()
WORDS = st.lists(
    st.sampled_from(
        [
            "claim",
            "denied",
            "CO-45",
            "N130",
            "99213-25",
            "J1885",
            "E11.65",
            "$1,204.50",
            "remark",
            "Humana",
            "paid",
            "2024-03-14",
            "per",
            "allowed",
            "80.00",
            "visit",
            "wound",
            "resubmit",
            "modifier",
            "[CLAIM_X]",
            "café",
            "naïve",
            "12",
            "therefore",
        ]
    ),
    max_size=12,
).map(" ".join)


@pytest.mark.parametrize("value", [value for _, value in KNOWN])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_each_value_in_each_encoding_is_found(value: str, encoding: str) -> None:
    assert GUARD.inspect(f"Note: {ENCODINGS[encoding](value)} was called.").known, encoding


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(KNOWN), st.lists(st.sampled_from(STACKABLE), min_size=1, max_size=3), WORDS, WORDS)
def test_planted_values_are_refused_under_any_three_encodings(
    known: tuple[str, str], encodings: list[str], before: str, after: str
) -> None:
    hidden = known[1]
    for encoding in encodings:
        hidden = ENCODINGS[encoding](hidden)
    with pytest.raises(EgressRefused) as refused:
        GUARD.check(f"{before} {hidden} {after}", destination="model:test", purpose="operations")
    assert refused.value.code == "EGRESS_KNOWN_VALUE"


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([("MRN", "0048213"), ("PAYER_CLAIM", "990031277645"), ("PERSON", "Zebrowski")]), st.data())
def test_a_value_broken_over_two_lines_is_found(known: tuple[str, str], data: st.DataObject) -> None:
    value = known[1]
    at = data.draw(st.integers(1, len(value) - 1))
    broken = (
        value[:at]
        + data.draw(
            st.sampled_from(["\n", "\r\n", "-\n", "-\n  ", "\n> "] if value.isalpha() else ["\n", "\r\n", "-\n"])
        )
        + value[at:]
    )
    assert GUARD.inspect(f"seen by {broken} today").known


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(max_size=400),
        st.binary(max_size=400),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        ),
    )
)
def test_any_payload_is_decided(payload: object) -> None:
    GUARD.inspect(payload)


@settings(max_examples=200, deadline=None)
@given(WORDS)
def test_codes_amounts_and_prose_pass(text: str) -> None:
    assert GUARD.inspect(text).code is None
