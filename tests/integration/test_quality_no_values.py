"""What the gates leave behind (results, data docs, findings, logs) names rows by ordinal and holds no value of the data."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from medbill.model.published import PUBLISHED_REMITTANCE_TABLES
from medbill.model.remittances import ERA_TABLES
from medbill.quality import gates, project
from medbill.quality.policy import GatePolicy

GX = Path(__file__).resolve().parents[2] / "great_expectations"
POLICY = GatePolicy(date(1990, 1, 1), 366, Decimal("0.5"), 20)
#: every column of the landing frame holds one of these somewhere; dates and amounts as the frames write them
CANARIES = [
    "CANARYSON",
    "QUETZALCOATL",
    "412-55-6789",
    "31415926",
    "3141592.6",
    "27182818",
    "18530714",
    "1853-07-14",
    "ZZYZX",
]


@pytest.fixture
def gx_copy(tmp_path: Path) -> Iterator[Path]:
    copy = tmp_path / "gx"
    shutil.copytree(GX, copy, ignore=shutil.ignore_patterns("uncommitted"))
    yield copy
    project._context.cache_clear()


def _value(field: pa.Field, row: int) -> Any:
    """A canary, by type: shapes that fail as many expectations as can be."""
    if pa.types.is_string(field.type):
        return ["ZZYZX", "CANARYSON 412-55-6789", None][row % 3] if field.name != "severity" else "error"
    if pa.types.is_date(field.type):
        return date(1853, 7, 14)
    if pa.types.is_boolean(field.type):
        return row % 2 == 0
    if pa.types.is_list(field.type):
        return ["QUETZALCOATL 412-55-6789"]
    if pa.types.is_decimal(field.type):
        return Decimal("314159.26") if row % 2 or not field.nullable else None
    return row + (field.name == "line_number")  # ordinals; line numbers start at 1


def _tables(schemas: dict[str, pa.Schema]) -> dict[str, pa.Table]:
    return {
        name: pa.Table.from_pylist([{f.name: _value(f, r) for f in schema} for r in range(6)], schema=schema)
        for name, schema in schemas.items()
    }


def _everything_written(folder: Path) -> str:
    return "\n".join(p.read_text(errors="replace") for p in folder.rglob("*") if p.suffix in (".json", ".html", ".yml"))


def test_no_value_of_the_frames_is_in_results_docs_findings_or_logs(
    gx_copy: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    landing = gates.check_landing([_tables(ERA_TABLES)], gx_copy, POLICY)
    totals = {name: {"rows": 6, "paid": Decimal("271828.18")} for name in PUBLISHED_REMITTANCE_TABLES}
    published = gates.check_published([(_tables(PUBLISHED_REMITTANCE_TABLES), totals, 7)], gx_copy, POLICY)
    assert landing[0].refused
    assert not published[0].passed
    assert len(published[0].failed_expectations) > 10
    project.build_docs(gx_copy)
    written = _everything_written(gx_copy / "uncommitted")
    docs = list((gx_copy / "uncommitted/data_docs").rglob("*.html"))
    assert any("landing_claims" in str(p) for p in docs) and any("published_text" in str(p) for p in docs)
    output = capfd.readouterr()
    said = written + repr(landing) + repr(published) + output.out + output.err
    said += "".join(r.getMessage() for r in caplog.records if r.name.split(".")[0] in ("medbill", "great_expectations"))
    assert [canary for canary in CANARIES if canary in said] == []
    assert "Calculating Metrics" not in output.err


def test_an_expectation_that_breaks_on_a_value_closes_the_gate_and_does_not_quote_it(gx_copy: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame(
        {
            "partition": [0],
            "remittance_index": [0],
            "claim_index": [0],
            "line_index": [0],
            "group_code": ["CO"],
            "reason_code": ["45"],
            "amount": [0],
            "claim_known": [True],
            "line_known": ["CANARYSON"],
        }
    )
    suite = gx_copy / "expectations/landing_adjustments.json"
    suite.write_text(
        suite.read_text().replace('"expect_column_values_to_not_be_null"', '"expect_column_values_to_be_null"')
    )
    text = suite.read_text().replace('"line_known"', '"line_known"')
    suite.write_text(text)
    between = '"type": "expect_column_values_to_be_in_set"'
    assert between in text
    # "value_set" of line_known becomes bounds that cannot be compared with text
    broken = text.replace(
        '"column": "line_known",\n        "value_set": [\n          true\n        ]',
        '"column": "line_known",\n        "min_value": 1,\n        "max_value": 2',
    )
    assert broken != text
    at = broken.index('"min_value": 1')
    broken = broken[:at] + broken[at:].replace(
        "expect_column_values_to_be_in_set", "expect_column_values_to_be_between", 1
    )
    suite.write_text(broken)
    findings = project.validate(gx_copy, "landing_adjustments", frame, {})
    raised = [f for f in findings if f.expectation == "expect_column_values_to_be_between"]
    assert [(f.success, f.severity, f.meta) for f in raised] == [(False, "critical", {})]
    assert "CANARYSON" not in _everything_written(gx_copy / "uncommitted") + repr(findings)


def test_a_read_only_project_gates_all_the_same(gx_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    before = {p: p.read_bytes() for p in gx_copy.rglob("*") if p.is_file()}
    tables = {name: schema.empty_table() for name, schema in ERA_TABLES.items()}
    assert gates.check_landing([tables], gx_copy, POLICY)[0].passed
    project.build_docs(gx_copy)
    assert {p: p.read_bytes() for p in gx_copy.rglob("*") if p.is_file()} == before
