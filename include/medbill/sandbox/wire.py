"""The made-up practice in DrChrono's wire format: field names and types of the vendor's OpenAPI description.

Far more fields than medbill wants, as on the real service, so that what an adapter leaves behind can be tested.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from medbill.sandbox import notes
from medbill.sandbox.adjudication import Decision, decide
from medbill.sandbox.draw import Draw
from medbill.sandbox.practice import PAYERS, PRACTICE_NAME, PRACTICE_TAX_ID, Patient, PracticeData, Visit, money

Record = dict[str, Any]

PRACTICE_GROUP = 4001
OFFICE = 4101
BILLING_USER = 4201
#: Remittances older than this many days are already posted on the platform.
POSTED_AFTER = 21

_HCPCS = frozenset("ABCDEGHJKLMPQRSTV")


def dumps(value: Any) -> str:
    """JSON with exact decimals: a Decimal becomes a JSON number with its own digits."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(str(k))}:{dumps(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(dumps, value)) + "]"
    return json.dumps(value)


def loads(text: str | bytes) -> Any:
    """The reverse of dumps; numbers with a fraction become Decimal."""
    return json.loads(text, parse_float=Decimal)


def records(data: PracticeData) -> dict[str, list[Record]]:
    """All records of the practice by resource name, each list ordered by id."""
    decided = {v.id: [d for d in decide(data.seed, v)[0] if d.day < data.today] for v in data.visits}
    posted_before = data.today - timedelta(days=POSTED_AFTER)
    posted = {visit: [d for d in found if d.day < posted_before] for visit, found in decided.items()}
    appointments: list[Record] = []
    line_items: list[Record] = []
    transactions: list[Record] = []
    for visit in data.visits:
        appointments.append(_appointment(visit, _status(visit, decided[visit.id], posted[visit.id])))
        line_items += _line_items(visit, posted[visit.id], appointments[-1]["ins1_status"])
        transactions += _transactions(visit, posted[visit.id])
    for day in sorted({v.service_date for v in data.visits}):
        appointments += _not_claims(data, day)
    return {
        "appointments": sorted(appointments, key=lambda r: int(r["id"])),
        "line_items": sorted(line_items, key=_id),
        "transactions": sorted(transactions, key=_id),
        "eobs": _eobs([d for found in posted.values() for d in found]),
        "patients": sorted((_patient(p, data) for p in data.patients), key=_id),
        "doctors": [_doctor(p.id, p.npi, p.first_name, p.last_name) for p in data.providers],
        "offices": [_office(data)],
        "users": [_user(data)],
        "insurances": [
            {"id": i, "payer_name": p.name, "payer_id": p.id, "state": "IL"} for i, p in enumerate(PAYERS.values(), 1)
        ],
        "task_categories": [
            _named(4301, "Billing", {"is_global": "false"}),
            _named(4302, "Clinical", {"is_global": "false"}),
        ],
        "task_statuses": [
            _named(4401, "Open", {"status_category": "O", "task_category": 4301}),
            _named(4402, "In Progress", {"status_category": "P", "task_category": 4301}),
            _named(4403, "Complete", {"status_category": "C", "task_category": 4301}),
        ],
        "tasks": [],
        "task_notes": [],
        "claim_billing_notes": sorted((n for v in data.visits for n in notes.of_claim(v)), key=_id),
    }


def summary(patient: Record) -> Record:
    """What /api/patients_summary gives of a patient (our guess of the vendor's cut)."""
    names = ("id", "chart_id", "first_name", "middle_name", "last_name", "date_of_birth", "gender", "doctor")
    return {name: patient[name] for name in names} | {"updated_at": patient["updated_at"]}


def _id(record: Record) -> int:
    return int(record["id"])


def _stamp(day: date, minute: int = 18 * 60) -> str:
    return f"{day.isoformat()}T{minute // 60:02d}:{minute % 60:02d}:00"


def _named(number: int, name: str, more: Record) -> Record:
    stamps = {"created_at": "2025-01-02T09:00:00", "updated_at": "2025-01-02T09:00:00"}
    return {"id": number, "name": name, "archived": False, "practice_group": PRACTICE_GROUP, **stamps, **more}


