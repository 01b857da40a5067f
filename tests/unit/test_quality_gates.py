"""Gate 1 and gate 2 with the real Great Expectations project."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from medbill.errors import PolicyError, QualityGateClosed
from medbill.model.claims import CLAIM_TABLES
from medbill.model.published import PUBLISHED_CLAIM_TABLES, PUBLISHED_REMITTANCE_TABLES
from medbill.model.remittances import ERA_TABLES
from medbill.quality import gates, project
from medbill.quality.policy import GatePolicy, load

GX = Path(__file__).resolve().parents[2] / "great_expectations"
POLICY = GatePolicy(date(1990, 1, 1), 366, Decimal("0.5"), 20)
D = Decimal


def _fill(schema: pa.Schema, row: dict[str, Any]) -> dict[str, Any]:
    full = {}
    for f in schema:
        if f.name in row:
            full[f.name] = row[f.name]
        elif f.nullable:
            full[f.name] = None
        elif pa.types.is_boolean(f.type):
            full[f.name] = True
        elif pa.types.is_list(f.type):
            full[f.name] = []
        elif pa.types.is_string(f.type):
            full[f.name] = "x"
        else:
            full[f.name] = D("0.00") if pa.types.is_decimal(f.type) else 0
    return full


def _table(schema: pa.Schema, rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([_fill(schema, r) for r in rows], schema=schema)


def _rows(
    claims: int = 3, transactions: int = 1, file_of: Callable[[int], int] = lambda r: 0
) -> dict[str, list[dict[str, Any]]]:
    """Balanced transactions of claims of one line each: charge 100, CO-45 of 20, paid 80."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ERA_TABLES}
    for r in range(transactions):
        paid = D(80) * claims
        rows["remittances"].append(
            {
                "remittance_index": r,
                "file_index": file_of(r),
                "payment_amount": paid,
                "credit_debit": "C",
                "claim_count": claims,
                "payment_date": date(2026, 11, 2),
                "production_date": date(2026, 11, 1),
                "service_line_count": claims,
                "adjustment_count": claims,
                "charge": D(100) * claims,
                "paid": paid,
                "balance_difference": D(0),
                "payer_name": "Payer",
            }
        )
        for c in range(r * claims, (r + 1) * claims):
            rows["claims"].append(
                {
                    "remittance_index": r,
                    "claim_index": c,
                    "patient_control_number": f"PCN{c}",
                    "claim_status": "1",
                    "charge": D(100),
                    "paid": D(80),
                    "is_reversal": False,
                    "line_count": 1,
                    "adjustment_total": D(20),
                    "balance_difference": D(0),
                    "patient_last_name": "CANARYSON",
                    "statement_from": date(2026, 10, 1),
                    "statement_to": date(2026, 10, 1),
                }
            )
            rows["service_lines"].append(
                {
                    "remittance_index": r,
                    "claim_index": c,
                    "line_index": c,
                    "line_number": 1,
                    "procedure_code": "99213",
                    "charge": D(100),
                    "paid": D(80),
                    "adjustment_total": D(20),
                    "balance_difference": D(0),
                    "service_from": date(2026, 10, 1),
                }
            )
            rows["adjustments"].append(
                {
                    "remittance_index": r,
                    "claim_index": c,
                    "line_index": c,
                    "group_code": "CO",
                    "reason_code": "45",
                    "amount": D(20),
                }
            )
    return rows


def _tables(rows: dict[str, list[dict[str, Any]]]) -> dict[str, pa.Table]:
    return {name: _table(schema, rows[name]) for name, schema in ERA_TABLES.items()}


def _refused(*partitions: dict[str, list[dict[str, Any]]]) -> list[list[tuple[str, int, int | None, str]]]:
    results = gates.check_landing([_tables(rows) for rows in partitions], GX, POLICY)
    return [[(r.level, r.remittance_index, r.claim_index, r.reason_code) for r in result.refused] for result in results]


def _changed(changes: list[tuple[str, dict[str, Any], str]], **shape: Any) -> list[dict[str, list[dict[str, Any]]]]:
    """One partition per change, each with its second row changed. Checked in one call: Great Expectations is slow to start."""
    partitions = []
    for table, change, _ in changes:
        rows = _rows(**shape)
        rows[table][1].update(change)
        partitions.append(rows)
    return partitions


def test_what_balances_passes() -> None:
    result = gates.check_landing([_tables(_rows())], GX, POLICY)[0]
    assert result.passed
    assert result.refused == []
    assert result.failed_expectations == []
    assert result.statistics["claims"] == 3


