"""What the made-up practice writes on visits and claims: free text full of identifiers, codes and amounts between them.

Everything is drawn from the visit's id, so a note is the same whenever it is asked for. All of it is invented.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from medbill.sandbox.draw import Draw
from medbill.sandbox.practice import PAYERS, Visit, money

_RELATIVES = ("wife", "husband", "daughter", "son", "mother", "brother")
_OTHERS = (
    "Imelda Farquhar",
    "Osvaldo Pinder",
    "Kezia Thornbury",
    "Ruben Aldous",
    "Marisol Vantongeren",
    "Tobias Eckhart",
)
_STREETS = ("41 Marsh Lane", "2208 Quarry Road", "17 Old Mill Street Apt 4", "905 Linden Avenue")
_TOWNS = ("Evanston, IL 60201", "Oak Park, IL 60302", "Joliet, IL 60435", "Cicero, IL 60804")
_VISIT = (
    "Reminder call made to {first} {last}.",
    "{title} {last} seen today, {code} for {dx}. BP 128/82, A1c 7.1. Will return in 3 months.",
    "Pt {last}, {first} (DOB {dob}) arrived late; {relative} {other} drove. Copay $25.00 collected.",
    "Called {first} at {phone} re lab {lab}; left message with {relative}. Takes metformin 500 mg twice a day.",
    "{FIRST} {LAST} DOB {dob} MEMBER ID {member} - ELIGIBILITY VERIFIED WITH {payer}, DX {dx}.",
    "New address: {street}, {town}. New phone {phone}. Chart updated.",
    "Referred by Dr. {other} for {dx}. Records requested by fax {fax}.",
    "Follow-up as discussed with {first}; email {email} for portal access.",
)
_CLAIM = (
    "Spoke with Dana at {payer} on {called}, ref # {ref}. Claim {claim} for {first} {last} in process, {code} billed ${charge}.",
    "Pt's {relative} {other} called from {phone} about the balance of ${charge} for {code}. Explained deductible (PR-1).",
    "{last}, {first} / ID {member}: payer asks for records of {service}. Faxed to {fax}.",
    "Denied CO-16 N286 on {called}; correct NPI on line 1 ({code}) and resubmit. Auth {auth} on file.",
    "Secondary for {first} {last} to be billed after primary pays; MRN {patient}.",
)
#: Now and then a note speaks of somebody else's claim too: a person has to look at it.
_TWO_PATIENTS = (
    "Payment for {first} {last} (DOB {dob}, member ID {member}) was posted to patient {other}, DOB 04/17/1958, "
    "member ID ZQX{number}31, by mistake. Move ${charge} to the right account."
)


def of_visit(visit: Visit) -> str:
    """The note on an appointment."""
    draw = Draw("notes", visit.id)
    return draw.choice(_VISIT).format_map(_fields(visit, draw))


def of_claim(visit: Visit) -> list[dict[str, Any]]:
    """The billing notes on a claim: none for most, as the platform sends them."""
    draw = Draw("billing notes", visit.id)
    if visit.billed_date is None or not draw.chance(300):
        return []
    form = _TWO_PATIENTS if draw.chance(60) else draw.choice(_CLAIM)
    written = f"{(visit.billed_date + timedelta(days=draw.between(0, 3))).isoformat()}T16:{draw.between(10, 59)}:00"
    return [
        {
            "id": 700_000_000 + visit.id % 100_000_000,
            "appointment": visit.id,
            "text": form.format_map(_fields(visit, draw)),
            "created_at": written,
            "updated_at": written,
        }
    ]


def _fields(visit: Visit, draw: Draw) -> dict[str, str]:
    patient, line = visit.patient, visit.lines[0]
    born, called = patient.birth_date, visit.service_date + timedelta(days=draw.between(1, 20))
    number = f"{draw.between(200, 989)}"
    return {
        "first": patient.first_name,
        "last": patient.last_name,
        "FIRST": patient.first_name.upper(),
        "LAST": patient.last_name.upper(),
        "title": "Ms." if patient.gender.lower().startswith("f") else "Mr.",
        "dob": draw.choice((f"{born:%m/%d/%Y}", born.isoformat(), f"{born:%B} {born.day}, {born.year}")),
        "member": patient.member_id,
        "patient": str(patient.id),
        "payer": PAYERS[visit.payer].name,
        "code": line.code,
        "dx": visit.diagnoses[0],
        "charge": str(money(visit.charge)),
        "claim": str(visit.id),
        "service": f"{visit.service_date:%m/%d/%Y}",
        "called": f"{called:%m/%d/%y}",
        "relative": draw.choice(_RELATIVES),
        "other": draw.choice(_OTHERS),
        "phone": f"({number}) 555-01{draw.between(10, 99)}",
        "fax": f"{draw.between(200, 989)}-555-01{draw.between(10, 99)}",
        "email": f"{patient.first_name}.{patient.last_name}@example.com".lower(),
        "street": draw.choice(_STREETS),
        "town": draw.choice(_TOWNS),
        "lab": draw.choice(("80053", "36415", "HbA1c")),
        "ref": f"I-{draw.between(10_000_000, 99_999_999)}",
        "auth": f"A{draw.between(1_000_000, 9_999_999)}",
        "number": number,
    }
