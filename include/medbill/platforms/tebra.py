"""Tebra (Kareo): billed claims out of its SOAP service (2.1), approved proposals in as documents.

One Tebra encounter is one claim, one charge one service line; an encounter's id is taken for what the practice sends as
CLM01. `CAPABILITIES` says how sure we are of each operation. The service has no pages and no total: each window is asked
whole and in parts, and is taken only where both agree. Documents cannot be listed by SOAP: reading back needs the FHIR
service, and without it an unknown outcome stays unknown until a person has looked.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

from medbill.errors import PlatformError
from medbill.model.claims import NOTES
from medbill.platforms import pdf, soap, values
from medbill.platforms.base import (
    Adapter,
    Certainty,
    Client,
    Extraction,
    Operation,
    Receipt,
    Setup,
    WriteBack,
    is_reference,
    reference,
)
from medbill.platforms.budget import Limit, RateBudget
from medbill.platforms.circuit import Circuit
from medbill.platforms.extraction import ExtractionPolicy
from medbill.platforms.http import Answer, Call, Edge, scope, unknown_outcome
from medbill.platforms.tebra_fhir import Documents
from medbill.platforms.values import Unreadable
from medbill.settings import Settings

PLATFORM = "tebra"
HOSTS = frozenset({"webservice.kareo.com"})
PATH = "/services/soap/2.1/KareoServices.svc"
NAMESPACE = "http://www.kareo.com/api/schemas/"
#: Days of one window, both ends included: seen for posting dates, taken for service dates as well.
MAX_WINDOW_DAYS = 60
#: An encounter's lines lie within so many days; windows are asked for with this margin, so that none is cut in two.
ENCOUNTER_DAYS = 7
_AGREE_ATTEMPTS = 3
#: Seconds between two calls of an operation: the vendor's guide, and a quarter of a second for clocks.
_SPACING = {"GetCharges": 1.25, "GetProviders": 0.75, "GetEncounterDetails": 0.75, "CreateDocument": 0.75}
#: Charge status as seen; another one leaves the claim's status empty and is counted.
STATUSES = frozenset({"Pending", "Completed", "Error - Rejection", "Voided", "Ready"})
_VOIDED, _REJECTED = "Voided", "Error - Rejection"
_US_DATE = ("%m/%d/%Y",)

_CHARGES = "GetCharges"
_CHARGE_FIELDS = (
    "ID",
    "EncounterID",
    "PatientID",
    "PatientName",
    "PatientDateOfBirth",
    "PrimaryInsuranceBilledCompanyName",
    "PrimaryInsuranceFirstBilDate",  # the vendor's spelling
    "RenderingProviderID",
    "ServiceLocationPlaceofServiceCode",
    "ServiceStartDate",
    "Status",
    "ProcedureCode",
    "ProcedureModifier1",
    "ProcedureModifier2",
    "ProcedureModifier3",
    "ProcedureModifier4",
    "DiagnosisCode1",
    "DiagnosisCode2",
    "DiagnosisCode3",
    "DiagnosisCode4",
    "Units",
    "UnitCharge",
    "TotalCharges",
    "LineNote",
    "LastModifiedDate",
)
_USED = {
    "charges": frozenset(_CHARGE_FIELDS),
    "providers": frozenset({"ID", "NationalProviderIdentifier"}),
    "encounters": frozenset({"EncounterID", "PatientID"}),
}
_NEEDED = {
    "charges": frozenset({"ID", "EncounterID", "ServiceStartDate", "TotalCharges", "Status"}),
    "encounters": frozenset({"EncounterID", "PatientID"}),
}

CAPABILITIES = MappingProxyType(
    {
        "extract claims": Operation(
            "SOAP GetCharges by service date",
            Certainty.SEEN,
            "the 60 days are seen for posting dates; an encounter as the claim and CLM01 is a guess; no member id, no payer id",
        ),
        "extract notes": Operation("SOAP GetCharges (LineNote)", Certainty.SPEC, "clinical notes are not read"),
        "extract providers": Operation("SOAP GetProviders", Certainty.SEEN),
        "requested fields": Operation(
            "Fields sent empty",
            Certainty.SEEN,
            "any toggle gives one empty row, against the guide; fields are dropped here",
        ),
        "throttle": Operation("HTTP 200 with IsError and 429 in the message", Certainty.SEEN),
        "rate limits": Operation("a minimum interval for each operation", Certainty.SPEC),
        "write document": Operation(
            "SOAP GetEncounterDetails, CreateDocument",
            Certainty.SEEN,
            "a PDF on the patient; there are no tasks or notes",
        ),
        "find document": Operation(
            "FHIR DocumentReference by patient",
            Certainty.GUESS,
            "needs FHIR credentials; that SOAP documents and patient ids appear there is inferred",
        ),
        "check": Operation("SOAP GetProviders", Certainty.SEEN),
    }
)


def limits(operation: str) -> Sequence[Limit]:
    """The vendor's spacing of an operation; FHIR, where none is published, at five calls a second."""
    return (Limit(1, _SPACING[operation]),) if operation in _SPACING else (Limit(5, 1),)


