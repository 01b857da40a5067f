"""The XCom backend and the listener: what they let through, and what they do when the ledger is down."""

from __future__ import annotations

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
from hypothesis import given
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
        "lakeside",
        "123.45",
        "2026-11-24",
        date(2026, 11, 24),
        datetime(2026, 11, 24, tzinfo=UTC),
        "s3://bucket/my folder/x.parquet",
        "/home/some user/reports/denials.html",
        ["lakeside", "hillside"],
        {"practice": "lakeside", "days": ["2026-11-24"], "landed": 12, "claim": {"token": "[CLAIM_7QK4X]"}},
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
        [["lakeside", CANARY]],
        b"bytes",
        1.5,
        Decimal("1.50"),
        {"lakeside"},
        object(),
        "x" * 513,
        ["x"] * 2001,
        [[[[[["deep"]]]]]],
        "line\nbreak",
        "s3://bucket/a\nb",
    ],
)
def test_everything_else_is_refused_without_repeating_it(xcom: ModuleType, value: Any) -> None:
    with pytest.raises(xcom.ReferenceRefused) as caught:
        xcom.ReferenceXCom.serialize_value(value)
    assert "DOE" not in str(caught.value)
    assert str(caught.value).startswith("XCOM_REFUSED")


@given(st.text(min_size=1).filter(lambda t: any(c.isspace() for c in t) and not t.startswith("/") and "://" not in t))
def test_no_text_with_white_space_passes(text: str) -> None:
    module = importlib.import_module("medbill_plugin.xcom")
    with pytest.raises(module.ReferenceRefused):
        module.check(text)


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


def test_the_policy_keeps_results_out_of_logs() -> None:
    policy = importlib.import_module("airflow_local_settings").task_policy
    plain = SimpleNamespace(show_return_value_in_logs=True)
    policy(plain)
    assert plain.show_return_value_in_logs is False
    operator = type("Operator", (), {"execute_callable": None})
    mapped = SimpleNamespace(partial_kwargs={}, operator_class=operator)
    policy(mapped)
    assert mapped.partial_kwargs == {"show_return_value_in_logs": False}
    other = SimpleNamespace(partial_kwargs={}, operator_class=object)
    policy(other)
    assert other.partial_kwargs == {}