def test_an_empty_partition_passes() -> None:
    assert gates.check_landing([_tables({name: [] for name in ERA_TABLES})], GX, POLICY)[0].passed


OF_TRANSACTION: list[tuple[str, dict[str, Any], str]] = [
    ("remittances", {"complete": False}, "TRUNCATED"),
    ("remittances", {"balance_difference": D("0.01"), "balanced": False}, "TRANSACTION_UNBALANCED"),
    ("remittances", {"payment_amount": None, "balance_difference": None, "balanced": False}, "BAD_AMOUNT"),
    ("remittances", {"payment_date": date(1899, 12, 31)}, "IMPLAUSIBLE_DATE"),
    ("remittances", {"payment_date": date(2199, 1, 1)}, "IMPLAUSIBLE_DATE"),
    ("remittances", {"payer_name": " Canaryson "}, "NAME_AS_PAYER"),
]


def test_a_whole_transaction_is_refused() -> None:
    for (_, change, reason), refused in zip(
        OF_TRANSACTION, _refused(*_changed(OF_TRANSACTION, transactions=2)), strict=True
    ):
        assert refused[0] == ("transaction", 1, None, reason), change
        assert {r[:2] for r in refused} == {("transaction", 1)}, change


OF_CLAIM: list[tuple[str, dict[str, Any], str]] = [
    ("claims", {"complete": False}, "TRUNCATED"),
    ("claims", {"patient_control_number": None}, "MISSING_CLAIM_ID"),
    ("claims", {"patient_control_number": "  "}, "MISSING_CLAIM_ID"),
    ("claims", {"charge": None, "balance_difference": None, "balanced": False}, "BAD_AMOUNT"),
    ("claims", {"paid": None, "balance_difference": None, "balanced": False}, "BAD_AMOUNT"),
    ("claims", {"balance_difference": D("-0.01"), "balanced": False}, "CLAIM_UNBALANCED"),
    ("claims", {"balanced": False}, "CLAIM_UNBALANCED"),
    ("claims", {"claim_status": "99"}, "UNKNOWN_CLAIM_STATUS"),
    ("claims", {"claim_status": None}, "UNKNOWN_CLAIM_STATUS"),
    ("claims", {"statement_from": date(1066, 10, 14), "statement_to": None}, "IMPLAUSIBLE_DATE"),
    ("claims", {"statement_to": date(2026, 9, 30)}, "IMPLAUSIBLE_DATE"),
    ("service_lines", {"paid": None, "balance_difference": None, "balanced": False}, "BAD_AMOUNT"),
    ("service_lines", {"balance_difference": D(10), "balanced": False}, "LINE_UNBALANCED"),
    ("service_lines", {"service_from": date(2226, 1, 1)}, "IMPLAUSIBLE_DATE"),
    ("adjustments", {"amount": None}, "BAD_AMOUNT"),
    ("adjustments", {"group_code": "ZZ"}, "UNKNOWN_GROUP_CODE"),
    ("adjustments", {"reason_code": None}, "MISSING_REASON_CODE"),
    ("adjustments", {"reason_code": "CALL J SMITH"}, "BAD_CODE"),
    ("claims", {"crossover_payer_name": "Canaryson, Jo", "patient_first_name": "JO"}, "NAME_AS_PAYER"),
    ("claims", {"crossover_payer_name": "CANARYSON"}, "NAME_AS_PAYER"),
]


def test_one_claim_is_refused_and_its_neighbours_pass() -> None:
    for (_, change, reason), refused in zip(OF_CLAIM, _refused(*_changed(OF_CLAIM)), strict=True):
        assert refused[0] == ("claim", 0, 1, reason), change
        assert {r[:3] for r in refused} == {("claim", 0, 1)}, change


def test_a_patient_called_like_another_payment_s_payer_or_in_part_of_one_passes() -> None:
    rows = _rows(transactions=2)
    rows["remittances"][0]["payer_name"] = "CANARYSON HEALTH PLAN"
    rows["remittances"][1]["payer_name"] = "HUMANA"
    rows["claims"][3]["patient_last_name"] = "Humana"
    assert _refused(rows) == [[]]


def test_an_unreadable_provider_adjustment_refuses_its_transaction() -> None:
    rows = _rows(transactions=2)
    rows["provider_adjustments"].append({"remittance_index": 0, "reason_code": "WO", "amount": None})
    assert _refused(rows) == [[("transaction", 0, None, "BAD_AMOUNT")]]


