"""The XCom backend and the listener: what they let through, and what they do when the ledger is down."""

from __future__ import annotations

import ast
import importlib
import logging
import os
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from medbill.errors import LedgerUnavailable, QualityGateClosed

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
CANARY = "DOE, JANE 1961-02-03"


@pytest.fixture(scope="module", autouse=True)
def _airflow(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ.setdefault("AIRFLOW_HOME", str(tmp_path_factory.mktemp("airflow")))
    if str(PLUGINS) not in sys.path:
        sys.path.append(str(PLUGINS))


@pytest.fixture(scope="module")
def xcom() -> ModuleType:
    return importlib.import_module("medbill_plugin.xcom")


@pytest.fixture(scope="module")
def listener() -> ModuleType:
    return importlib.import_module("medbill_plugin.listener")


# --- XCom ---


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        9_999_999,
        "lakeside",
        "claims",
        "123.45",
        "-0.50",
        "2026-11-24",
        "2026-11-24T10:00:00+00:00",
        date(2026, 11, 24),
        datetime(2026, 11, 24, tzinfo=UTC),
        "01a20e84-9660-70f2-98b4-2430ea4822f0",
        "d" * 64,
        "[CLAIM_7QK4X7QK4X7QK4X7Q]",
        "reports/lakeside/denials/2026-11-24",
        "file://medbill/deid/claims",
        ["lakeside", "demo"],
        {"practice": "lakeside", "days": ["2026-11-24"], "landed": 12, "published": [{"object": "claims"}]},
    ],
)
def test_references_pass_and_come_back_as_they_were(xcom: ModuleType, value: Any) -> None:
    stored = xcom.ReferenceXCom.serialize_value(value, key="return_value", dag_id="d", task_id="t", run_id="r")
    assert xcom.ReferenceXCom.deserialize_value(SimpleNamespace(value=stored)) == value


@pytest.mark.parametrize(
    "value",
    [
        CANARY,
        {"note": CANARY},
        {CANARY: 1},
        {"days": {"jane": 1}},
        [["lakeside", CANARY]],
        {"published": [{"day": ["2026-11-24", {"practice": "doe"}]}]},
        "Doe",
        "jane",
        "jane-doe",
        "jane_doe",
        "JANE.DOE",
        "078-05-1120",
        "078051120",
        "+1-212-555-0143",
        "2125550143",
        "jane@example.org",
        "https://example.org/jane",
        "/home/jane/denials.html",
        "s3://bucket/jane/x.parquet",
        "reports/jane/denials",
        "file://medbill/deid/jane",
        "[PERSON_DOEJANE]",
        "2026-11-24 Jane Doe",
        "lakeside\n",
        "LAKESIDE",
        "",
        78051120,
        10_000_000,
        -10_000_000,
        b"bytes",
        1.5,
        Decimal("1.50"),
        {"lakeside"},
        object(),
        "ab" * 101,
        ["claims"] * 2001,
        [[[[[["claims"]]]]]],
    ],
)
def test_everything_else_is_refused_without_repeating_it(xcom: ModuleType, value: Any) -> None:
    with pytest.raises(xcom.ReferenceRefused) as caught:
        xcom.ReferenceXCom.serialize_value(value)
    shown = str(caught.value)
    assert shown.startswith("XCOM_REFUSED")
    assert not [part for part in ("DOE", "Doe", "jane", "078", "555") if part in shown]
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_the_key_of_an_xcom_is_no_place_either(xcom: ModuleType) -> None:
    with pytest.raises(xcom.ReferenceRefused):
        xcom.ReferenceXCom.serialize_value(1, key="jane_doe")


@given(st.text(min_size=1).filter(lambda t: any(c.isspace() or not c.isascii() for c in t)))
def test_no_text_with_white_space_or_foreign_letters_passes(text: str) -> None:
    module = importlib.import_module("medbill_plugin.references")
    with pytest.raises(module.ReferenceRefused):
        module.check(text)


@given(st.from_regex(r"[A-Za-z][a-z]{1,11}([ .,_-][A-Za-z][a-z]{1,11}){0,2}", fullmatch=True))
def test_no_name_passes_that_is_not_a_word_of_ours(name: str) -> None:
    module = importlib.import_module("medbill_plugin.references")
    assume(name not in module.WORDS | {"lakeside", "demo"})
    for value in (name, {"practice": name}, {name: 1}, [name]):
        with pytest.raises(module.ReferenceRefused):
            module.check(value)


