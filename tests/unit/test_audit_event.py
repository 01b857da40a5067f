"""What an event may hold, and where a run's names come from."""

from __future__ import annotations

import uuid

import pytest

from medbill.audit.ledger import Event, RunContext, Touch, _event_id


def test_actions_are_words_or_fhir_letters() -> None:
    assert Event("R", "k", "payment", "p", "r").action == "read"
    assert Event("execute", "k", "payment", "p", "r").action == "execute"
    with pytest.raises(ValueError, match="action"):
        Event("look", "k", "payment", "p", "r")


@pytest.mark.parametrize("missing", ["kind", "purpose", "practice", "resource"])
def test_an_event_says_what_why_whose_and_where(missing: str) -> None:
    fields = {"kind": "k", "purpose": "payment", "practice": "p", "resource": "r", missing: ""}
    with pytest.raises(ValueError, match=missing):
        Event("read", **fields)


@pytest.mark.parametrize("value", [1.5, {"a": 1}, b"x", "x" * 513, "a\0b", ["ok", 0.1], object(), 2**53, [-(2**53)]])
def test_details_are_counts_codes_and_hashes(value: object) -> None:
    with pytest.raises(ValueError, match="detail"):
        Event("read", "k", "payment", "p", "r", details={"x": value})
    with pytest.raises(ValueError, match="detail"):
        Touch().note(x=value)


def test_run_context_comes_from_airflows_variables() -> None:
    env = {
        "AIRFLOW_CTX_DAG_ID": "d", "AIRFLOW_CTX_DAG_RUN_ID": "r", "AIRFLOW_CTX_TASK_ID": "t",
        "AIRFLOW_CTX_TRY_NUMBER": "2", "AIRFLOW_CTX_MAP_INDEX": "-1", "MEDBILL_ACTOR": "ana",
    }  # fmt: skip
    assert RunContext.from_env(env) == RunContext("medbill", "ana", "d", "r", "t", -1, 2)
    assert RunContext.from_env({}) == RunContext()


def test_event_ids_are_uuid7_in_order_of_time() -> None:
    ids = [uuid.UUID(_event_id()) for _ in range(200)]
    assert {i.version for i in ids} == {7}
    assert {i.variant for i in ids} == {uuid.RFC_4122}
    assert len(set(ids)) == 200
    assert [i.int >> 80 for i in ids] == sorted(i.int >> 80 for i in ids)


@pytest.mark.parametrize(
    ("name", "value"), [("prompt_hash", "x"), ("response_hash", "AB" * 32), ("model", 4), ("decision", ["a"])]
)
def test_known_details_have_their_form(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        Event("read", "k", "payment", "p", "r", details={name: value})
    good = Event("read", "k", "payment", "p", "r", details={"prompt_hash": "ab" * 32, "model": "m", "decision": None})
    assert good.details["model"] == "m"