class Tebra(Client):
    """One practice's account. Safe to share between threads; close it, or use it in a with statement.

    user, password, customer_key: of a user of the practice with the least rights. practice_id: where the account has several.
    documents: the FHIR service, to read documents back.
    """

    platform = PLATFORM
    extracted = ("charges", "providers")

    def __init__(
        self,
        base_url: str,
        user: str,
        password: str,
        customer_key: str,
        *,
        practice_name: str | None = None,
        practice_id: str | None = None,
        documents: Documents | None = None,
        extraction: ExtractionPolicy | None = None,
        policies: Path | None = None,
        budget: RateBudget | None = None,
        circuit: Circuit | None = None,
        timeout: float = 60.0,
        deadline: float = 300.0,
        hosts: frozenset[str] = HOSTS,
    ) -> None:
        self._policy = extraction or ExtractionPolicy.load(
            policies or Settings.from_env().policies, PLATFORM, _USED, _NEEDED
        )
        self._header = (("CustomerKey", customer_key), ("Password", password), ("User", user))  # this order matters
        self._practice_name, self._practice_id = practice_name, practice_id
        self._documents = documents
        self._edge = Edge(
            base_url,
            hosts=hosts,
            budget=budget or RateBudget(limits),
            circuit=circuit,
            timeout=timeout,
            deadline=deadline,
        )
        self._npis: dict[str, str] | None = None

    def check(self) -> None:
        self._npis = None
        self._load_npis()

    def close(self) -> None:
        self._edge.close()
        if self._documents is not None:
            self._documents.close()

    # --- claims out ---

    def extract(self, start: date, end: date) -> Extraction:
        """CLAIM_TABLES for service dates start..end, both included, ordered by claim and line; a claim's date is that of
        its earliest line. Claims with an unreadable record are left out, and counted by reason code."""
        refused: Counter[str] = Counter()
        unknown: Counter[str] = Counter()
        encounters: dict[str, list[dict[str, str]]] = {}
        margin = timedelta(days=ENCOUNTER_DAYS)
        for low, high in _windows(start - margin, end + margin):
            for charge in self._agreed(low, high):
                if not charge.get("EncounterID"):
                    refused["CHARGE_WITHOUT_ENCOUNTER"] += 1
                elif charge.get("Status") != _VOIDED:
                    encounters.setdefault(charge["EncounterID"], []).append(charge)
        npis = self._load_npis()
        claims: list[dict[str, Any]] = []
        lines: list[dict[str, Any]] = []
        notes: list[dict[str, Any]] = []
        for claim_id, charges in sorted(encounters.items()):
            charges.sort(key=_by_id)
            try:
                first = _first_day(charges)
                if not start <= first <= end:
                    continue
                rows = [_line(claim_id, number, charge) for number, charge in enumerate(charges, 1)]
                claim = _claim(claim_id, first, charges, rows, npis)
            except Unreadable as error:
                refused[error.reason] += 1
                continue
            claim["billing_status"], strange = _status(charges)
            if strange:
                unknown["charges.Status"] += 1
            claims.append(claim)
            lines += rows
            notes += _notes(claim, charges)
        return Extraction.of(claims, lines, notes, refused, unknown)

    def _agreed(self, low: date, high: date) -> list[dict[str, str]]:
        """The charges of a window, where asking for the whole and for its parts gave the same.

        The service gives no total: an answer cut short, or a charge that changed meanwhile, shows only in a difference.
        """
        for _ in range(_AGREE_ATTEMPTS):
            whole = self._charges(low, high)
            middle = low + (high - low) // 2
            parts = {**self._charges(low, middle), **self._charges(middle + timedelta(days=1), high)}
            if whole == parts:
                return list(whole.values())
        raise PlatformError(
            "GetCharges gives different answers for a window and for its parts; nothing of it is taken, run it again later",
            code="PLATFORM_UNSTABLE",
        )

    def _charges(self, low: date, high: date) -> dict[str, dict[str, str]]:
        """Charges by id. One that comes twice counts once; where both differ, the later change counts."""
        members: soap.Members = [
            ("FromServiceDate", f"{low:%m/%d/%Y}"),
            ("IncludeUnapprovedCharges", "F"),
            ("PracticeName", self._practice_name),
            ("ToServiceDate", f"{high:%m/%d/%Y}"),
        ]
        found: dict[str, dict[str, str]] = {}
        for charge in self._list(_CHARGES, "ChargeData", "charges", members):
            key = charge.get("ID") or f"none, of {charge.get('EncounterID')}"
            other = found.get(key)
            if other is None or _changed(other) < _changed(charge):
                found[key] = charge
        return found

    def _load_npis(self) -> dict[str, str]:
        if self._npis is None:
            members: soap.Members = [("PracticeID", self._practice_id), ("PracticeName", self._practice_name)]
            rows = self._list("GetProviders", "ProviderData", "providers", members)
            self._npis = {
                row["ID"]: row["NationalProviderIdentifier"]
                for row in rows
                if row.get("ID") and row.get("NationalProviderIdentifier")
            }
        return self._npis

    # --- documents in ---

    def write(self, write_back: WriteBack) -> Receipt:
        """A PDF on the patient of the claim's encounter, its name the reference. Sends once; raises as Writer says."""
        ref = reference(write_back.idempotency_key)
        patient = self._patient(write_back.claim_id)
        due = f"\nAnswer by {write_back.due_on.isoformat()}" if write_back.due_on else ""
        content = pdf.document(write_back.title, f"{write_back.text}{due}\n{ref}")
        document: soap.Members = [
            ("DocumentDate", datetime.now(UTC).date().isoformat()),
            ("DocumentNotes", write_back.title),
            ("FileContent", base64.b64encode(content).decode()),
            ("FileName", f"{ref.replace(':', '-')}.pdf"),
            ("Label", "InsuranceCorrespondence"),
            ("Name", ref),
            ("PatientId", patient),
            ("PracticeId", self._practice_id),
            ("Status", "New"),
        ]
        call = self._call(
            "CreateDocument", [("DocumentToCreate", document)], "documents", [n for n, _ in document], True
        )
        answer = self._edge.send(call)
        try:
            result = self._result(call, answer)
            number = next((e.text or "" for e in result.iter() if soap.name(e).casefold() == "documentid"), "")
        except PlatformError as error:
            if error.code != "PLATFORM_BAD_ANSWER":
                raise
            number = ""
        if not number.strip():
            raise unknown_outcome(call, "answered without a document id")
        return Receipt(PLATFORM, "document", number.strip(), ref)

    def find(self, write_back: WriteBack) -> Receipt | None:
        """The document that carries the key. Raises PlatformError PLATFORM_NO_READ_BACK without the FHIR service."""
        ref = reference(write_back.idempotency_key)
        if self._documents is None:
            raise PlatformError(
                "Tebra lists documents by FHIR only, and this connection has no FHIR credentials; look in the patient's "
                "documents",
                code="PLATFORM_NO_READ_BACK",
            )
        number = self._documents.named(self._patient(write_back.claim_id), ref)
        return Receipt(PLATFORM, "document", number, ref) if number is not None else None

    def _patient(self, encounter: str) -> str:
        """The patient of an encounter. Raises PlatformError PLATFORM_REFUSED where the encounter does not exist."""
        members: soap.Members = [
            ("EncounterID", encounter),
            ("Practice", [("PracticeID", self._practice_id)] if self._practice_id else None),
        ]
        for row in self._list("GetEncounterDetails", "EncounterDetailsData", "encounters", members, "EncounterID"):
            if row.get("EncounterID") == encounter and row.get("PatientID"):
                return row["PatientID"]
        raise PlatformError("the claim's encounter does not exist on the platform", code="PLATFORM_REFUSED")

    # --- the wire ---

    def _list(
        self, operation: str, element: str, resource: str, members: soap.Members, key: str = "ID"
    ) -> list[dict[str, str]]:
        """The records of a list operation, with the policy's fields. No rows come as one phantom row without any id."""
        fields = self._policy.fields.get(resource, frozenset())
        call = self._call(operation, [("Fields", ""), ("Filter", members or "")], resource, fields)
        result = self._result(call, self._edge.send(call))
        rows = [soap.members(row) for row in soap.all_named(result, element)]
        if not rows and any(len(child) and soap.name(child) not in _NOT_ROWS for child in result):
            raise PlatformError(f"{call.label} answered with records of another name", code="PLATFORM_BAD_ANSWER")
        kept = [self._policy.keep(resource, row) for row in rows]
        if len(kept) == 1 and not any(kept[0].values()):
            return []
        lost = [name for name in (key, *_NEEDED.get(resource, ())) if kept and all(name not in row for row in kept)]
        if lost:
            raise PlatformError(f"{call.label} answered without {', '.join(lost)}", code="PLATFORM_BAD_ANSWER")
        return kept

    def _call(self, operation: str, request: soap.Members, resource: str, fields: object, write: bool = False) -> Call:
        label = f"SOAP {operation}"
        return Call(
            "POST",
            PATH,
            label,
            bucket=operation,
            content=soap.envelope(NAMESPACE, operation, [("RequestHeader", self._header), *request]),
            headers=lambda refused: {
                "Content-Type": soap.CONTENT_TYPE,
                "SOAPAction": f'"{NAMESPACE}KareoServices/{operation}"',
            },
            judge=lambda answer: _judged(label, answer),
            scope=scope(resource, fields),
            write=write,
        )

    @staticmethod
    def _result(call: Call, answer: Answer) -> Any:
        """The <OperationResult> of an answer that is no error."""
        response = soap.body(call.label, answer.content)
        operation = call.bucket
        if soap.name(response) != f"{operation}Response" or len(response) != 1:
            raise PlatformError(f"{call.label} answered with something else", code="PLATFORM_BAD_ANSWER")
        return response[0]


