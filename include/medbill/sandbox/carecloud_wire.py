"""The made-up practice as CareCloud might say it: FHIR R4 resources for billing, v2 REST records for people and visits.

More elements than medbill wants, as on a real service. Ids are UUIDs that follow from the practice's own numbers.
"""

from __future__ import annotations

import uuid
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from medbill.sandbox import notes
from medbill.sandbox.adjudication import decide
from medbill.sandbox.practice import PAYERS, Line, Patient, PracticeData, Visit, money

Record = dict[str, Any]
NUMBER_SYSTEM = "urn:carecloud:claim-number"
NPI = "http://hl7.org/fhir/sid/us-npi"
_CPT = "http://www.ama-assn.org/go/cpt"
_HCPCS = "https://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets"
_ICD = "http://hl7.org/fhir/sid/icd-10-cm"
_POS = "https://www.cms.gov/Medicare/Coding/place-of-service-codes/Place_of_Service_Code_Set"


def id_of(kind: str, number: object) -> str:
    """The id of a resource; the same for FHIR and v2."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"medbill sandbox {kind} {number}"))


def records(data: PracticeData) -> dict[str, list[Record]]:
    """All records by resource, each list in order of change."""
    found: dict[str, list[Record]] = {n: [] for n in ("Claim", "ClaimResponse", "Coverage", "Communication")}
    for visit in data.visits:
        found["Claim"].append(_claim(visit))
        for at, decision in enumerate(d for d in decide(data.seed, visit)[0] if d.day < data.today):
            found["ClaimResponse"].append(_response(visit, at, decision.day))
        found["Communication"] += [_communication(visit, note) for note in notes.of_claim(visit)]
    billed = {visit.patient.id: visit.patient for visit in data.visits}
    found["Coverage"] = [_coverage(patient, data.start) for patient in billed.values()]
    for rows in found.values():
        rows.sort(key=lambda r: (r["meta"]["lastUpdated"], r["id"]))
    return {
        **found,
        "patients": [_patient(patient) for patient in data.patients],
        "appointments": [_appointment(visit) for visit in data.visits],
        "providers": [
            {
                "id": p.id,
                "npi": p.npi,
                "name": f"{p.first_name} {p.last_name}",
                "email": None,
                "phone_number": "5555550100",
                "specialty": {"name": "Family Medicine", "taxonomy": "207Q00000X"},
                "last_name": p.last_name,
                "first_name": p.first_name,
            }
            for p in data.providers
        ],
    }


def _meta(day: date, hour: int = 18) -> Record:
    return {"versionId": "1", "lastUpdated": f"{day.isoformat()}T{hour}:00:00.000+00:00", "source": "#sandbox"}


def _to(kind: str, number: object) -> Record:
    return {"reference": f"{kind}/{id_of(kind, number)}"}


def _whose(patient: Patient) -> Record:
    return {**_to("Patient", patient.id), "display": f"{patient.first_name} {patient.last_name}"}


def _money(cents: int) -> Record:
    return {"value": money(cents), "currency": "USD"}


def _concept(system: str, code: str) -> Record:
    return {"coding": [{"system": system, "code": code, "display": "made up"}], "text": "made up"}


def _claim(visit: Visit) -> Record:
    provider = visit.provider
    return {
        "resourceType": "Claim",
        "id": id_of("Claim", visit.id),
        "meta": _meta(visit.billed_date or visit.service_date),
        "text": {"status": "generated", "div": "<div>made up</div>"},
        "identifier": [
            {"system": "urn:carecloud:internal", "value": f"X{visit.id}"},
            {"system": NUMBER_SYSTEM, "value": str(visit.id)},
        ],
        "status": "active" if visit.billed_date else "draft",
        "type": _concept("http://terminology.hl7.org/CodeSystem/claim-type", "professional"),
        "use": "claim",
        "patient": _whose(visit.patient),
        "billablePeriod": {"start": visit.service_date.isoformat(), "end": visit.service_date.isoformat()},
        "created": (visit.billed_date or visit.service_date).isoformat(),
        "insurer": {
            "identifier": {"system": "urn:carecloud:payer", "value": visit.payer},
            "display": PAYERS[visit.payer].name,
        },
        "provider": {"display": "Pinegrove Family Medicine"},
        "priority": {"coding": [{"code": "normal"}]},
        "careTeam": [
            {
                "sequence": 1,
                "provider": {
                    "reference": f"Practitioner/{provider.id}",
                    "identifier": {"system": NPI, "value": provider.npi},
                    "display": f"{provider.first_name} {provider.last_name}",
                },
            }
        ],
        "diagnosis": [
            {"sequence": n, "diagnosisCodeableConcept": _concept(_ICD, code)}
            for n, code in enumerate(visit.diagnoses, 1)
        ],
        "insurance": [{"sequence": 1, "focal": True, "coverage": _to("Coverage", visit.patient.id)}],
        "item": [_item(visit, n, line) for n, line in enumerate(visit.lines, 1)],
        "total": _money(visit.charge),
    }


def _item(visit: Visit, number: int, line: Line) -> Record:
    system = _CPT if line.code.isdigit() else _HCPCS
    modifiers = {"modifier": [_concept(system, m) for m in line.modifiers]} if line.modifiers else {}
    return {
        "id": str(line.id),
        "sequence": number,
        "careTeamSequence": [1],
        "diagnosisSequence": list(line.pointers),
        "productOrService": _concept(system, line.code),
        **modifiers,
        "servicedDate": visit.service_date.isoformat(),
        "locationCodeableConcept": _concept(_POS, "11"),
        "quantity": {"value": Decimal(line.units)},
        "unitPrice": _money(line.price),
        "net": _money(line.charge),
    }


def _response(visit: Visit, at: int, day: date) -> Record:
    return {
        "resourceType": "ClaimResponse",
        "id": id_of("ClaimResponse", f"{visit.id}-{at}"),
        "meta": _meta(day, 20),
        "status": "active",
        "type": _concept("http://terminology.hl7.org/CodeSystem/claim-type", "professional"),
        "use": "claim",
        "patient": _whose(visit.patient),
        "created": day.isoformat(),
        "insurer": {"display": PAYERS[visit.payer].name},
        "request": _to("Claim", visit.id),
        "outcome": "complete",
        "disposition": "made up",
    }


def _coverage(patient: Patient, day: date) -> Record:
    return {
        "resourceType": "Coverage",
        "id": id_of("Coverage", patient.id),
        "meta": _meta(day, 10),
        "status": "active",
        "subscriberId": patient.member_id,
        "beneficiary": _whose(patient),
        "payor": [{"display": PAYERS[patient.payer].name}],
    }


def _communication(visit: Visit, note: Record) -> Record:
    day = date.fromisoformat(str(note["created_at"])[:10])
    return {
        "resourceType": "Communication",
        "id": id_of("Communication", note["id"]),
        "meta": _meta(day),
        "status": "completed",
        "subject": _whose(visit.patient),
        "about": [_to("Claim", visit.id)],
        "sent": f"{note['created_at']}-05:00",
        "sender": {"display": "Made-up Clerk"},
        "payload": [{"contentString": note["text"]}],
    }


def _patient(patient: Patient) -> Record:
    return {
        "id": id_of("Patient", patient.id),
        "first_name": patient.first_name,
        "last_name": patient.last_name,
        "date_of_birth": patient.birth_date.isoformat(),
        "gender": patient.gender,
        "ssn": "000-00-0000",
        "email": "nobody@sandbox.invalid",
    }


def _appointment(visit: Visit) -> Record:
    hour, minute = divmod(visit.minute, 60)
    end = timedelta(minutes=visit.minute + 15)
    return {
        "id": id_of("Appointment", visit.id),
        "start_time": f"{visit.service_date.isoformat()}T{hour:02}:{minute:02}:00-05:00",
        "end_time": f"{visit.service_date.isoformat()}T{end.seconds // 3600:02}:{end.seconds // 60 % 60:02}:00-05:00",
        "provider_id": visit.provider.id,
        "location_id": 1,
        "visit_reason_id": 1,
        "resource_id": 1,
        "patient_id": id_of("Patient", visit.patient.id),
        "status": "checked_out",
        "comments": notes.of_visit(visit),
    }
