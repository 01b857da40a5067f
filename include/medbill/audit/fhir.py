"""Rows of the ledger as FHIR R4 AuditEvent resources, and a check of what R4 asks of one.

Elements, cardinalities and codes are those of https://hl7.org/fhir/R4/auditevent.html; resources hold tokens, never names.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC
from typing import Any

from medbill.audit.ledger import ACTIONS

_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
_DCM = "http://dicom.nema.org/resources/ontology/DCM"
_LETTERS = {word: letter for letter, word in ACTIONS.items()}
_OUTCOMES = {"success": "0", "failure": "8", "abandoned": "4"}
#: Purposes of use as HL7 v3 ActReason codes; a purpose without one is told in text.
_PURPOSES = {
    "treatment": ("TREAT", "treatment"),
    "payment": ("HPAYMT", "healthcare payment"),
    "operations": ("HOPERAT", "healthcare operations"),
    "individual": ("PATRQT", "patient requested"),
    "research": ("HRESCH", "healthcare research"),
    "public_health": ("PUBHLTH", "public health"),
    "legal": ("HLEGAL", "legal"),
}
_PEOPLE = re.compile(r"\[(PATIENT|PERSON|MEMBER|MRN)_")
_TYPES = {"110100": "Application Activity", "110106": "Export", "110107": "Import", "110110": "Patient Record"}


def audit_event(row: Mapping[Any, Any]) -> dict[str, Any]:
    """The AuditEvent of a row. Raises ValueError where it would not be a valid one (see problems())."""
    kind, purpose = row["kind"], row["purpose"]
    details = json.loads(bytes(row["payload"])).get("details", {})
    entities = [_entity(row["resource"], "urn:medbill:resource", "2", "4", details)]
    if row["subject_token"]:
        person = _PEOPLE.match(row["subject_token"]) is not None
        entities.append(
            _entity(row["subject_token"], "urn:medbill:token", "1" if person else "2", "1" if person else "4")
        )
    if row["dag_id"]:
        job = {n: row[n] for n in ("run_id", "task_id", "map_index", "try_number") if row[n] is not None}
        entities.append(_entity(row["dag_id"], "urn:airflow:dag", "4", "20", job))
    agents = [_agent(row["actor"], "urn:medbill:service", requestor=row["on_behalf_of"] is None)]
    if row["on_behalf_of"]:
        agents.append(_agent(row["on_behalf_of"], "urn:medbill:user", requestor=True))
    code, display = _PURPOSES.get(purpose, (None, None))
    why = {"coding": [_coding(f"{_TERMINOLOGY}/v3-ActReason", code, display)]} if code else {"text": purpose}
    event: dict[str, Any] = {
        "resourceType": "AuditEvent",
        "id": str(uuid.UUID(row["event_id"])),
        "type": _coding(_DCM, *_type(kind)),
        "subtype": [{"system": "urn:medbill:kind", "code": kind}],
        "action": _LETTERS[row["action"]],
        "recorded": row["recorded_at"].astimezone(UTC).isoformat(timespec="milliseconds"),
        "outcomeDesc": row["outcome"],
        "purposeOfEvent": [why],
        "agent": agents,
        "source": {
            "site": row["practice"],
            "observer": {"identifier": {"system": "urn:medbill:service", "value": row["actor"]}},
            "type": [_coding(f"{_TERMINOLOGY}/security-source-type", "4", "Application Server")],
        },
        "entity": entities,
    }
    if row["outcome"] in _OUTCOMES:
        event["outcome"] = _OUTCOMES[row["outcome"]]
    wrong = list(problems(event))
    if wrong:
        raise ValueError(f"not a valid AuditEvent: {'; '.join(wrong)}")
    return event


def _type(kind: str) -> tuple[str, str]:
    code = "110110"
    if kind.startswith(("task.", "dag.", "keys.", "vault.rotate")):
        code = "110100"
    elif kind.startswith(("platform.extract", "inbox.", "landing.write")):
        code = "110107"
    elif kind.startswith(("proposal.apply", "disclosure.", "egress.")):
        code = "110106"
    return code, _TYPES[code]


def _coding(system: str, code: str | None, display: str | None) -> dict[str, Any]:
    return {"system": system, "code": code, "display": display}


def _agent(name: str, system: str, *, requestor: bool) -> dict[str, Any]:
    return {"who": {"identifier": {"system": system, "value": name}}, "requestor": requestor}


def _entity(value: str, system: str, kind: str, role: str, details: Mapping[str, Any] | None = None) -> dict[str, Any]:
    entity: dict[str, Any] = {
        "what": {"identifier": {"system": system, "value": value}},
        "type": {"system": f"{_TERMINOLOGY}/audit-entity-type", "code": kind},
        "role": {"system": f"{_TERMINOLOGY}/object-role", "code": role},
    }
    told = [
        {"type": name, "valueString": one if isinstance(one, str) else json.dumps(one)}
        for name, value in (details or {}).items()
        for one in (value if isinstance(value, list) else [value])
        if one is not None and one != ""
    ]
    if told:
        entity["detail"] = told
    return entity


# --- what R4 asks -----------------------------------------------------------------------------------------------------

# per type of element: name -> (least, most, what it holds); a name not listed is refused
_SHAPES: dict[str, dict[str, tuple[int, int | None, str]]] = {
    "AuditEvent": {
        "resourceType": (1, 1, "code"), "id": (0, 1, "id"), "type": (1, 1, "Coding"), "subtype": (0, None, "Coding"),
        "action": (0, 1, "action"), "period": (0, 1, "Period"), "recorded": (1, 1, "instant"),
        "outcome": (0, 1, "outcome"), "outcomeDesc": (0, 1, "string"), "purposeOfEvent": (0, None, "CodeableConcept"),
        "agent": (1, None, "Agent"), "source": (1, 1, "Source"), "entity": (0, None, "Entity"),
    },
    "Agent": {
        "type": (0, 1, "CodeableConcept"), "role": (0, None, "CodeableConcept"), "who": (0, 1, "Reference"),
        "altId": (0, 1, "string"), "name": (0, 1, "string"), "requestor": (1, 1, "boolean"),
        "policy": (0, None, "uri"), "media": (0, 1, "Coding"), "purposeOfUse": (0, None, "CodeableConcept"),
    },
    "Source": {"site": (0, 1, "string"), "observer": (1, 1, "Reference"), "type": (0, None, "Coding")},
    "Entity": {
        "what": (0, 1, "Reference"), "type": (0, 1, "Coding"), "role": (0, 1, "Coding"), "lifecycle": (0, 1, "Coding"),
        "securityLabel": (0, None, "Coding"), "name": (0, 1, "string"), "description": (0, 1, "string"),
        "query": (0, 1, "string"), "detail": (0, None, "Detail"),
    },
    "Detail": {"type": (1, 1, "string"), "valueString": (1, 1, "string")},
    "Reference": {"reference": (0, 1, "string"), "identifier": (0, 1, "Identifier"), "display": (0, 1, "string")},
    "Identifier": {"system": (0, 1, "uri"), "value": (0, 1, "string")},
    "CodeableConcept": {"coding": (0, None, "Coding"), "text": (0, 1, "string")},
    "Coding": {
        "system": (1, 1, "uri"), "version": (0, 1, "string"), "code": (1, 1, "code"), "display": (0, 1, "string"),
    },
    "Period": {"start": (0, 1, "instant"), "end": (0, 1, "instant")},
}  # fmt: skip
_PRIMITIVES = {
    "string": re.compile(r"(?s)(?=.*\S).+"),
    "code": re.compile(r"\S+( \S+)*"),
    "uri": re.compile(r"[a-z][a-z0-9+.-]*:\S+"),
    "id": re.compile(r"[A-Za-z0-9.-]{1,64}"),
    "action": re.compile(r"[CRUDE]"),
    "outcome": re.compile(r"0|4|8|12"),
    "instant": re.compile(
        r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?"
        r"(Z|[+-]([01]\d|2[0-3]):[0-5]\d)"
    ),
}
# codes of the systems used here; others are open to whoever defines them
_CODES = {
    f"{_TERMINOLOGY}/audit-entity-type": {"1", "2", "3", "4"},
    f"{_TERMINOLOGY}/object-role": {str(n) for n in range(1, 25)},
    f"{_TERMINOLOGY}/security-source-type": {str(n) for n in range(1, 10)},
    f"{_TERMINOLOGY}/v3-ActReason": {code for code, _ in _PURPOSES.values()},
    _DCM: set(_TYPES),
}


def problems(event: object) -> Iterator[str]:
    """What keeps something from being an R4 AuditEvent: missing or unknown elements, wrong types, unknown codes, and the
    invariant sev-1 (an entity has a name or a query, not both). Gives paths and reasons, never values."""
    yield from _check("AuditEvent", event, "AuditEvent")
    if isinstance(event, dict) and event.get("resourceType") != "AuditEvent":
        yield "AuditEvent.resourceType: another resource"


def _check(kind: str, value: object, path: str) -> Iterator[str]:
    if kind == "boolean":
        if not isinstance(value, bool):
            yield f"{path}: not true or false"
    elif kind in _PRIMITIVES:
        if not isinstance(value, str) or not _PRIMITIVES[kind].fullmatch(value):
            yield f"{path}: not of type {kind}"
    elif not isinstance(value, dict) or not value:
        yield f"{path}: not an element"
    else:
        shape = _SHAPES[kind]
        yield from (f"{path}: no element of another name" for name in value if name not in shape)
        for name, (least, most, inner) in shape.items():
            if name not in value:
                if least:
                    yield f"{path}.{name}: missing"
            elif most == 1:
                yield from _check(inner, value[name], f"{path}.{name}")
            elif not isinstance(value[name], list) or not value[name]:
                yield f"{path}.{name}: not a list of something"
            else:
                for at, one in enumerate(value[name]):
                    yield from _check(inner, one, f"{path}.{name}[{at}]")
        if kind == "Coding" and value.get("code") not in _CODES.get(str(value.get("system")), {value.get("code")}):
            yield f"{path}: a code its system does not have"
        if kind == "Entity" and "name" in value and "query" in value:
            yield f"{path}: name and query (sev-1)"
