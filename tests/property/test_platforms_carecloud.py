"""FHIR bundles: whatever their order, their copies and what is missing or strange in them, no claim is lost, doubled or mixed."""

from __future__ import annotations

import copy
import json
from collections import Counter
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medbill.errors import PlatformError
from medbill.platforms.carecloud_claims import billed, claim_rows, responses_by_claim
from medbill.platforms.carecloud_fhir import judged, pruned, read_page, target
from medbill.platforms.http import Answer
from medbill.platforms.values import Unreadable
from medbill.sandbox import wire
from medbill.sandbox.carecloud_wire import NUMBER_SYSTEM, records
from medbill.sandbox.practice import PINEGROVE, generate

DATA = generate(10, date(2026, 5, 4), days=7, claims=12, identity=PINEGROVE)
RECORDS = json.loads(wire.dumps(records(DATA)), parse_float=Decimal)
CLAIMS = [r for r in RECORDS["Claim"] if r["status"] == "active"]
OPTIONAL = (
    "contained",
    "text",
    "type",
    "created",
    "insurer",
    "careTeam",
    "insurance",
    "total",
    "priority",
    "provider",
    "use",
)
START, END = date(2026, 5, 1), date(2026, 6, 30)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=12,
)


def rows_of(claims: list[dict[str, Any]]) -> tuple[dict[str, Any], Counter[str]]:
    refused: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    coverages = {r["id"]: r for r in RECORDS["Coverage"]}
    found = {}
    for number, claim in billed(claims, NUMBER_SYSTEM, START, END, refused, unknown).items():
        try:
            found[number] = claim_rows(claim, {"last_name": "X"}, coverages, None, {}, unknown)
        except Unreadable as error:
            refused[error.reason] += 1
    return found, refused


WANTED = rows_of(CLAIMS)[0]


@st.composite
def bundles(draw: st.DrawFn) -> tuple[list[dict[str, Any]], dict[str, set[str]]]:
    """Entries of one searchset with all claims, and which optional elements each claim lost."""
    dropped: dict[str, set[str]] = {}
    entries = []
    for claim in CLAIMS:
        lost = draw(st.sets(st.sampled_from(OPTIONAL), max_size=4))
        dropped[claim["id"]] = lost
        resource = {name: value for name, value in claim.items() if name not in lost}
        search = draw(st.sampled_from([{}, {"search": {"mode": "match"}}, {"search": None}]))
        entries.append({"resource": resource, **search})
    entries.append({"resource": {"resourceType": "Coverage", "id": "i"}, "search": {"mode": "include"}})
    warning = {"resourceType": "OperationOutcome", "issue": [{"severity": "warning", "code": "informational"}]}
    entries.append({"resource": warning, "search": {"mode": "outcome"}})
    return draw(st.permutations(entries)), dropped


@settings(deadline=None, max_examples=60)
@given(bundles())
def test_order_and_missing_optional_elements_change_no_other_value(
    made: tuple[list[dict[str, Any]], dict[str, set[str]]],
) -> None:
    entries, dropped = made
    page = read_page("GET", {"resourceType": "Bundle", "total": len(CLAIMS), "entry": entries})
    assert page.total == len(page.resources) == len(CLAIMS) and page.following is None
    found, refused = rows_of([dict(r) for r in page.resources])
    assert found.keys() == WANTED.keys() and not refused
    empty = {
        "insurer": {"payer_id", "payer_name"},
        "careTeam": {"rendering_npi"},
        "insurance": {"member_id"},
        "created": {"billed_date"},
    }
    for claim in CLAIMS:
        (number,) = [i["value"] for i in claim["identifier"] if i["system"] == NUMBER_SYSTEM]
        (row, lines), (wanted, wanted_lines) = found[number], WANTED[number]
        nothing = set().union(*(empty.get(name, set()) for name in dropped[claim["id"]]))
        assert lines == wanted_lines
        assert row == {name: None if name in nothing else value for name, value in wanted.items()}


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_coverage_of_another_patient_is_never_taken(data: st.DataObject) -> None:
    claims = copy.deepcopy(CLAIMS)
    chosen = data.draw(st.sets(st.integers(0, len(claims) - 1), min_size=1))
    for at in chosen:
        others = [r for r in RECORDS["Coverage"] if r["beneficiary"]["reference"] != claims[at]["patient"]["reference"]]
        other = data.draw(st.sampled_from(others))
        claims[at]["insurance"][0]["coverage"] = {"reference": f"https://x.example/fhir/Coverage/{other['id']}"}
    found, refused = rows_of(claims)
    assert refused == {"COVERAGE_OF_ANOTHER_PATIENT": len(chosen)}
    assert all(found[number] == WANTED[number] for number in found) and len(found) == len(claims) - len(chosen)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(range(len(CLAIMS))), st.sampled_from(sorted(CLAIMS[0])), _json)
