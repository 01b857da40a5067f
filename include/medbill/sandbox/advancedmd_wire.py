"""The made-up practice as AdvancedMD's XMLRPC service would say it in JSON: attributes keyed "@", every value text.

Names of elements and attributes are those seen in others' client code. Lists are lists here; the server makes an object of
one and null of none. Far more fields than medbill wants, as on the real service.
"""

from __future__ import annotations

from datetime import date
from typing import Any

from medbill.sandbox import notes
from medbill.sandbox.draw import Draw
from medbill.sandbox.practice import PAYERS, Line, Patient, PracticeData, Provider, Visit, money

Row = dict[str, Any]
NOTE_TYPES = (("1", "General"), ("2", "Billing"), ("3", "Clinical"))
#: A visit nobody came to, one a weekday: no charge, and last changed when it was booked.
_BOOKED_ONLY = 8_000


def records(data: PracticeData) -> dict[str, list[Row]]:
    """Visits with their charges, the charges' details, and patients, each in order of id."""
    visits = [_visit(v) for v in data.visits] + [
        _no_show(data, d) for d in sorted({v.service_date for v in data.visits})
    ]
    return {
        "visits": sorted(visits, key=lambda v: int(v["@id"])),
        "charge_details": [_detail(v, line) for v in data.visits for line in v.lines],
        "patients": [_patient(p) for p in sorted(data.patients, key=lambda p: p.id)],
    }


def npis(data: PracticeData) -> dict[str, str]:
    """Number of a provider's profile -> NPI, as an office would write it into the connection."""
    return {str(p.id): p.npi for p in data.providers}


def carriers() -> list[Row]:
    return [{"@id": f"col{n}", "@name": p.name, "@code": p.id} for n, p in enumerate(PAYERS.values(), 1)]


def us(day: date | None) -> str:
    return f"{day.month}/{day.day}/{day.year}" if day else ""


def _carrier(payer: str) -> str:
    return f"col{list(PAYERS).index(payer) + 1}"


def _booked(patient: Patient, provider: Provider, day: date) -> Row:
    return {
        "@date": us(day),
        "@duration": "15",
        "@color": "0",
        "@patientid": f"pat{patient.id}",
        "@profileid": f"prof{provider.id}",
        "@provider": f"{provider.last_name.upper()},{provider.first_name.upper()}",
        "@facilityid": "fac1",
        "@columnheading": "OFFICE",
        "patient": {
            "@id": f"pat{patient.id}",
            "@name": f"{patient.last_name},{patient.first_name}",
            "@chart": f"C{patient.id}",
        },
        "insurance": {"@carname": PAYERS[patient.payer].name, "@carcode": patient.payer},
    }


def _visit(visit: Visit) -> Row:
    changed = visit.billed_date or visit.service_date
    return {
        "@id": str(visit.id),
        **_booked(visit.patient, visit.provider, visit.service_date),
        "@starttime": f"{(visit.minute // 60 - 1) % 12 + 1}:{visit.minute % 60:02d} {'AM' if visit.minute < 720 else 'PM'}",
        "@lastupdated": f"{us(changed)} 6:00 PM",
        "@apptstatus": "4",
        "@reason": notes.of_visit(visit),
        "chargelist": {
            "charge": [
                {
                    "@id": str(line.id),
                    "@proccode": line.code,
                    "@diagcode": visit.diagnoses[line.pointers[0] - 1],
                    "@amount": f"{money(line.charge)}",
                    "@units": str(line.units),
                }
                for line in visit.lines
            ]
        },
    }


def _no_show(data: PracticeData, day: date) -> Row:
    draw = Draw(data.seed, "no show", day)
    row = _booked(draw.choice(data.patients), draw.choice(data.providers), day)
    number = 300_000_000 + (day.toordinal() - 730_000) * 10_000 + _BOOKED_ONLY
    booked_on = date.fromordinal(day.toordinal() - draw.between(5, 60))
    more = {"@id": str(number), "@starttime": "4:45 PM", "@lastupdated": f"{us(booked_on)} 10:30 AM"}
    return {**row, **more, "@apptstatus": "7", "@reason": "", "chargelist": {"charge": []}}


def _detail(visit: Visit, line: Line) -> Row:
    fee = f"{money(line.charge)}"
    return {
        "@id": str(line.id),
        "@createtime": f"{us(visit.service_date)} 5:30 PM",
        "@begindate": us(visit.service_date),
        "@enddate": us(visit.service_date),
        "@proccode": line.code,
        "@diagcodes": ",".join(visit.diagnoses[p - 1] for p in line.pointers),
        "@modcodes": ",".join(line.modifiers),
        "@batchnumber": f"B{visit.service_date:%y%m%d}",
        "@finclasscode": "COMM",
        "@billins": "1",
        "@insbilled": "1" if visit.billed_date else "0",
        "@void": "0",
        "@protected": "0",
        "@fee": fee,
        "@paid": "0.00",
        "@insbalance": fee,
        "@patbalance": "0.00",
        "@totalvisitcharges": f"{money(visit.charge)}",
        # where the history finds it again
        "@visit": str(visit.id),
        "@patientid": f"pat{visit.patient.id}",
    }


def _patient(patient: Patient) -> Row:
    plans = [(patient.payer, patient.member_id), (patient.secondary, patient.secondary_member_id)]
    return {
        "@id": f"pat{patient.id}",
        "@chart": f"C{patient.id}",
        "@name": f"{patient.last_name},{patient.first_name}",
        "@firstname": patient.first_name,
        "@lastname": patient.last_name,
        "@ssn": "000-00-0000",
        "@dob": us(patient.birth_date),
        "@sex": patient.gender[:1],
        "address": {"@address1": "1 Made-up Way", "@city": "Evanston", "@state": "IL", "@zip": "60201"},
        "contactinfo": {"@homephone": "555-555-0100", "@email": f"p{patient.id}@example.invalid"},
        "insplanlist": {
            "insplan": [
                {
                    "@id": f"ins{patient.id}{n}",
                    "@carrier": _carrier(payer),
                    "@subscriber": f"pat{patient.id}",
                    "@subscribernum": member,
                }
                for n, (payer, member) in enumerate(plans, 1)
                if payer
            ]
        },
    }
