"""The policy names every field there is, and what it leaves fits the published schemas exactly."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from medbill.deid.policy import LANDED, PUBLISHED, load
from medbill.errors import BadInput, PolicyError

PATH = Path(__file__).resolve().parents[2] / "include" / "policies" / "deidentification.yml"
KINDS = {
    "PERSON",
    "NOTE",
    "MEMBER",
    "CLAIM",
    "LINE",
    "PAYER_CLAIM",
    "TRACE",
    "MRN",
    "AUTHORIZATION",
    "PATIENT",
    "REFERENCE",
}


TEXTS = pa.array(["seen by [PERSON:3]", "99213 denied"], pa.string())


class FakeVault:
    """Tokens that show what was asked for; no database."""

    def tokenize(self, kind: str, values: pa.ChunkedArray) -> pa.Array:
        return pa.array([None if v is None else f"[{kind}:{len(v)}]" for v in values.to_pylist()], pa.string())


def _sample(object_name: str, table_name: str, rows: int = 2) -> pa.Table:
    def value(kind: pa.DataType) -> Any:
        if pa.types.is_string(kind):
            return "text"
        if pa.types.is_date(kind):
            return date(2026, 1, 5)
        if pa.types.is_decimal(kind):
            return Decimal("12.34")
        if pa.types.is_list(kind):
            return ["a", "b"]
        return True if pa.types.is_boolean(kind) else 7

    fields = LANDED[object_name][table_name]
    return pa.table({name: pa.array([value(kind)] * rows, kind) for name, kind in fields.items()})


TABLES = [(o, t) for o in PUBLISHED for t in PUBLISHED[o]]


@pytest.mark.parametrize("object_name", LANDED)
def test_every_field_of_the_model_has_a_rule_and_no_other_has(object_name: str) -> None:
    rules = load(PATH).rules[object_name]
    assert {t: set(fields) for t, fields in rules.items()} == {t: set(f) for t, f in LANDED[object_name].items()}


def test_kinds_are_those_agreed() -> None:
    used = {r.kind for tables in load(PATH).rules.values() for t in tables.values() for r in t.values() if r.kind}
    assert used == KINDS


def test_every_kept_field_says_why() -> None:
    for line in PATH.read_text().splitlines():
        rule, _, reason = line.partition("#")
        if rule.strip().endswith(": keep"):
            assert reason.strip(), line


@pytest.mark.parametrize(("object_name", "table_name"), TABLES)
def test_output_is_exactly_the_published_schema(object_name: str, table_name: str) -> None:
    table = _sample(object_name, table_name)
    published = load(PATH).apply(object_name, table_name, table, FakeVault(), TEXTS)
    assert published.schema.equals(PUBLISHED[object_name][table_name])
    assert published.num_rows == 2
    empty = load(PATH).apply(object_name, table_name, table.slice(0, 0), FakeVault(), TEXTS.slice(0, 0))
    assert (empty.schema, empty.num_rows) == (PUBLISHED[object_name][table_name], 0)


@pytest.mark.parametrize(("object_name", "table_name"), TABLES)
def test_an_unknown_field_is_dropped(object_name: str, table_name: str) -> None:
    table = _sample(object_name, table_name).append_column("social_security_number", pa.array(["900-11-2222"] * 2))
    published = load(PATH).apply(object_name, table_name, table, FakeVault(), TEXTS)
    assert published.schema.equals(PUBLISHED[object_name][table_name])


def test_free_text_is_published_only_as_the_engine_gave_it() -> None:
    policy, table = load(PATH), _sample("notes", "notes")
    assert policy.apply("notes", "notes", table, FakeVault(), TEXTS)["text"].to_pylist() == TEXTS.to_pylist()
    for texts in (None, TEXTS.slice(0, 1)):
        with pytest.raises(PolicyError, match="free text"):
            policy.apply("notes", "notes", table, FakeVault(), texts)


def test_problems_are_not_published() -> None:
    policy = load(PATH)
    assert not policy.covers("remittances", "problems")
    assert policy.covers("remittances", "claims")
    with pytest.raises(PolicyError):
        policy.apply("remittances", "problems", _sample("remittances", "problems"), FakeVault())


def test_values_become_tokens_years_or_stay() -> None:
    published = load(PATH).apply("claims", "claims", _sample("claims", "claims", 1), FakeVault()).to_pylist()[0]
    assert published["claim_token"] == "[CLAIM:4]"
    assert published["service_year"] == published["billed_date_year"] == 2026
    assert published["charge"] == Decimal("12.34")
    assert published["payer_name"] == "text"
    assert "patient_birth_date" not in published


def test_kept_text_that_looks_like_a_token_is_escaped_also_in_lists() -> None:
    look_alike = "[CLAIM_0123456789ABCDEFG]"
    table = _sample("claims", "claims", 1)
    table = table.set_column(table.column_names.index("payer_name"), "payer_name", pa.array([f"Plan {look_alike}"]))
    assert load(PATH).apply("claims", "claims", table, FakeVault())["payer_name"].to_pylist() == [
        "Plan [\\CLAIM_0123456789ABCDEFG]"
    ]
    lines = _sample("claims", "claim_lines", 3)
    lines = lines.set_column(
        lines.column_names.index("modifiers"), "modifiers", pa.array([["25"], [look_alike, None], []])
    ).slice(1)
    assert load(PATH).apply("claims", "claim_lines", lines, FakeVault())["modifiers"].to_pylist() == [
        ["[\\CLAIM_0123456789ABCDEFG]", None],
        [],
    ]


def test_a_missing_field_and_a_missing_required_value_are_refused() -> None:
    table = _sample("claims", "claims")
    with pytest.raises(PolicyError, match="member_id"):
        load(PATH).apply("claims", "claims", table.drop_columns(["member_id"]), FakeVault())
    blank = table.set_column(0, "claim_id", pa.array(["a", None], pa.string()))
    with pytest.raises(BadInput) as caught:
        load(PATH).apply("claims", "claims", blank, FakeVault())
    assert caught.value.code == "REQUIRED_VALUE_MISSING"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("claims", "claims", "favourite_colour", "drop"), "no such field"),
        (("claims", "claims", "claim_id", "hash"), "write tokenize"),
        (("claims", "claims", "claim_id", 3), "write tokenize"),
        (("claims", "claims", "claim_id", "tokenize CLAIM as member_token"), "member_token"),
        (("claims", "claims", "claim_id", "drop"), "claim_token"),
        (("claims", "claims", "patient_last_name", "keep"), "patient_last_name"),
        (("claims", "claims", "charge", "tokenize CLAIM as charge"), "only text"),
        (("claims", "claims", "claim_id", "year as claim_token"), "only a date"),
        (("claims", "claims", "charge", "keep as charge"), "no such addition"),
        (("claims", "claims", "charge", "keep, of organisation"), "no such addition"),
    ],
)
def test_a_policy_that_contradicts_the_model_is_refused(
    tmp_path: Path, change: tuple[str, str, str, object], message: str
) -> None:
    content = yaml.safe_load(PATH.read_text())
    object_name, table_name, name, rule = change
    content[object_name][table_name][name] = rule
    path = tmp_path / "p.yml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(PolicyError, match=message):
        load(path)


@pytest.mark.parametrize(
    "text", ["", "[]", "claims: {}", "{claims: {}, remittances: {}}", "a: [", "{claims: 1, remittances: 2}"]
)
def test_a_malformed_policy_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.yml"
    with pytest.raises(PolicyError):
        load(path)
    path.write_text(text)
    with pytest.raises(PolicyError):
        load(path)