def test_an_element_of_any_form_stops_its_claim_at_most(at: int, name: str, value: Any) -> None:
    claims = copy.deepcopy(CLAIMS)
    (number,) = [i["value"] for i in claims[at]["identifier"] if i["system"] == NUMBER_SYSTEM]
    claims[at][name] = value
    found, refused = rows_of(claims)
    assert {n: r for n, r in found.items() if n != number} == {n: r for n, r in WANTED.items() if n != number}
    assert sum(refused.values()) <= 1
    if number in found:
        assert found[number][0]["charge"] == sum(line["charge"] for line in found[number][1])


@settings(deadline=None, max_examples=60)
@given(_json)
def test_what_is_no_bundle_is_an_error_of_ours(value: Any) -> None:
    for bundle in (value if isinstance(value, dict) else {}, {"resourceType": "Bundle", "entry": value, "link": value}):
        try:
            read_page("GET", bundle)
        except PlatformError as error:
            assert error.code == "PLATFORM_BAD_ANSWER"


@settings(deadline=None, max_examples=60)
@given(_json, st.integers(200, 599))
def test_an_outcome_of_any_form_never_turns_a_failure_into_a_success(value: Any, status: int) -> None:
    content = json.dumps({"resourceType": "OperationOutcome", "issue": value}).encode()
    said = judged(Answer(status, {}, content))
    assert said == status or said >= 400


@settings(deadline=None, max_examples=60)
@given(_json, st.frozensets(st.from_regex(r"[ab](\.[ab]){0,3}", fullmatch=True), max_size=4))
def test_pruning_keeps_nothing_that_is_not_named(value: Any, names: frozenset[str]) -> None:
    record = {"a": value, "b": {"a": value, "secret": 1}, "secret": value}
    kept = pruned(record, names)
    assert kept.keys() <= {name.partition(".")[0] for name in names}
    assert "b" in names or "secret" not in (kept.get("b") or {})


@pytest.mark.parametrize(
    ("reference", "id"),
    [
        ("Patient/1", "1"),
        ("https://x.example/fhir/r4/Patient/a-b.c", "a-b.c"),
        ("Patient/1/_history/2", "1"),
        ("Group/1", None),
        ("Patient/", None),
        ("Patient/1/2", None),
        ("#1", None),
        ("urn:uuid:1", None),
        (None, None),
        (7, None),
        ({"reference": "Patient/1"}, None),
    ],
)
def test_references(reference: Any, id: str | None) -> None:
    assert target(reference, "Patient") == id


@pytest.mark.parametrize(
    ("issue", "status"),
    [
        ({"severity": "error", "code": "throttled"}, 429),
        ({"severity": "error", "code": "expired"}, 401),
        ({"severity": "error", "code": "forbidden"}, 403),
        ({"severity": "fatal", "code": "exception"}, 503),
        ({"severity": "error", "code": "new-code"}, 400),
        ({"severity": "warning", "code": "throttled"}, 200),
    ],
)
def test_an_error_inside_a_success_is_none(issue: dict[str, str], status: int) -> None:
    content = json.dumps({"resourceType": "OperationOutcome", "issue": [issue]}).encode()
    assert judged(Answer(200, {}, content)) == status


def test_a_bundle_that_says_it_is_not_whole_is_refused() -> None:
    outcome = {"resourceType": "OperationOutcome", "issue": [{"severity": "warning", "code": "incomplete"}]}
    with pytest.raises(PlatformError, match="not whole"):
        read_page("GET", {"resourceType": "Bundle", "entry": [{"resource": outcome, "search": {"mode": "outcome"}}]})


def test_money_is_read_digit_by_digit() -> None:
    """0.1 + 0.2, and an amount a float cannot hold to the cent."""
    claim = json.loads(wire.dumps(CLAIMS[0]), parse_float=Decimal)
    claim["item"] = [dict(claim["item"][0], sequence=n, id=str(n)) for n in (1, 2, 3)]
    for item, text in zip(claim["item"], ("0.10", "0.20", "90071992547.01"), strict=True):
        item["net"] = json.loads(f'{{"value": {text}, "currency": "USD"}}', parse_float=Decimal)
    claim["total"]["value"] = Decimal("90071992547.31")
    ((row, _),) = rows_of([claim])[0].values()
    assert row["charge"] == Decimal("90071992547.31")


@settings(deadline=None, max_examples=60)
@given(
    st.permutations([("2026-05-03T10:00:00Z", "partial"), ("2026-05-03T10:00:00-05:00", "complete"), (None, "queued")])
)
def test_the_latest_response_by_instant_counts(order: list[tuple[str | None, str]]) -> None:
    rows = [
        {"id": o, "meta": {"lastUpdated": at}, "status": "active", "outcome": o, "request": {"reference": "Claim/1"}}
        for at, o in order
    ]
    assert responses_by_claim(rows)["1"]["outcome"] == "complete"
