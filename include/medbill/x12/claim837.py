"""Claims of an 837 (ASC X12 005010X222A1/A2 professional, 005010X223A2/A3 institutional) as the scrubber's records.

A record has the fields of docs/rules/scrub.md; only what the scrubber checks is read. The file is walked segment by segment:
billing provider, subscriber and patient are what was last said above a claim in the hierarchy (HL), other payers' loops
(after a second SBR) are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from medbill.errors import BadInput, NotX12
from medbill.x12 import delimiters, source

_READ_AT_ONCE = 1 << 20
_DIAGNOSES = ("ABK", "BK", "ABF", "BF", "ABN", "BN")
_TYPES = {"005010X222": "professional", "005010X223": "institutional"}
_NPI = "XX"
_FACILITY = re.compile(r"\w{1,3}([^\w\s])[A-Z]\1\w")


@dataclass
class _Person:
    """A subscriber, or a patient who is another person."""

    member: str | None = None
    first: str | None = None
    birth: str | None = None
    sex: str | None = None


@dataclass
class _Above:
    """What holds for the claims that follow."""

    billing_npi: str | None = None
    state: str | None = None
    payer: str | None = None
    subscriber: _Person = field(default_factory=_Person)
    patient: _Person | None = None


@dataclass
class _Claim:
    record: dict[str, Any]
    component: str
    rendering: str | None = None
    statement: str | None = None
    line: dict[str, Any] | None = None
    other_payer: bool = False
    entity: str = ""  # of the last NM1, which N4 belongs to


def records(data: bytes) -> Iterator[dict[str, Any] | None]:
    """One record per claim, in order; None for a claim in which the file breaks off.

    Raises NotX12 where there is no interchange, BadInput NOT_AN_837 where it holds no 837P or 837I of version 5010.
    """
    data = b"".join(source.blocks(data, _READ_AT_ONCE))
    found = delimiters.find(data)
    if found is None or found[1] is None:
        raise NotX12("the file is no X12 interchange (no usable ISA segment)")
    start, marks = found[0], found[1]
    kind: str | None = None
    seen = False
    above, claim = _Above(), None
    level = ""
    element, terminator = chr(marks.element), bytes([marks.terminator])
    for raw in data[start:].split(terminator):
        parts = [p.strip() for p in raw.decode("utf-8", "replace").strip().split(element)]
        name = parts[0]
        parts += [""] * (17 - len(parts))
        if name in ("GS", "ST"):
            stated = parts[8] if name == "GS" else parts[3]
            kind = next((t for version, t in _TYPES.items() if stated.startswith(version)), None if stated else kind)
            above = _Above()
        elif name in ("CLM", "HL", "SE"):
            if claim is not None:
                yield _done(claim, above)
                claim = None
            if kind is None:
                continue
            if name == "HL":
                level = parts[3]
                above = _opened(above, level)
            elif name == "CLM":
                seen = True
                claim = _begun(parts, chr(marks.component), kind, above)
        elif claim is not None:
            _read(claim, name, parts, claim.component)
        elif kind is not None:
            _context(above, level, name, parts)
    if claim is not None:
        yield None
    elif not seen:
        raise BadInput("the interchange holds no 837P or 837I claim of version 5010", code="NOT_AN_837")


def _opened(above: _Above, level: str) -> _Above:
    if level == "20":
        return _Above()
    if level == "22":
        return _Above(above.billing_npi, above.state)
    return _Above(above.billing_npi, above.state, above.payer, above.subscriber, _Person())


def _context(above: _Above, level: str, name: str, parts: list[str]) -> None:
    person = above.patient if level == "23" and above.patient else above.subscriber
    if name == "NM1":
        identifier = parts[9] or None
        if parts[1] == "85" and parts[8] == _NPI:
            above.billing_npi = identifier
        elif parts[1] == "PR":
            above.payer = identifier
        elif parts[1] in ("IL", "QC"):
            person.member, person.first = identifier, parts[4] or None
    elif name == "N4" and level == "20":
        above.state = above.state or parts[2] or None
    elif name == "DMG":
        person.birth, person.sex = parts[2] or None, parts[3] or None


def _begun(parts: list[str], component: str, kind: str, above: _Above) -> _Claim:
    stated = _FACILITY.fullmatch(parts[5])
    if stated is not None:  # some senders do not use the separator their ISA16 names
        component = stated[1]
    place = parts[5].split(component)
    person = above.patient or above.subscriber
    member = person.member or above.subscriber.member
    return _Claim(
        {
            "claim_id": parts[1] or None,
            "payer_id": above.payer,
            "practice": above.billing_npi,
            "claim_type": kind,
            "patient": {
                # of one member id the birth date and the first name tell family members apart
                "id": "/".join((member, person.birth or "", (person.first or "").upper())) if member else None,
                "sex": person.sex,
                "age_years": None,
            },
            "place_of_service": place[0] or None,
            "state": above.state,
            "mac": None,
            "billing_npi": above.billing_npi,
            "diagnoses": [],
            "lines": [],
            "authorization": None,
            "referring_npi": None,
        },
        component,
    )


def _read(claim: _Claim, name: str, parts: list[str], component: str) -> None:
    record, line = claim.record, claim.line
    if name == "LX":
        claim.other_payer = False
        claim.line = {"line_item": parts[1], "diagnoses": [], "modifiers": []}
        record["lines"].append(claim.line)
    elif name == "SBR":
        claim.other_payer = True
    elif claim.other_payer:
        return
    elif name == "HI":
        for composite in parts[1:]:
            code = composite.split(component)
            if len(code) > 1 and code[0] in _DIAGNOSES:
                record["diagnoses"].append(code[1])
    elif name == "REF" and parts[1] == "G1":
        record["authorization"] = parts[2] or None
    elif name == "NM1":
        claim.entity = parts[1]
        npi = parts[9] if parts[8] == _NPI and parts[9] else None
        if parts[1] == "DN" and npi and line is None:
            record["referring_npi"] = npi
        elif parts[1] == "82" and npi:
            if line is None:
                claim.rendering = npi
            else:
                line["rendering_npi"] = npi
    elif name == "N4" and claim.entity == "77" and line is None:
        record["state"] = parts[2] or record["state"]
    elif name == "DTP" and parts[1] == "434":
        claim.statement = parts[3].split("-")[0]
    elif line is not None and name in ("SV1", "SV2"):
        _service(line, name, parts, component, record["diagnoses"])
    elif line is not None and name == "DTP" and parts[1] == "472":
        line["date_of_service"] = parts[3].split("-")[0]


def _service(line: dict[str, Any], name: str, parts: list[str], component: str, diagnoses: list[str]) -> None:
    at = 1 if name == "SV1" else 2  # SV201 is the revenue code
    procedure = parts[at].split(component)
    line["code"] = procedure[1] if len(procedure) > 1 else None
    line["modifiers"] = [m for m in procedure[2:6] if m]
    line["charge"], line["units"] = parts[at + 1], parts[at + 3]
    if name == "SV1":
        pointers = [p for p in parts[7].split(component) if p.isascii() and p.isdigit()]
        line["diagnoses"] = [diagnoses[int(p) - 1] for p in pointers if 0 < int(p) <= len(diagnoses)]


def _done(claim: _Claim, above: _Above) -> dict[str, Any]:
    record = claim.record
    for line in record["lines"]:
        line.setdefault("rendering_npi", claim.rendering)
        if claim.statement:
            line.setdefault("date_of_service", claim.statement)
    days = [d for line in record["lines"] if (d := _day(line.get("date_of_service"))) is not None]
    birth = _day((above.patient or above.subscriber).birth)
    if birth and days:
        on = min(days)
        record["patient"]["age_years"] = on.year - birth.year - ((on.month, on.day) < (birth.month, birth.day))
    return record


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text and len(text) == 8 else None
    except ValueError:
        return None