def _status(visit: Visit, decided: list[Decision], posted: list[Decision]) -> str:
    if visit.billed_date is None:
        return ""
    if posted:
        last = posted[-1]
        if last.kind == "denied":
            return "ERA Denied"
        return "Paid in Full" if last.patient_responsibility == 0 else "ERA Received"
    return "Payer Acknowledged" if decided else "In Process Payer"


def _appointment(visit: Visit, status: str) -> Record:
    patient = visit.patient
    secondary = PAYERS[patient.secondary] if patient.secondary else None
    updated = visit.billed_date or visit.service_date
    return {
        "id": str(visit.id),
        "allow_overlapping": False,
        "appt_is_break": False,
        "base_recurring_appointment": None,
        "billing_notes": [],
        "billing_provider": str(visit.provider.id),
        "billing_status": "Bill Insurance" if visit.billed_date else "",
        "cloned_from": None,
        "color": "#77DD77",
        "created_at": _stamp(visit.service_date - timedelta(days=6)),
        "created_by": str(BILLING_USER),
        "custom_status": None,
        "deleted_flag": False,
        "doctor": visit.provider.id,
        "duration": 20,
        "exam_room": 1 + visit.minute // 15 % 3,
        "first_billed_date": _stamp(visit.billed_date) if visit.billed_date else None,
        "first_edi_date": _stamp(visit.billed_date) if visit.billed_date else None,
        "icd9_codes": [],
        "icd10_codes": list(visit.diagnoses),
        "ins1_status": status,
        "ins2_status": "",
        "is_virtual_base": False,
        "is_walk_in": False,
        "last_billed_date": _stamp(visit.billed_date) if visit.billed_date else None,
        "last_edi_date": None,
        "notes": notes.of_visit(visit),
        "office": OFFICE,
        "patient": patient.id,
        "payment_profile": "Insurance",
        "primary_insurance_id_number": patient.member_id,
        "primary_insurer_name": PAYERS[visit.payer].name,
        "primary_insurer_payer_id": visit.payer,
        "profile": None,
        "reason": "Follow-up as discussed",
        "recurring_appointment": False,
        "resubmit_claim_original_id": None,
        "scheduled_time": _stamp(visit.service_date, visit.minute),
        "secondary_insurance_id_number": patient.secondary_member_id or "",
        "secondary_insurer_name": secondary.name if secondary else "",
        "secondary_insurer_payer_id": secondary.id if secondary else "",
        "status": "Complete",
        "supervising_provider": None,
        "updated_at": _stamp(updated),
    }


def _not_claims(data: PracticeData, day: date) -> list[Record]:
    """A cancelled visit and a break of each day: in the calendar, but never billed."""
    number = 300_000_000 + (day.toordinal() - 730_000) * 10_000
    draw = Draw(data.seed, "calendar", day)
    base = _appointment(data.visits[0], "")
    shared: Record = {
        "billing_status": "",
        "first_billed_date": None,
        "last_billed_date": None,
        "first_edi_date": None,
        "icd10_codes": [],
        "created_at": _stamp(day - timedelta(days=6)),
        "updated_at": _stamp(day),
        "doctor": draw.choice(data.providers).id,
    }
    insured = {
        "primary_insurance_id_number": "",
        "primary_insurer_name": "",
        "primary_insurer_payer_id": "",
        "secondary_insurance_id_number": "",
        "secondary_insurer_name": "",
        "secondary_insurer_payer_id": "",
    }
    cancelled = base | shared | insured | {
        "id": str(number + 9100),
        "patient": draw.choice(data.patients).id,
        "status": "Cancelled",
        "notes": "",
        "scheduled_time": _stamp(day, 16 * 60),
    }  # fmt: skip
    pause = base | shared | insured | {
        "id": str(number + 9101),
        "patient": None,
        "status": "",
        "appt_is_break": True,
        "notes": "",
        "scheduled_time": _stamp(day, 12 * 60),
    }  # fmt: skip
    return [cancelled, pause]


