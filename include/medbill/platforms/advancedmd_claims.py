"""AdvancedMD's visits, charges and patients as rows of the neutral model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from medbill.errors import PlatformError
from medbill.model.claims import NOTES
from medbill.platforms import ppmd, values
from medbill.platforms.advancedmd_profile import PLATFORM
from medbill.platforms.base import is_reference
from medbill.platforms.values import Unreadable

_US_DATE = ("%m/%d/%Y",)
_CODES = re.compile(r"[,;|\s]+")
#: insbilled of a charge -> billing_status; another value leaves it empty and is counted.
_BILLED = {"0": "Not billed", "1": "Billed"}


@dataclass
class Visit:
    record: dict[str, str]
    charges: list[dict[str, str]]


@dataclass
class Read:
    """visits: by number. nameless: the patients of rows without an id. refused: rows left out, by reason."""

    visits: dict[str, Visit] = field(default_factory=dict)
    nameless: set[str] = field(default_factory=set)
    refused: Counter[str] = field(default_factory=Counter)


class Changed(Exception):
    """A charge is not the same in two answers."""


@dataclass(frozen=True)
class Plan:
    name: str = ""
    code: str = ""
    member: str = ""

    @staticmethod
    def of(plan: Mapping[str, str], carrier: Mapping[str, str]) -> Plan:
        return Plan(carrier.get("name", ""), carrier.get("code", ""), plan.get("subscribernum", ""))


@dataclass(frozen=True)
class Patient:
    record: Mapping[str, str]
    plans: Sequence[Plan]
    node: Mapping[str, Any]

    def plan(self, code: str, name: str) -> Plan:
        """The plan a visit is booked on; without a booking the patient's first one. A booking that is none of the
        patient's plans keeps its payer and has no member id."""
        if not code and not name:
            return self.plans[0] if self.plans else Plan()
        for plan in self.plans:
            if (code and plan.code == code) or (not code and plan.name == name):
                return plan
        return Plan(name, code)


def check_names(action: str, rows: Sequence[Mapping[str, str]], needed: Iterable[str]) -> None:
    lost = [name for name in sorted(needed) if rows and all(name not in row for row in rows)]
    if lost:
        raise PlatformError(f"ppmdmsg {action} answered without {', '.join(lost)}", code="PLATFORM_BAD_ANSWER")


def us_date(day: date) -> str:
    return f"{day.month}/{day.day}/{day.year}"


def day_of(value: str | None, reason: str) -> date | None:
    return values.day(value, reason, _US_DATE)


def changed_at(record: Mapping[str, str]) -> datetime:
    try:
        return datetime.strptime(record.get("lastupdated", ""), "%m/%d/%Y %I:%M %p")  # noqa: DTZ007
    except ValueError:
        return datetime.min  # noqa: DTZ901


def line_row(
    claim_id: str, number: int, key: str, charge: Mapping[str, str], detail: Mapping[str, str]
) -> dict[str, Any]:
    """Raises Changed where the visit and the charge's own record do not speak of the same charge."""
    units = values.decimal(charge.get("units"), "LINE_QUANTITY")
    amount = values.money(charge.get("amount"), "LINE_CHARGE")
    fee = values.money(detail.get("fee"), "LINE_CHARGE")
    if amount is None and fee is None:
        raise Unreadable("LINE_CHARGE")
    # whether amount is of the line or of one unit is not documented
    if amount is not None and fee is not None and fee not in (amount, amount * (units or 1)):
        raise Changed
    if detail.get("proccode", charge.get("proccode")) != charge.get("proccode", detail.get("proccode")):
        raise Changed
    return {
        "claim_id": claim_id,
        "line_id": key,
        "line_number": number,
        "procedure_code": values.text(charge.get("proccode") or detail.get("proccode")),
        "modifiers": _codes(detail.get("modcodes")),
        "units": units,
        "charge": amount if fee is None else fee,
        "diagnosis_codes": _codes(detail.get("diagcodes")),
    }


def _codes(text: str | None) -> list[str]:
    return [code for code in _CODES.split(text or "") if code]


def note_rows(claim: Mapping[str, Any], visit: Visit) -> list[dict[str, Any]]:
    """The reason of a visit, which is free text; what medbill wrote itself is left out."""
    text = visit.record.get("reason", "")
    if not text.strip() or any(is_reference(line) for line in text.splitlines()):
        return []
    of_claim = {name: claim[name] for name in NOTES.names if name in claim}
    note = {"note_id": claim["claim_id"], "note_type": "appointment", "written_on": claim["service_date"], "text": text}
    return [{**of_claim, **note}]


def claim_row(
    claim_id: str,
    day: date,
    visit: Visit,
    booked: Visit | None,
    patient: Patient,
    lines: Sequence[Mapping[str, Any]],
    npis: Mapping[str, str],
) -> dict[str, Any]:
    on = booked.record if booked else {}
    plan = patient.plan(on.get("carcode", ""), on.get("carname", ""))
    return {
        "claim_id": claim_id,
        "platform": PLATFORM,
        "patient_id": ppmd.number(visit.record.get("patientid", "")) or None,
        "patient_last_name": values.text(patient.record.get("lastname")),
        "patient_first_name": values.text(patient.record.get("firstname")),
        "patient_birth_date": day_of(patient.record.get("dob"), "PATIENT_BIRTH_DATE"),
        "member_id": values.text(plan.member),
        "payer_id": values.text(plan.code),
        "payer_name": values.text(plan.name),
        "rendering_npi": npis.get(ppmd.number(visit.record.get("profileid", ""))),
        "place_of_service": None,  # no public shape carries it
        "service_date": day,
        "billed_date": None,  # whether a charge was billed is known, not when
        "authorization_number": None,
        "charge": sum((line["charge"] for line in lines), Decimal("0.00")),
    }


def billing_status(billed: Sequence[str]) -> tuple[str | None, int]:
    """Of a claim whose lines say this in insbilled, and how many of them say what we do not know."""
    strange = sum(1 for code in billed if code and code not in _BILLED)
    known = {_BILLED.get(code) for code in billed}
    status = known.pop() if len(known) == 1 else (_BILLED["0"] if known <= set(_BILLED.values()) else None)
    return status, strange