#: Members of a result that are no list of records.
_NOT_ROWS = frozenset({"ErrorResponse", "SecurityResponse"})


def _judged(label: str, answer: Answer) -> int:
    """What an answer with status 200 really says: the service throttles, refuses and fails inside of it."""
    if answer.status != 200:
        return answer.status
    try:
        root = soap.body(label, answer.content)
    except PlatformError:
        return 200  # whoever reads it says what is wrong with it
    if soap.name(root) == "Fault":
        return 500
    for security in soap.all_named(root, "SecurityResponse"):
        if soap.text(security, "Authenticated").casefold() == "false":
            return 401
        if soap.text(security, "Authorized").casefold() == "false":
            return 403
    for error in soap.all_named(root, "ErrorResponse"):
        if soap.text(error, "IsError").casefold() == "true":
            message = soap.text(error, "ErrorMessage")
            return 429 if "429" in message or "more than allowed" in message else 400
    return 200


def _windows(start: date, end: date) -> Iterator[tuple[date, date]]:
    """The days in windows of about the same length, so that none is a single day, whose parts say nothing."""
    days = (end - start).days + 1
    count = -(-days // MAX_WINDOW_DAYS)
    for n in range(count):
        first, behind = days * n // count, days * (n + 1) // count
        yield start + timedelta(days=first), start + timedelta(days=behind - 1)


def _day(value: str | None, reason: str) -> date | None:
    return values.day(value, reason, _US_DATE)


def _first_day(charges: Sequence[Mapping[str, str]]) -> date:
    days = [day for c in charges if (day := _day(c.get("ServiceStartDate"), "SERVICE_DATE"))]
    if not days:
        raise Unreadable("SERVICE_DATE")
    return min(days)


def _changed(charge: Mapping[str, str]) -> tuple[date, str]:
    written = charge.get("LastModifiedDate", "")
    try:
        return _day(written, "LAST_MODIFIED") or date.min, written
    except Unreadable:
        return date.min, written


def _by_id(charge: Mapping[str, str]) -> tuple[int, str]:
    """Numeric order of ids that are digits, without failing on others."""
    number = charge.get("ID") or ""
    return len(number), number


def _claim(
    claim_id: str,
    first_day: date,
    charges: Sequence[Mapping[str, str]],
    lines: Sequence[Mapping[str, Any]],
    npis: Mapping[str, str],
) -> dict[str, Any]:
    first = charges[0]
    if any(c.get("PatientID") != first.get("PatientID") for c in charges):
        raise Unreadable("ENCOUNTER_OF_TWO_PATIENTS")
    last_name, first_name = _name(first.get("PatientName") or "")
    return {
        "claim_id": claim_id,
        "platform": PLATFORM,
        "patient_id": values.text(first.get("PatientID")),
        "patient_last_name": last_name,
        "patient_first_name": first_name,
        "patient_birth_date": _day(first.get("PatientDateOfBirth"), "PATIENT_BIRTH_DATE"),
        "member_id": None,  # GetCharges does not carry it
        "payer_id": None,  # nor this, only the payer's name
        "payer_name": values.text(first.get("PrimaryInsuranceBilledCompanyName")),
        "rendering_npi": npis.get(first.get("RenderingProviderID", "")),
        "place_of_service": values.text(first.get("ServiceLocationPlaceofServiceCode")),
        "service_date": first_day,
        "billed_date": _day(first.get("PrimaryInsuranceFirstBilDate"), "BILLED_DATE"),
        "authorization_number": None,
        "charge": sum((line["charge"] for line in lines), Decimal("0.00")),
    }


def _line(claim_id: str, number: int, charge: Mapping[str, str]) -> dict[str, Any]:
    total = values.money(charge.get("TotalCharges"), "LINE_CHARGE")
    if total is None:
        raise Unreadable("LINE_CHARGE")
    if not charge.get("ID"):
        raise Unreadable("CHARGE_WITHOUT_ID")
    units = values.decimal(charge.get("Units"), "LINE_QUANTITY")
    price = values.money(charge.get("UnitCharge"), "LINE_CHARGE")
    if units is None and price and total % price == 0:  # not every account's service sends Units
        units = total / price
    return {
        "claim_id": claim_id,
        "line_id": charge["ID"],
        "line_number": number,
        "procedure_code": values.text(charge.get("ProcedureCode")),
        "modifiers": [m for n in range(1, 5) if (m := charge.get(f"ProcedureModifier{n}"))],
        "units": units,
        "charge": total,
        "diagnosis_codes": [d for n in range(1, 5) if (d := charge.get(f"DiagnosisCode{n}"))],
    }


def _status(charges: Sequence[Mapping[str, str]]) -> tuple[str | None, bool]:
    """A claim's status: rejected where one line is, else that of its first line; and whether one is unknown to us."""
    found = [c.get("Status") or "" for c in charges]
    strange = any(status and status not in STATUSES for status in found)
    status = _REJECTED if _REJECTED in found else found[0]
    return (status if status in STATUSES else None), strange


def _notes(claim: Mapping[str, Any], charges: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """What people wrote on a claim's lines; what medbill wrote itself is left out."""
    of_claim = {name: claim[name] for name in NOTES.names if name in claim}
    found = []
    for charge in charges:
        text = charge.get("LineNote") or ""
        if text.strip() and not any(is_reference(line) for line in text.splitlines()):
            note = {"note_id": charge["ID"], "note_type": "billing", "written_on": None, "text": text}
            found.append({**of_claim, **note})
    return found


def _name(full: str) -> tuple[str | None, str | None]:
    """Last and first name of "Last, First" or "First Last": which of them comes is not documented."""
    if "," in full:
        last, _, first = full.partition(",")
    else:
        first, _, last = full.strip().rpartition(" ")
    return values.text(last.strip()), values.text(first.strip())


def open_(setup: Setup) -> Tebra:
    """The account of a connection: host, login (user), password, customer_key; practice_name and practice_id where the
    account has several practices; fhir_host, fhir_client_id, fhir_client_secret and fhir_scope to read documents back."""
    login, password, customer_key = setup.needs("login", "password", "customer_key")
    budget = RateBudget(limits, setup.calls)
    documents = None
    if setup.connection.get("fhir_client_id"):
        host, client, secret, wanted = setup.needs("fhir_host", "fhir_client_id", "fhir_client_secret", "fhir_scope")
        documents = Documents(host, client, secret, wanted, budget=budget, circuit=setup.circuit)
    return Tebra(
        setup.base_url,
        login,
        password,
        customer_key,
        practice_name=setup.connection.get("practice_name") or None,
        practice_id=setup.connection.get("practice_id") or None,
        documents=documents,
        policies=setup.policies,
        budget=budget,
        circuit=setup.circuit,
    )


ADAPTER = Adapter(PLATFORM, open_, CAPABILITIES, {"*": ("document",)})