def test_an_envelope_that_contradicts_its_content_refuses_the_transaction_but_a_claim_error_does_not() -> None:
    rows = _rows(transactions=2)
    rows["problems"] += [
        {"code": "SE_COUNT", "severity": "error", "place": "transaction 2", "remittance_index": 1},
        {"code": "UNKNOWN_CARC", "severity": "warning", "place": "transaction 1", "remittance_index": 0},
        {"code": "TRANSACTION_UNBALANCED", "severity": "error", "place": "transaction 1", "remittance_index": 0},
        {"code": "CLAIM", "severity": "error", "place": "claim 1", "remittance_index": 0, "claim_index": 0},
    ]
    assert _refused(rows) == [[("transaction", 1, None, "ENVELOPE_ERROR")]]


def test_negative_and_zero_amounts_that_balance_pass() -> None:
    rows = _rows()
    for name in ("charge", "paid", "adjustment_total"):
        rows["claims"][0][name] = -rows["claims"][0][name]
        rows["claims"][1][name] = D(0)
    assert _refused(rows) == [[]]


def test_too_many_refused_in_a_file_refuses_that_file_whole_and_no_other() -> None:
    rows = _rows(claims=30, transactions=3, file_of=lambda r: r // 2)
    for claim in rows["claims"][:30] + rows["claims"][60:80]:
        claim["patient_control_number"] = None
    refused = _refused(rows)[0]
    assert ("transaction", 2, None, "TOO_MANY_REFUSED") in refused  # 20 of 30
    assert not any(r[0] == "transaction" and r[1] in (0, 1) for r in refused)  # 30 of 60 is not above one half


def test_partitions_checked_together_keep_their_own_results() -> None:
    bad = _rows()
    bad["claims"][2]["patient_control_number"] = None
    good, refused, empty = gates.check_landing(
        [_tables(_rows()), _tables(bad), _tables({n: [] for n in ERA_TABLES})], GX, POLICY
    )
    assert good.refused == [] and empty.refused == []
    assert [(r.claim_index, r.reason_code) for r in refused.refused] == [(2, "MISSING_CLAIM_ID")]
    assert good.failed_expectations == [] and len(refused.failed_expectations) == 1


@pytest.mark.parametrize("break_it", ["drop", "retype", "duplicate", "orphan", "table"])
def test_a_wrong_shape_closes_the_gate(break_it: str) -> None:
    tables = _tables(_rows())
    claims = tables["claims"]
    if break_it == "drop":
        tables["claims"] = claims.drop_columns(["paid"])
    elif break_it == "retype":
        tables["claims"] = claims.set_column(claims.column_names.index("paid"), "paid", pa.array(["80.00"] * 3))
    elif break_it == "duplicate":
        tables["claims"] = pa.concat_tables([claims, claims.slice(0, 1)])
    elif break_it == "orphan":
        tables["claims"] = claims.slice(1)
    else:
        del tables["claims"]
    with pytest.raises(QualityGateClosed, match="landing_"):
        gates.check_landing([tables], GX, POLICY)


def test_every_critical_landing_expectation_has_a_consequence_and_refusals_have_words() -> None:
    for path in sorted((GX / "expectations").glob("*.json")):
        for e in json.loads(path.read_text())["expectations"]:
            if "reason_code" in e["meta"]:
                assert e["meta"]["level"] in ("transaction", "claim")
                assert len(e["meta"]["reason"]) > 20
                assert path.stem.startswith("landing_")
        checkpoint = json.loads((GX / "checkpoints" / path.name).read_text())
        assert checkpoint["result_format"]["exclude_unexpected_values"] is True
        assert checkpoint["result_format"]["partial_unexpected_count"] == 0


# --- the practice's own claims


def _claim_tables(charge: str = "100.00") -> dict[str, pa.Table]:
    return {
        "claims": _table(
            CLAIM_TABLES["claims"],
            [
                {"claim_id": f"50{i}", "platform": "drchrono", "service_date": date(2026, 10, 1), "charge": D(charge)}
                for i in range(2)
            ],
        ),
        "claim_lines": _table(
            CLAIM_TABLES["claim_lines"],
            [
                {
                    "claim_id": f"50{i}",
                    "line_id": f"90{i}",
                    "line_number": 1,
                    "procedure_code": "99213",
                    "charge": D(100),
                }
                for i in range(2)
            ],
        ),
    }


def test_the_practices_claims_pass_and_odd_ones_are_only_reported() -> None:
    fine, odd = gates.check_claims([_claim_tables(), _claim_tables(charge="-1.00")], GX, POLICY)
    assert fine.passed and odd.passed
    assert (fine.statistics["warnings"], odd.statistics["warnings"]) == (0, 2)


@pytest.mark.parametrize("table", ["claims", "claim_lines"])
def test_double_keys_among_the_practices_claims_fail(table: str) -> None:
    tables = _claim_tables()
    tables[table] = pa.concat_tables([tables[table], tables[table].slice(0, 1)])
    result = gates.check_claims([tables], GX, POLICY)[0]
    assert not result.passed
    assert any("unique" in name for name in result.failed_expectations)


# --- gate 2

CLAIM, LINE = "[CLAIM_7KQ2M4XZ7KQ2M4XZA]", "[LINE_7KQ2M4XZ7KQ2M4XZB]"
KEY = "0123456789abcdef"


def _published(**payer: str) -> dict[str, pa.Table]:
    p = PUBLISHED_REMITTANCE_TABLES
    money = {"charge": D(100), "paid": D(80), "adjustment_total": D(20), "balance_difference": D(0)}
    return {
        "remittances": _table(
            p["remittances"],
            [
                {
                    "remittance_key": KEY,
                    "payment_amount": D(80),
                    "balance_difference": D(0),
                    "charge": D(100),
                    "paid": D(80),
                    "payer_name": "Payer",
                    **payer,
                }
            ],
        ),
        "claims": _table(
            p["claims"],
            [
                {
                    "claim_key": f"{KEY}-0",
                    "remittance_key": KEY,
                    "claim_token": CLAIM,
                    "claim_status": "1",
                    "is_reversal": False,
                    "statement_from_year": 2026,
                    "remark_codes": ["MA01"],
                    **money,
                }
            ],
        ),
        "service_lines": _table(
            p["service_lines"],
            [{"claim_key": f"{KEY}-0", "line_number": 1, "line_token": LINE, "service_year": 2026, **money}],
        ),
        "adjustments": _table(
            p["adjustments"],
            [
                {
                    "claim_key": f"{KEY}-0",
                    "line_number": 1,
                    "sequence": 1,
                    "group_code": "CO",
                    "reason_code": "45",
                    "amount": D(20),
                }
            ],
        ),
        "provider_adjustments": _table(p["provider_adjustments"], []),
    }


def _totals() -> dict[str, dict[str, Any]]:
    return {
        "remittances": {"rows": 1, "payment_amount": D("80.00"), "paid": D("80.00")},
        "claims": {"rows": 1, "charge": D("100.00"), "paid": D("80.00"), "adjustment_total": D("20.00")},
        "service_lines": {"rows": 1, "charge": D("100.00"), "paid": D("80.00")},
        "adjustments": {"rows": 1, "amount": D("20.00")},
        "provider_adjustments": {"rows": 0, "amount": D(0)},
    }


def _gate2(tables: dict[str, pa.Table], totals: dict[str, Any] | None = None, leaks: int = 0) -> gates.GateResult:
    return gates.check_published([(tables, totals or _totals(), leaks)], GX, POLICY)[0]


def test_gate_2_passes_what_is_clean_and_equal() -> None:
    result = _gate2(_published())
    assert result.failed_expectations == []
    assert result.passed


def test_gate_2_closes_on_one_cent() -> None:
    totals = _totals()
    totals["claims"]["paid"] = D("80.01")
    result = _gate2(_published(), totals)
    assert not result.passed
    assert result.failed_expectations == ["published_totals:expect_column_values_to_be_in_set(difference)"]


def test_gate_2_closes_on_a_table_without_landing_totals() -> None:
    totals = _totals()
    del totals["claims"]
    assert not _gate2(_published(), totals).passed


def test_gate_2_closes_on_a_leak_found_elsewhere() -> None:
    result = _gate2(_published(), leaks=1)
    assert result.failed_expectations == ["published_leaks:expect_column_values_to_be_in_set(leaks)"]


LIKE_IDENTIFIERS = [
    "Payer for 412-55-6789",
    "Payer (617) 555-0143",
    "Payer 617-555-0143",
    "jane@example.org",
    "born 1961-03-04",
    "DOB 3/4/1961",
]
ORDINARY = ["UHC of 87726", "PAYER 1234567890", "Blue Cross 12-34", "A-1/B"]


def test_gate_2_closes_on_text_that_looks_like_an_identifier_and_on_no_other() -> None:
    texts = LIKE_IDENTIFIERS + ORDINARY
    results = gates.check_published([(_published(payer_name=t), _totals(), 0) for t in texts], GX, POLICY)
    for text, result in zip(texts, results, strict=True):
        assert result.passed == (text in ORDINARY), text
        expected = [] if text in ORDINARY else ["published_text:expect_column_values_to_not_match_regex_list(text)"]
        assert result.failed_expectations == expected, text


def _with_claims(change: Callable[[pa.Table], pa.Table]) -> dict[str, pa.Table]:
    tables = _published()
    return {**tables, "claims": change(tables["claims"])}


def _with_token(value: str) -> Callable[[pa.Table], pa.Table]:
    return lambda t: t.set_column(t.column_names.index("claim_token"), t.schema.field("claim_token"), pa.array([value]))


def test_gate_2_closes_on_malformed_and_foreign_tokens_and_on_a_wrong_shape() -> None:
    wrong = [
        *(_with_claims(_with_token(v)) for v in ("501", "CLAIM_7KQ2", LINE, "x" + CLAIM, "", "[CLAIM_7kq2m4xz7kq2]")),
        _with_claims(lambda t: t.append_column("patient_last_name", pa.array(["x"]))),
        _with_claims(lambda t: t.drop_columns(["member_token"])),
        _with_claims(lambda t: t.drop_columns(["balanced"])),
        _with_claims(lambda t: pa.concat_tables([t, t])),
        _with_claims(lambda t: t.set_column(t.column_names.index("paid"), "paid", pa.array(["80.00"]))),
        {name: table for name, table in _published().items() if name != "adjustments"},
    ]
    results = gates.check_published([(tables, _totals(), 0) for tables in wrong], GX, POLICY)
    assert [r.passed for r in results] == [False] * len(wrong)


def test_gate_2_of_the_practices_claims() -> None:
    p = PUBLISHED_CLAIM_TABLES
    tables = {
        "claims": _table(
            p["claims"], [{"claim_token": CLAIM, "platform": "drchrono", "charge": D(100), "service_year": 2026}]
        ),
        "claim_lines": _table(
            p["claim_lines"],
            [
                {
                    "claim_token": CLAIM,
                    "line_token": LINE,
                    "line_number": 1,
                    "charge": D(100),
                    "diagnosis_codes": ["J06.9", "E11.65"],
                }
            ],
        ),
    }
    totals = {"claims": {"rows": 1, "charge": D("100.00")}, "claim_lines": {"rows": 1, "charge": D("100.00")}}
    mixed = gates.check_published([(tables, totals, 0), (_published(), _totals(), 0), (tables, totals, 3)], GX, POLICY)
    assert [r.passed for r in mixed] == [True, True, False]


def test_assertions_fit_the_openlineage_facet() -> None:
    assertions = _gate2(_published()).assertions()
    assert {frozenset(a) for a in assertions} == {
        frozenset({"assertion", "success", "severity", "column"}),
        frozenset({"assertion", "success", "severity"}),
    }
    assert all(isinstance(a["success"], bool) for a in assertions)
    assert {a["assertion"] for a in _gate2(_published()).assertions("published_leaks")} == {
        "expect_table_columns_to_match_set",
        "expect_column_values_to_not_be_null",
        "expect_column_values_to_be_in_set",
    }


# --- policy and project


def test_a_malformed_policy_is_refused(tmp_path: Path) -> None:
    bad = tmp_path / "quality.yml"
    for text in (
        "",
        "dates: {earliest: yesterday}",
        "dates: {earliest: 1990-01-01, days_ahead: 1}\nstop_the_line: {share: 2, at_least: 1}",
    ):
        bad.write_text(text)
        with pytest.raises(PolicyError):
            load(bad)
    with pytest.raises(PolicyError):
        load(tmp_path / "absent.yml")


def test_the_shipped_policy_loads() -> None:
    assert load(GX.parent / "include/policies/quality.yml").stop_at_least == 20


def test_a_missing_project_or_suite_is_a_policy_error(tmp_path: Path) -> None:
    with pytest.raises(PolicyError):
        gates.check_landing([_tables(_rows())], tmp_path, POLICY)
    import pandas as pd

    with pytest.raises(PolicyError):
        project.validate(GX, "no_such_suite", pd.DataFrame({"a": [1]}), {})