@given(st.integers(min_value=1_010_0001, max_value=899_99_9999), st.sampled_from(["", "-", " ", "."]))
def test_no_ssn_passes_in_any_writing(number: int, between: str) -> None:
    module = importlib.import_module("medbill_plugin.references")
    digits = f"{number:09d}"
    for value in (number, digits, between.join((digits[:3], digits[3:5], digits[5:]))):
        with pytest.raises(module.ReferenceRefused):
            module.check({"days": [value]})


def test_airflow_takes_it_as_its_backend(xcom: ModuleType) -> None:
    from airflow.sdk.bases.xcom import BaseXCom

    assert issubclass(xcom.ReferenceXCom, BaseXCom)


# --- listener ---


class _Rows:
    """Stands in for the ledger; keeps what it is given."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.rows: list[tuple[Any, Any, str]] = []

    def ledger(self, _db: Any, run: Any) -> Any:
        return SimpleNamespace(record=lambda event, outcome: self._record(run, event, outcome))

    def _record(self, run: Any, event: Any, outcome: str) -> int:
        if self.error:
            raise self.error
        self.rows.append((run, event, outcome))
        return len(self.rows)


def _ti(**arguments: Any) -> SimpleNamespace:
    return SimpleNamespace(
        id="01a20e84-9660-70f2-98b4-2430ea4822f0",
        dag_id="receive_remittances",
        run_id="manual__1",
        task_id="receive",
        map_index=0,
        try_number=1,
        task=SimpleNamespace(op_kwargs=arguments),
    )


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> _Rows:
    found = _Rows()
    monkeypatch.setattr("medbill.audit.ledger.Ledger", found.ledger)
    return found


def test_start_and_end_are_rows_of_the_run(listener: ModuleType, rows: _Rows) -> None:
    ti = _ti(practice="lakeside")
    listener.on_task_instance_running(None, ti)
    listener.on_task_instance_success(None, ti)
    (run, start, _), (_, end, outcome) = rows.rows
    assert (run.dag_id, run.run_id, run.task_id, run.map_index, run.try_number) == (
        "receive_remittances",
        "manual__1",
        "receive",
        0,
        1,
    )
    assert (start.kind, start.practice, end.kind, outcome) == ("task.start", "lakeside", "task.end", "success")
    assert start.idempotency_key != end.idempotency_key


def test_a_skipped_task_says_so(listener: ModuleType, rows: _Rows) -> None:
    listener.on_task_instance_skipped(None, _ti())
    assert rows.rows[0][1].details == {"state": "skipped"}
    assert rows.rows[0][1].practice == "-"


@pytest.mark.parametrize(
    ("error", "details"),
    [
        (ValueError(CANARY), {"state": "failed", "error": "ValueError"}),
        (CANARY, {"state": "failed"}),
        (QualityGateClosed("closed"), {"state": "failed", "error": "QualityGateClosed", "code": "QUALITY_GATE_CLOSED"}),
        (None, {"state": "failed"}),
    ],
)
def test_of_a_failure_only_its_class_is_recorded(
    listener: ModuleType, rows: _Rows, error: Any, details: dict[str, str]
) -> None:
    listener.on_task_instance_failed(None, _ti(), error)
    ((_, event, outcome),) = rows.rows
    assert (event.details, outcome) == (details, "failure")
    assert "DOE" not in repr(event)


def test_a_ledger_that_is_down_fails_no_task_but_is_said(
    listener: ModuleType, rows: _Rows, caplog: pytest.LogCaptureFixture
) -> None:
    rows.error = LedgerUnavailable(f"no connection for {CANARY}")
    with caplog.at_level(logging.ERROR, logger="medbill.listener"):
        listener.on_task_instance_running(None, _ti())
        listener.on_task_instance_failed(None, _ti(), ValueError(CANARY))
    assert [r.getMessage().partition(":")[0] for r in caplog.records] == ["LEDGER_UNAVAILABLE"] * 2
    assert "DOE" not in caplog.text


def test_what_the_tasks_return_is_made_of_known_keys_and_words() -> None:
    from medbill.pipelines import guard, tasks
    from medbill.platforms import registry

    references = importlib.import_module("medbill_plugin.references")
    returned = {
        key.value
        for module in (tasks, guard)
        for node in ast.walk(ast.parse(Path(module.__file__).read_text()))
        if isinstance(node, ast.Return) and node.value is not None
        for made in ast.walk(node.value)
        if isinstance(made, ast.Dict)
        for key in made.keys
        if isinstance(key, ast.Constant)
    }
    assert {"practice", "platform", "waiting", "days", "checkpoint"} <= returned <= references.KEYS
    assert set(registry.NAMES) <= references.WORDS
