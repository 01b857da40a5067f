"""The made-up practice as Tebra's SOAP service would say it: every value is text, dates are M/D/YYYY.

Names of members are those of the vendor's guide. Far more fields than medbill wants, as on the real service.
"""

from __future__ import annotations

from datetime import date, timedelta

from medbill.sandbox import notes
from medbill.sandbox.adjudication import decide
from medbill.sandbox.practice import PAYERS, Line, PracticeData, Visit, money

Row = dict[str, str]
PRACTICE_ID = "1"
#: Remittances older than this many days are already posted on the platform.
POSTED_AFTER = 21


def records(data: PracticeData) -> dict[str, list[Row]]:
    """Charges, encounters and providers, each in order of id."""
    posted_before = data.today - timedelta(days=POSTED_AFTER)
    charges: list[Row] = []
    encounters: list[Row] = []
    for visit in data.visits:
        posted = [d for d in decide(data.seed, visit)[0] if d.day < posted_before]
        status = "Completed" if posted else "Pending" if visit.billed_date else "Ready"
        written = [note["text"] for note in notes.of_claim(visit)]
        charges += [
            _charge(data, visit, line, status, written[0] if written and line == visit.lines[0] else "")
            for line in visit.lines
        ]
        encounters.append(_encounter(data, visit))
    return {
        "charges": charges,
        "encounters": encounters,
        "providers": [
            {
                "Active": "True",
                "FirstName": p.first_name,
                "FullName": f"{p.first_name} {p.last_name}",
                "ID": str(p.id),
                "LastName": p.last_name,
                "NationalProviderIdentifier": p.npi,
                "PracticeID": PRACTICE_ID,
                "PracticeName": data.identity.name,
                "SocialSecurityNumber": "000-00-0000",
                "Type": "Normal Provider",
                "WorkPhone": "5555550100",
            }
            for p in data.providers
        ],
    }


def _us(day: date | None) -> str:
    return f"{day.month}/{day.day}/{day.year}" if day else ""


def _charge(data: PracticeData, visit: Visit, line: Line, status: str, note: str) -> Row:
    patient = visit.patient
    diagnoses = [visit.diagnoses[p - 1] for p in line.pointers]
    modified = visit.billed_date or visit.service_date
    return {
        "AppointmentID": str(visit.id),
        "BatchNumber": f"B{visit.service_date:%y%m%d}",
        "BilledTo": PAYERS[visit.payer].name,
        "CasePayerScenario": "Commercial",
        "CreatedDate": _us(visit.service_date),
        **{f"DiagnosisCode{n}": diagnoses[n - 1] if n <= len(diagnoses) else "" for n in range(1, 5)},
        "EncounterID": str(visit.id),
        "ID": str(line.id),
        "LastModifiedDate": f"{_us(modified)} 6:00:00 PM",
        "LineNote": note,
        "PatientDateOfBirth": _us(patient.birth_date),
        "PatientFirstBillDate": "",
        "PatientID": str(patient.id),
        "PatientName": f"{patient.last_name}, {patient.first_name}",
        "PostingDate": _us(modified),
        "PracticeID": PRACTICE_ID,
        "PracticeName": data.identity.name,
        "PrimaryInsuranceAddressLine1": "1 Made-up Way",
        "PrimaryInsuranceBilledCompanyName": PAYERS[visit.payer].name,
        "PrimaryInsuranceBilledPlanName": "",
        "PrimaryInsuranceFirstBilDate": _us(visit.billed_date),
        "ProcedureCode": line.code,
        **{f"ProcedureModifier{n}": line.modifiers[n - 1] if n <= len(line.modifiers) else "" for n in range(1, 5)},
        "RenderingProviderID": str(visit.provider.id),
        "RenderingProviderName": f"{visit.provider.first_name} {visit.provider.last_name}",
        "ServiceEndDate": _us(visit.service_date),
        "ServiceLocationNPI": data.identity.npi,
        "ServiceLocationPlaceofServiceCode": "11",
        "ServiceStartDate": _us(visit.service_date),
        "Status": status,
        "TotalBalance": str(money(line.charge)),
        "TotalCharges": str(money(line.charge)),
        "UnitCharge": str(money(line.price)),
        "Units": f"{line.units}.0000",
    }


def _encounter(data: PracticeData, visit: Visit) -> Row:
    return {
        "AppointmentID": str(visit.id),
        "CreatedDate": _us(visit.service_date),
        "EncounterID": str(visit.id),
        "EncounterStatus": "3",
        "PatientFirstName": visit.patient.first_name,
        "PatientID": str(visit.patient.id),
        "PatientLastName": visit.patient.last_name,
        "PracticeID": PRACTICE_ID,
        "PracticeName": data.identity.name,
        "ServiceStartDate": _us(visit.service_date),
    }
