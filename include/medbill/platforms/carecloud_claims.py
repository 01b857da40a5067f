"""FHIR R4 claims, responses, coverages and communications as rows of the neutral model; nothing here calls anybody.

One Claim with use `claim` is one claim, one item one service line. What cannot be read, and what points at another patient,
stops its claim and is counted by reason; codes of value sets we do not know leave their column empty and are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from medbill.model.claims import NOTES
from medbill.platforms import values
from medbill.platforms.base import is_reference
from medbill.platforms.carecloud_fhir import changed_at, target
from medbill.platforms.values import Unreadable

PLATFORM = "carecloud"
#: http://hl7.org/fhir/R4/valueset-fm-status.html; the first is billed, the others are not.
ACTIVE = "active"
NOT_BILLED = frozenset({"cancelled", "draft", "entered-in-error"})
#: http://hl7.org/fhir/R4/valueset-remittance-outcome.html
OUTCOMES = frozenset({"queued", "complete", "error", "partial"})
_OTHER_USES = frozenset({"preauthorization", "predetermination"})
NPI = "http://hl7.org/fhir/sid/us-npi"
#: Where procedure codes may come from: CPT and HCPCS Level II, by their two addresses.
PROCEDURES = frozenset(
    {
        "http://www.ama-assn.org/go/cpt",
        "https://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets",
        "http://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets",
        "urn:oid:2.16.840.1.113883.6.285",
    }
)
DIAGNOSES = frozenset({"http://hl7.org/fhir/sid/icd-10-cm", "http://hl7.org/fhir/sid/icd-10"})

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Billed:
    """A claim of the window, as far as it must be known to ask for the rest. number: what the practice sends as CLM01."""

    number: str
    id: str
    patient: str
    day: date
    record: Record


def billed(
    records: Iterable[Record], system: str, start: date, end: date, refused: Counter[str], unknown: Counter[str]
) -> dict[str, Billed]:
    """The billed claims of service dates start..end by number. system: of the identifier that is the number."""
    found: dict[str, Billed] = {}
    of_two: set[str] = set()
    for record in records:
        if _str(record.get("use")) in _OTHER_USES or _str(record.get("status")) in NOT_BILLED:
            continue  # preauthorizations and what was never billed
        try:
            if record.get("use", "claim") != "claim":
                raise Unreadable("CLAIM_USE")
            day = _service_day(record)
            if not start <= day <= end:
                continue
            claim = _billed(record, system, day)
        except Unreadable as error:
            refused[error.reason] += 1
            continue
        if record.get("status") != ACTIVE:
            unknown["Claim.status"] += 1
        other = found.get(claim.number)
        if other is None:
            found[claim.number] = claim
        elif other.patient != claim.patient:
            of_two.add(claim.number)
            refused["CLAIM_NUMBER_OF_TWO_PATIENTS"] += 1
        else:  # a replacement carries the number of what it replaces
            refused["CLAIM_REPLACED"] += 1
            found[claim.number] = max(other, claim, key=lambda c: (changed_at(c.record), c.id))
    for number in of_two:
        del found[number]
        refused["CLAIM_NUMBER_OF_TWO_PATIENTS"] += 1
    return found


def _billed(record: Record, system: str, day: date) -> Billed:
    numbers = {_str(i.get("value")) for i in _all(record, "identifier") if i.get("system") == system} - {None}
    patient = target(_at(record, "patient", "reference"), "Patient")
    id, number = _str(record.get("id")), numbers.pop() if len(numbers) == 1 else None
    if id is None:
        raise Unreadable("CLAIM_WITHOUT_ID")
    if number is None:
        raise Unreadable("CLAIM_NUMBER")
    if patient is None:
        raise Unreadable("CLAIM_WITHOUT_PATIENT")
    return Billed(number, id, patient, day, record)


def _service_day(record: Record) -> date:
    written = [_at(record, "billablePeriod", "start")]
    if not written[0]:
        written = [i.get("servicedDate") or _at(i, "servicedPeriod", "start") for i in _all(record, "item")]
    days = [day for value in written if (day := values.day(value, "SERVICE_DATE"))]
    if not days:
        raise Unreadable("SERVICE_DATE")
    return min(days)


def coverage_of(record: Record) -> Any:
    """The reference to the coverage a claim is billed to: the focal one, else the first."""
    insurances = _all(record, "insurance")
    chosen = next((i for i in insurances if i.get("focal") is True), insurances[0] if insurances else {})
    return _at(chosen, "coverage", "reference")


def contained(record: Record, reference: Any) -> Record | None:
    """The resource inside of a claim that "#id" points at."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    return next((r for r in _all(record, "contained") if r.get("id") == reference[1:]), None)


def responses_by_claim(responses: Iterable[Record]) -> dict[str, Record]:
    """The latest response to each claim's id that is in force."""
    found: dict[str, Record] = {}
    for response in responses:
        claim = target(_at(response, "request", "reference"), "Claim")
        if claim is None or _str(response.get("status")) in NOT_BILLED:
            continue
        other = found.get(claim)
        if other is None or _order(other) < _order(response):
            found[claim] = response
    return found


