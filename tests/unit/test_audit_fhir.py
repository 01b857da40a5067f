"""What R4 asks of an AuditEvent, and what is refused. No database."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import rfc8785

from medbill.audit.fhir import audit_event, problems

ROW: dict[str, Any] = {
    "event_id": "0190b6ac-0000-7000-8000-000000000001", "recorded_at": datetime(2026, 1, 5, 9, tzinfo=UTC),
    "actor": "medbill", "on_behalf_of": "ana", "practice": "lakeside", "purpose": "payment", "action": "read",
    "kind": "landing.read", "resource": "remittances/2026-01-05", "outcome": "success", "dag_id": "d", "run_id": "r",
    "task_id": "t", "map_index": -1, "try_number": 1, "subject_token": "[PATIENT_7Z]",
    "payload": rfc8785.dumps({"details": {"claims": 3, "codes": ["a", "b"], "none": None}}),
}  # fmt: skip
EVENT = audit_event(ROW)


def test_a_row_becomes_a_valid_event() -> None:
    assert list(problems(EVENT)) == []
    assert EVENT["recorded"] == "2026-01-05T09:00:00.000+00:00"
    assert [entity["role"]["code"] for entity in EVENT["entity"]] == ["4", "1", "20"]
    assert EVENT["entity"][0]["detail"] == [
        {"type": "claims", "valueString": "3"}, {"type": "codes", "valueString": "a"}, {"type": "codes", "valueString": "b"},
    ]  # fmt: skip


def test_an_intent_has_no_outcome_yet_and_a_purpose_of_ours_is_text() -> None:
    event = audit_event({**ROW, "outcome": "intent", "purpose": "fundraising", "dag_id": None, "subject_token": None})
    assert "outcome" not in event and event["outcomeDesc"] == "intent"
    assert event["purposeOfEvent"] == [{"text": "fundraising"}]
    assert len(event["entity"]) == 1


def _without(*path: Any) -> Callable[[dict[str, Any]], None]:
    def change(event: Any) -> None:
        for step in path[:-1]:
            event = event[step]
        del event[path[-1]]

    return change


def _with(value: object, *path: Any) -> Callable[[dict[str, Any]], None]:
    def change(event: Any) -> None:
        for step in path[:-1]:
            event = event[step]
        event[path[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        *(_without(name) for name in ("resourceType", "type", "recorded", "agent", "source")),
        _without("agent", 0, "requestor"),
        _without("source", "observer"),
        _without("type", "code"),
        _without("type", "system"),
        _without("entity", 0, "detail", 0, "valueString"),
        _with("Patient", "resourceType"),
        _with([], "agent"),
        _with({}, "source"),
        _with("yes", "agent", 0, "requestor"),
        _with("X", "action"),
        _with("1", "outcome"),
        _with("2026-01-05", "recorded"),
        _with("2026-01-05T09:00:00", "recorded"),
        _with("2026-13-05T09:00:00Z", "recorded"),
        _with("  ", "source", "site"),
        _with("25", "entity", 0, "role", "code"),
        _with("9", "entity", 0, "type", "code"),
        _with("HPAYMENT", "purposeOfEvent", 0, "coding", 0, "code"),
        _with("no scheme", "type", "system"),
        _with("x", "patient"),
        _with("x" * 65, "id"),
        _with({"type": "a"}, "entity", 0, "detail"),
    ],
)
def test_what_is_no_event_is_said(change: Callable[[dict[str, Any]], None]) -> None:
    event = copy.deepcopy(EVENT)
    change(event)
    assert list(problems(event))


def test_an_entity_has_a_name_or_a_query() -> None:
    event = copy.deepcopy(EVENT)
    event["entity"][0] |= {"name": "a", "query": "YQ=="}
    assert [p for p in problems(event) if "sev-1" in p]
    assert list(problems(None)) and list(problems([]))


def test_an_event_that_would_not_be_valid_is_not_made() -> None:
    with pytest.raises(ValueError, match="AuditEvent"):
        audit_event({**ROW, "practice": " "})