def _line_items(visit: Visit, posted: list[Decision], status: str) -> list[Record]:
    found = []
    for line in visit.lines:
        answers = [x for d in posted for x in d.lines if x.line.id == line.id]
        paid = money(sum(x.paid for x in answers))
        taken = money(sum(a.amount for x in answers for a in x.adjustments if a.group != "PR"))
        billed = money(line.charge)
        balance = billed - paid - taken
        pointers = [str(p) for p in line.pointers]
        found.append(
            {
                "id": line.id,
                "adjustment": taken,
                "allowed": money(next((x.allowed for x in reversed(answers) if x.allowed), 0)),
                "appointment": visit.id,
                "balance_ins": Decimal("0.00") if answers else balance,
                "balance_pt": balance if answers else Decimal("0.00"),
                "balance_total": str(balance),
                "billed": billed,
                "billing_status": status,
                "code": line.code,
                "denied_flag": status == "ERA Denied",
                "description": "",
                "diagnosis_pointers": pointers + [""] * (4 - len(pointers)),
                "doctor": str(visit.provider.id),
                "expected_reimbursement": Decimal("0.00"),
                "ins1_paid": paid,
                "ins2_paid": Decimal("0.00"),
                "ins3_paid": Decimal("0.00"),
                "ins_total": str(paid),
                "insurance_status": "",
                "modifiers": list(line.modifiers) + [""] * (4 - len(line.modifiers)),
                "paid_total": str(paid),
                "patient": str(visit.patient.id),
                "posted_date": _stamp(visit.service_date),
                "price": money(line.price),
                "procedure_type": "H" if line.code[0] in _HCPCS else "C",
                "pt_paid": Decimal("0.00"),
                "quantity": Decimal(line.units).quantize(Decimal("0.1")),
                "service_date": visit.service_date.isoformat(),
                "units": "UN",
                "updated_at": _stamp(visit.billed_date or visit.service_date),
            }
        )
    return found


def _transactions(visit: Visit, posted: list[Decision]) -> list[Record]:
    found: list[Record] = []
    for decision in posted:
        entries = [(x.line, x.paid, list(x.adjustments)) for x in decision.lines] or [
            (visit.lines[0], 0, list(decision.adjustments))
        ]
        for line, paid, adjustments in entries:
            for k, adjustment in enumerate(adjustments or [None]):
                found.append(
                    {
                        "id": 20_000_000_000 + (visit.lines[0].id - 7_000_000_000) * 100 + len(found),
                        "adjustment": money(adjustment.amount if adjustment else 0),
                        "adjustment_group_code": adjustment.group if adjustment else "",
                        "adjustment_reason": adjustment.reason if adjustment else "",
                        "appointment": visit.id,
                        "check_date": decision.day.isoformat(),
                        "claim_status": decision.status,
                        "created_at": _stamp(decision.day),
                        "doctor": visit.provider.id,
                        "ins_name": 2 if decision.kind == "secondary" else 1,
                        "ins_paid": money(paid if k == 0 else 0),
                        "insurance": {
                            "id_number": visit.patient.member_id,
                            "message": "",
                            "name": PAYERS[decision.payer].name,
                        },
                        "line_item": line.id,
                        "patient": visit.patient.id,
                        "posted_date": decision.day.isoformat(),
                        "trace_number": "",
                        "updated_at": _stamp(decision.day),
                    }
                )
    return found


def _eobs(posted: Iterable[Decision]) -> list[Record]:
    totals: dict[tuple[date, str], int] = {}
    for decision in posted:
        key = (decision.day, decision.payer)
        totals[key] = totals.get(key, 0) + decision.paid
    return [
        {
            "id": day.toordinal() * 10 + list(PAYERS).index(payer),
            "check_date": day.isoformat(),
            "deposit_date": day.isoformat(),
            "doctor": 7001,
            "insurance_payer_id": payer,
            "insurance_payer_name": PAYERS[payer].name,
            "insurance_payer_trace_number": f"{day:%y%m%d}{list(PAYERS).index(payer)}",
            "payment_method": "ACH",
            "posted_date": day.isoformat(),
            "scanned_eob": None,
            "total_paid": money(total),
            "updated_at": _stamp(day),
        }
        for (day, payer), total in sorted(totals.items())
    ]