def _order(record: Record) -> tuple[Any, str]:
    return changed_at(record), str(record.get("id"))


def claim_rows(
    claim: Billed,
    patient: Record | None,
    coverages: Mapping[str, Record],
    response: Record | None,
    npis: Mapping[str, str],
    unknown: Counter[str],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A claim and its lines. Raises Unreadable."""
    record = claim.record
    if patient is None:
        raise Unreadable("PATIENT_NOT_FOUND")
    strange: Counter[str] = Counter()
    member, authorization = _member(claim, coverages), _authorization(record)
    status = record.get("status") if record.get("status") == ACTIVE else None
    if response is not None:
        if target(_at(response, "patient", "reference"), "Patient") != claim.patient:
            raise Unreadable("RESPONSE_OF_ANOTHER_PATIENT")
        outcome = _str(response.get("outcome"))
        status = outcome if outcome in OUTCOMES else None
        strange["ClaimResponse.outcome"] += status is None and response.get("outcome") is not None
        authorization = authorization or _str(response.get("preAuthRef"))
    lines = _lines(claim, strange)
    charge = sum((line["charge"] for line in lines), Decimal("0.00"))
    total = _dollars(record.get("total"), "CLAIM_TOTAL")
    if total is not None and total != charge:
        raise Unreadable("CLAIM_TOTAL")
    row = {
        "claim_id": claim.number,
        "platform": PLATFORM,
        "patient_id": claim.patient,
        "patient_last_name": values.text(patient.get("last_name")),
        "patient_first_name": values.text(patient.get("first_name")),
        "patient_birth_date": values.day(patient.get("date_of_birth"), "PATIENT_BIRTH_DATE"),
        "member_id": member,
        "payer_id": _str(_at(record, "insurer", "identifier", "value")),
        "payer_name": _str(_at(record, "insurer", "display")),
        "rendering_npi": _npi(record, npis),
        "place_of_service": _place(record),
        "service_date": claim.day,
        "billed_date": values.day(record.get("created"), "BILLED_DATE"),
        "authorization_number": authorization,
        "billing_status": status,
        "charge": charge,
    }
    unknown.update({name: times for name, times in strange.items() if times})
    return row, lines


def _member(claim: Billed, coverages: Mapping[str, Record]) -> str | None:
    reference = coverage_of(claim.record)
    if not reference:
        return None
    inside = contained(claim.record, reference)
    coverage = inside or coverages.get(target(reference, "Coverage") or "")
    if coverage is None:
        return None  # not asked for, or not there any more
    # a contained coverage may leave out whose it is: it lies in the claim of one patient
    beneficiary = _at(coverage, "beneficiary", "reference")
    if (beneficiary or inside is None) and target(beneficiary, "Patient") != claim.patient:
        raise Unreadable("COVERAGE_OF_ANOTHER_PATIENT")
    return _str(coverage.get("subscriberId"))


def _authorization(record: Record) -> str | None:
    for insurance in _all(record, "insurance"):
        if numbers := [number for n in _list(insurance.get("preAuthRef")) if (number := _str(n))]:
            return numbers[0]
    return None


def _lines(claim: Billed, strange: Counter[str]) -> list[dict[str, Any]]:
    items = _all(claim.record, "item")
    if not items:
        raise Unreadable("CLAIM_WITHOUT_LINES")
    ordered = sorted(items, key=_sequence)
    if len({_sequence(i) for i in items}) != len(items):
        raise Unreadable("LINE_SEQUENCE")
    diagnoses = {_sequence(d): d for d in _all(claim.record, "diagnosis")}
    rows = [_line(claim.number, number, item, diagnoses, strange) for number, item in enumerate(ordered, 1)]
    if len({row["line_id"] for row in rows}) != len(rows):
        raise Unreadable("LINE_ID")
    return rows


def _line(number: str, at: int, item: Record, diagnoses: Mapping[int, Record], strange: Counter[str]) -> dict[str, Any]:
    units = values.decimal(_at(item, "quantity", "value"), "LINE_QUANTITY")
    charge = _dollars(item.get("net"), "LINE_CHARGE")
    if charge is None:
        price = _dollars(item.get("unitPrice"), "LINE_CHARGE")
        if price is None or units is None:
            raise Unreadable("LINE_CHARGE")
        charge = values.money(price * units, "LINE_CHARGE")
    procedure = _code(_at(item, "productOrService", "coding"), PROCEDURES)
    strange["Claim.item.productOrService"] += procedure is None
    codes = []
    for pointer in _list(item.get("diagnosisSequence")):
        if not isinstance(pointer, int) or pointer not in diagnoses:
            raise Unreadable("DIAGNOSIS_SEQUENCE")
        code = _code(_at(diagnoses[pointer], "diagnosisCodeableConcept", "coding"), DIAGNOSES)
        strange["Claim.diagnosis"] += code is None
        codes += [code] if code else []
    modifiers = [_code(m.get("coding"), None) for m in _all(item, "modifier")]
    return {
        "claim_id": number,
        # the id of the element, for what the practice sends as REF*6R
        "line_id": _str(item.get("id")) or f"{number}-{_sequence(item)}",
        "line_number": at,
        "procedure_code": procedure,
        "modifiers": [m for m in modifiers if m],
        "units": units,
        "charge": charge,
        "diagnosis_codes": codes,
    }


def _dollars(amount: Any, reason: str) -> Decimal | None:
    """A Money, exact; None where there is none. Another currency is refused: nothing here is converted."""
    if amount is None:
        return None
    if not isinstance(amount, dict) or isinstance(amount.get("value"), bool):
        raise Unreadable(reason)
    if amount.get("currency", "USD") != "USD":
        raise Unreadable("CURRENCY")
    return values.money(amount.get("value"), reason)


def _code(coding: Any, systems: frozenset[str] | None) -> str | None:
    """The first code of one of the systems; a coding that names no system is taken for one."""
    for one in _dicts(coding):
        code, system = _str(one.get("code")), one.get("system")
        if code and (systems is None or system is None or _str(system) in systems):
            return code
    return None


def _npi(record: Record, npis: Mapping[str, str]) -> str | None:
    provider = rendering(record)
    identifier = _at(provider, "identifier") or {}
    if isinstance(identifier, dict) and identifier.get("system") == NPI and _str(identifier.get("value")):
        return _str(identifier["value"])
    return npis.get(target(_at(provider, "reference"), "Practitioner") or "")


def rendering(record: Record) -> Record:
    """Who rendered the first line: by its care team sequence, else the first of the team."""
    team = _all(record, "careTeam")
    items = sorted(_all(record, "item"), key=_sequence)
    pointers = _list(items[0].get("careTeamSequence")) if items else []
    chosen = next((m for m in team if pointers and m.get("sequence") == pointers[0]), team[0] if team else {})
    provider = chosen.get("provider")
    return provider if isinstance(provider, dict) else {}


def _place(record: Record) -> str | None:
    items = sorted(_all(record, "item"), key=_sequence)
    return _code(_at(items[0], "locationCodeableConcept", "coding"), None) if items else None


def communication_notes(
    claims: Mapping[str, Mapping[str, Any]], communications: Iterable[Record], refused: Counter[str]
) -> list[dict[str, Any]]:
    """What people wrote about claims (by claim resource id); what medbill wrote itself is left out."""
    found = []
    for record in communications:
        about = [id for a in _all(record, "about") if (id := target(a.get("reference"), "Claim")) in claims]
        if not about or record.get("status") == "entered-in-error":
            continue
        claim = claims[str(about[0])]
        text = "\n".join(text for p in _all(record, "payload") if (text := _str(p.get("contentString"))))
        if not text.strip() or any(is_reference(line) for line in text.splitlines()):
            continue
        if not record.get("id"):
            refused["NOTE_WITHOUT_ID"] += 1
        elif target(_at(record, "subject", "reference"), "Patient") != claim["patient_id"]:
            refused["NOTE_OF_ANOTHER_PATIENT"] += 1
        else:
            found.append(_note(claim, str(record["id"]), "billing", _written(record.get("sent")), text))
    return found


def appointment_notes(claims: Sequence[Mapping[str, Any]], appointments: Iterable[Record]) -> list[dict[str, Any]]:
    """Comments on visits, with the first claim of their patient and day: appointments do not say which claim is theirs."""
    of_visit: dict[tuple[str, date], Mapping[str, Any]] = {}
    for claim in sorted(claims, key=lambda c: str(c["claim_id"])):
        of_visit.setdefault((claim["patient_id"], claim["service_date"]), claim)
    found = []
    for record in appointments:
        text, day = values.text(record.get("comments")), _written(record.get("start_time"))
        visit = of_visit.get((str(record.get("patient_id")), day)) if day else None
        if visit and text and text.strip() and record.get("status") != "cancelled":
            found.append(_note(visit, str(record["id"]), "appointment", day, text))
    return found


def _note(claim: Mapping[str, Any], note_id: str, kind: str, written_on: date | None, text: str) -> dict[str, Any]:
    of_claim = {name: claim[name] for name in NOTES.names if name in claim}
    return {**of_claim, "note_id": note_id, "note_type": kind, "written_on": written_on, "text": text}


def _written(value: Any) -> date | None:
    try:
        return values.day(value, "NOTE_DATE")
    except Unreadable:
        return None


def _str(value: Any) -> str | None:
    """A string that is not empty; None for anything else, as FHIR writes codes, ids and texts."""
    return value if isinstance(value, str) and value else None


def _sequence(record: Record) -> int:
    found = record.get("sequence")
    if not isinstance(found, int) or isinstance(found, bool):
        raise Unreadable("LINE_SEQUENCE")
    return found


def _at(record: Any, *names: str) -> Any:
    """A value some levels down; None where the way ends."""
    for name in names:
        if not isinstance(record, dict):
            return None
        record = record.get(name)
    return record


def _all(record: Record, name: str) -> list[dict[str, Any]]:
    return _dicts(record.get(name))


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