def _patient(patient: Patient, data: PracticeData) -> Record:
    draw = Draw(data.seed, "demographics", patient.id)
    street, phone = f"{draw.between(1, 99)} Sandbox Lane", f"(555) 555-01{draw.between(0, 99):02d}"
    first, last = patient.first_name, patient.last_name

    def insurance(payer: str | None, member: str | None) -> Record:
        if payer is None:
            return {"insurance_company": "", "insurance_id_number": "", "insurance_plan_name": ""}
        return {
            "insurance_company": PAYERS[payer].name,
            "insurance_group_name": "Sandbox Employers",
            "insurance_id_number": member,
            "insurance_payer_id": payer,
            "insurance_plan_name": "Standard",
            "is_subscriber_the_patient": True,
            "patient_relationship_to_subscriber": "",
            "subscriber_first_name": first,
            "subscriber_last_name": last,
            "subscriber_social_security": f"000-00-{draw.between(1000, 9999)}",
        }

    return {
        "id": patient.id,
        "address": street,
        "cell_phone": phone,
        "chart_id": f"{last[:2].upper()}{first[:2].upper()}{patient.id % 1_000_000:06d}",
        "city": "Springfield",
        "copay": "",
        "created_at": "2025-01-02T09:00:00",
        "custom_demographics": [],
        "date_of_birth": patient.birth_date.isoformat(),
        "date_of_first_appointment": None,
        "date_of_last_appointment": None,
        "default_pharmacy": "",
        "disable_sms_messages": False,
        "doctor": 7001,
        "email": f"{first}.{last}@example.invalid".lower(),
        "emergency_contact_name": f"Contact of {last}",
        "emergency_contact_phone": phone,
        "employer": "Sandbox Employers",
        "ethnicity": "blank",
        "first_name": first,
        "gender": patient.gender,
        "home_phone": phone,
        "last_name": last,
        "middle_name": "",
        "nick_name": "",
        "offices": [OFFICE],
        "patient_payment_profile": "Insurance",
        "patient_photo": None,
        "patient_status": "A",
        "preferred_language": "eng",
        "primary_insurance": insurance(patient.payer, patient.member_id),
        "race": "blank",
        "responsible_party_name": f"{first} {last}",
        "secondary_insurance": insurance(patient.secondary, patient.secondary_member_id),
        "social_security_number": f"000-12-{draw.between(1000, 9999)}",
        "state": "IL",
        "updated_at": "2025-06-02T09:00:00",
        "zip_code": "62702",
    }


def _doctor(number: int, npi_number: str, first: str, last: str) -> Record:
    return {
        "id": number,
        "cell_phone": "",
        "country": "US",
        "email": f"{last}@example.invalid".lower(),
        "first_name": first,
        "group_npi_number": "",
        "home_phone": "",
        "is_account_suspended": False,
        "job_title": "Provider/Staff (Private Practice)",
        "last_name": last,
        "npi_number": npi_number,
        "office_phone": "(555) 555-0100",
        "practice_group": str(PRACTICE_GROUP),
        "practice_group_name": PRACTICE_NAME,
        "profile_picture": None,
        "specialty": "Family Practitioner",
        "suffix": "",
        "timezone": "US/Central",
        "website": "",
    }


def _office(data: PracticeData) -> Record:
    return {
        "id": OFFICE,
        "address": "12 Shore Road",
        "archived": False,
        "city": "Springfield",
        "country": "US",
        "doctor": str(data.providers[0].id),
        "name": PRACTICE_NAME,
        "phone_number": "(555) 555-0100",
        "state": "IL",
        "tax_id_number_professional": PRACTICE_TAX_ID,
        "zip_code": "62702",
    }


def _user(data: PracticeData) -> Record:
    return {
        "id": str(BILLING_USER),
        "doctor": str(data.providers[0].id),
        "is_doctor": "false",
        "is_staff": "true",
        "permissions": {},
        "practice_group": str(PRACTICE_GROUP),
        "username": "billing-service",
    }
