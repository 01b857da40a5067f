"""A stand-in for Tebra's SOAP service (2.1) and its FHIR document list, on the loopback interface.

Strict where the real one is known to be: quoted SOAPAction, content type, credentials and filters in the schema's order, with
what comes out of order silently dropped; spacing of operations; throttle and errors inside HTTP 200; one phantom row for no
rows. Sources of each behaviour: docs/sandbox.md. For tests and demonstrations: no real data.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from lxml import etree

from medbill.errors import BadInput
from medbill.sandbox import wire
from medbill.sandbox.drchrono import Store
from medbill.sandbox.faults import Fault, disturb
from medbill.sandbox.server import Handler, Records, Refused, StandIn
from medbill.sandbox.server import Server as HttpServer
from medbill.sandbox.tebra_wire import Row

FOLDER = "tebra"
RECORDS_FILE = "records.json"
CREDENTIALS_FILE = "credentials.json"
STATE_FILE = "state.sqlite"
PATH = "/services/soap/2.1/KareoServices.svc"
_NAMESPACE = "http://www.kareo.com/api/schemas/"
_SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"
_FHIR = "/fhir-request"
_TOKEN = "/smartauth/oauth/token"  # noqa: S105
MAX_WINDOW_DAYS = 60
#: Operation -> seconds between two calls.
SPACING = {"GetCharges": 1.0, "GetProviders": 0.5, "GetEncounterDetails": 0.5, "CreateDocument": 0.5}
#: Members in the order of the schema; others, and those out of order, are dropped.
_HEADER = ("ClientVersion", "CustomerKey", "Password", "User")
_REQUEST = ("RequestHeader", "DocumentToCreate", "Fields", "Filter")
_FILTERS = {
    "GetCharges": [
        "BatchNumber",
        "BilledTo",
        "CasePayerScenario",
        "DiagnosisCode",
        "EncounterStatus",
        "FromCreatedDate",
        "FromLastModifiedDate",
        "FromPostingDate",
        "FromServiceDate",
        "IncludeUnapprovedCharges",
        "PatientName",
        "PracticeName",
        "ProcedureCode",
        "RenderingProviderFullName",
        "Status",
        "ToCreatedDate",
        "ToLastModifiedDate",
        "ToPostingDate",
        "ToServiceDate",
    ],
    "GetProviders": [
        "DepartmentName",
        "FromCreatedDate",
        "FromLastModifiedDate",
        "FullName",
        "PracticeID",
        "PracticeName",
        "ToCreatedDate",
        "ToLastModifiedDate",
        "Type",
    ],
    "GetEncounterDetails": ["EncounterID", "Practice"],
}
_DOCUMENT = [
    "DocumentDate",
    "DocumentNotes",
    "FileContent",
    "FileName",
    "Label",
    "Name",
    "PatientId",
    "PracticeId",
    "Status",
]
_LABELS = frozenset({"InsuranceCorrespondence", "PatientCorrespondence", "ExplanationofBenefits", "Other"})
_ROWS = {
    "GetCharges": ("Charges", "ChargeData", "charges"),
    "GetProviders": ("Providers", "ProviderData", "providers"),
    "GetEncounterDetails": ("EncounterDetails", "EncounterDetailsData", "encounters"),
}


class Sandbox(StandIn):
    """Records, documents and accounts. spacing: factor on the vendor's intervals, 0 for none. dropped: members of requests
    that were silently ignored."""

    def __init__(self, folder: Path, spacing: float = 1.0, fhir: bool = True) -> None:
        super().__init__()
        self.folder = folder / FOLDER
        try:
            self.credentials = json.loads((self.folder / CREDENTIALS_FILE).read_text())
        except (OSError, ValueError):
            raise BadInput(
                "the state folder has no Tebra practice; run `medbill sandbox seed` first", code="SANDBOX_NOT_SEEDED"
            ) from None
        self.store = Store(self.folder / STATE_FILE)
        self.spacing, self.fhir, self.dropped = spacing, fhir, 0
        self._last: dict[str, float] = {}
        self.records = Records(self.folder / RECORDS_FILE, json.loads).of

    def too_soon(self, operation: str) -> bool:
        with self.lock:
            now = time.monotonic()
            soon = now - self._last.get(operation, -1e9) < SPACING[operation] * self.spacing
            self._last[operation] = now
        return soon

    def written(self) -> dict[str, list[wire.Record]]:
        return {"documents": self.store.all("documents")}

    def close(self) -> None:
        self.store.close()


class _Handler(Handler):
    server: Server

    def route(self, path: str) -> str:
        """The operation of a SOAP request, the path of any other."""
        return self.headers.get("SOAPAction", "").strip('"').rpartition("/")[2] if path == PATH else path

    def refusal(self, status: int, detail: str) -> bytes:
        return _fault(detail)

    def render(self, answer: Any) -> tuple[str, bytes]:
        if isinstance(answer, bytes):
            return "text/xml; charset=utf-8", answer
        return "application/json", wire.dumps(answer).encode() if answer is not None else b""

    def reply(
        self, method: str, path: str, query: dict[str, list[str]], body: bytes, fault: Fault | None
    ) -> tuple[int, Any, dict[str, str]]:
        if path == PATH and method == "POST":
            return 200, self._soap(body, fault), {}
        if path == _TOKEN and method == "POST":
            return 200, self._token({k: v[-1] for k, v in parse_qs(body.decode("utf-8", "replace")).items()}), {}
        if path.startswith(_FHIR) and method == "GET":
            return 200, self._fhir(path.removeprefix(_FHIR), query, fault), {}
        raise Refused(404, _fault("There was no endpoint listening."))

    # --- SOAP ---

    def _soap(self, body: bytes, fault: Fault | None) -> bytes:
        sandbox = self.server.sandbox
        operation = self.route(PATH)
        if not self.headers.get("Content-Type", "").startswith("text/xml"):
            raise Refused(415, b"")
        if self.headers.get("SOAPAction") != f'"{_NAMESPACE}KareoServices/{operation}"':
            raise Refused(
                500, _fault("The message cannot be processed: ContractFilter mismatch at the EndpointDispatcher.")
            )
        try:
            root = etree.fromstring(body, etree.XMLParser(resolve_entities=False, no_network=True))
            called = root.find(f"{{{_SOAP}}}Body")[0]
        except (etree.XMLSyntaxError, TypeError, IndexError):
            raise Refused(400, _fault("Bad request.")) from None
        if _local(called) != operation or operation not in SPACING or len(called) != 1:
            raise Refused(500, _fault("The formatter threw an exception while trying to deserialize the message."))
        request = self._ordered(called[0], _REQUEST)
        given = self._ordered(request.get("RequestHeader"), _HEADER)
        own = sandbox.credentials
        right = all(
            secrets.compare_digest(_text(given.get(name)), own[key])
            for name, key in (("CustomerKey", "customer_key"), ("Password", "password"), ("User", "user"))
        )
        if not right or (fault and fault.kind == "expired"):
            return _answer(operation, authenticated=False)
        if (fault and fault.kind == "throttle") or sandbox.too_soon(operation):
            return _answer(operation, error="429 - You have requested more than allowed in the given time.")
        if operation == "CreateDocument":
            return self._create(self._ordered(request.get("DocumentToCreate"), _DOCUMENT))
        if "Filter" not in request:
            raise Refused(500, _fault("Object reference not set to an instance of an object."))
        fields = request.get("Fields")
        wanted = self._ordered(request["Filter"], _FILTERS[operation])
        wrapper, element, resource = _ROWS[operation]
        rows = self._select(operation, wanted, sandbox.records(resource))
        if fields is not None and len(fields):
            rows = []  # any explicit toggle: one placeholder
        return _answer(operation, rows=(wrapper, element, disturb(fault, rows)))

    def _ordered(self, element: Any, names: Sequence[str]) -> dict[str, Any]:
        """Members as WCF reads them: unknown ones and those out of order are skipped."""
        found: dict[str, Any] = {}
        at = 0
        for child in element if element is not None else ():
            if _local(child) in names[at:]:
                at = names.index(_local(child)) + 1
                found[_local(child)] = child
            else:
                with self.server.sandbox.lock:
                    self.server.sandbox.dropped += 1
        return found

    def _select(self, operation: str, wanted: Mapping[str, Any], rows: list[Row]) -> list[Row]:
        if operation == "GetEncounterDetails":
            return [r for r in rows if r["EncounterID"] == _text(wanted.get("EncounterID"))]
        name = _text(wanted.get("PracticeName"))
        rows = [r for r in rows if not name or r["PracticeName"] == name]
        if operation == "GetProviders":
            return rows
        low, high = (_date(operation, _text(wanted.get(f"{end}ServiceDate"))) for end in ("From", "To"))
        high = high or (low or date.max - timedelta(days=9)) + timedelta(days=7)
        low = low or high - timedelta(days=7)
        if (high - low).days >= MAX_WINDOW_DAYS:
            raise Refused(200, _answer(operation, error="The date range may not exceed 60 days."))
        return [r for r in rows if low <= (_date(operation, r["ServiceStartDate"]) or date.min) <= high]

    def _create(self, given: Mapping[str, Any]) -> bytes:
        values = {name: _text(given.get(name)) for name in _DOCUMENT}
        patients = {r["PatientID"] for r in self.server.sandbox.records("encounters")}
        try:
            content = base64.b64decode(values["FileContent"], validate=True)
        except binascii.Error:
            content = b""
        known = {"pdf": b"%PDF-", "jpg": b"\xff\xd8", "png": b"\x89PNG", "tiff": b""}
        extension = values["FileName"].rpartition(".")[2].lower()
        problem = (
            "PatientId is not valid."
            if values["PatientId"] not in patients
            else "Label is not valid."
            if values["Label"] not in _LABELS
            else "The file type is not supported."
            if extension not in known or not content or not content.startswith(known[extension])
            else ""
        )
        if problem:
            return _answer("CreateDocument", error=problem)
        made = self.server.sandbox.store.add("documents", values)
        return _answer("CreateDocument", more={"DocumentId": str(made["id"])})

    # --- FHIR ---

    def _token(self, form: dict[str, str]) -> dict[str, Any]:
        own = self.server.sandbox.credentials
        right = form.get("client_id") == own["fhir_client_id"] and secrets.compare_digest(
            form.get("client_secret", ""), own["fhir_client_secret"]
        )
        if not right or form.get("grant_type") != "client_credentials":
            raise Refused(401, {"error": "invalid_client"})
        if form.get("scope") != own["fhir_scope"]:
            raise Refused(400, {"error": "invalid_scope", "error_description": f"registered: {own['fhir_scope']}"})
        token = self.server.sandbox.store.issue("access", own["fhir_scope"], 300)
        return {"access_token": token, "expires_in": 300, "token_type": "Bearer", "scope": own["fhir_scope"]}

    def _fhir(self, path: str, query: dict[str, list[str]], fault: Fault | None) -> Any:
        sandbox = self.server.sandbox
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        live = kind == "Bearer" and sandbox.store.scopes("access", token) is not None
        if not live or (fault and fault.kind == "expired"):
            raise Refused(401, {"resourceType": "OperationOutcome"})
        if path != "/DocumentReference":
            return None
        patient = query.get("patient", [""])[-1]
        found = [d for d in sandbox.store.all("documents") if d["PatientId"] == patient] if sandbox.fhir else []
        entries = [
            {
                "resource": {
                    "resourceType": "DocumentReference",
                    "id": str(d["id"]),
                    "status": "current",
                    "description": d["Name"],
                    "content": [{"attachment": {"title": d["FileName"], "contentType": "application/pdf"}}],
                }
            }
            for d in found
        ]
        return {"resourceType": "Bundle", "type": "searchset", "total": len(entries), "entry": disturb(fault, entries)}


def _local(element: Any) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _text(element: Any) -> str:
    return (element.text or "").strip() if element is not None else ""


def _date(operation: str, text: str) -> date | None:
    if not text:
        return None
    for form in ("%m/%d/%Y", "%Y-%m-%d"):
        try:
            return datetime.strptime(text[:10].partition(" ")[0], form).date()  # noqa: DTZ007
        except ValueError:
            continue
    raise Refused(200, _answer(operation, error="String was not recognized as a valid DateTime."))


def _answer(
    operation: str,
    *,
    rows: tuple[str, str, Sequence[Row]] | None = None,
    more: Mapping[str, str] | None = None,
    error: str = "",
    authenticated: bool = True,
) -> bytes:
    body, result = _result(operation)
    problem = etree.SubElement(result, f"{{{_NAMESPACE}}}ErrorResponse")
    _add(problem, {"ErrorMessage": error or None, "IsError": str(bool(error)).lower(), "StackTrace": None})
    flags = {
        "Authenticated": str(authenticated).lower(),
        "Authorized": str(authenticated).lower(),
        "CustomerId": "1",
        "PermissionsMissing": "false",
        "SecurityResultSuccess": str(authenticated).lower(),
    }
    _add(etree.SubElement(result, f"{{{_NAMESPACE}}}SecurityResponse"), flags)
    _add(result, more or {})
    if rows is not None:
        wrapper, element, found = rows
        parent = etree.SubElement(result, f"{{{_NAMESPACE}}}{wrapper}")
        for row in found or [{}]:
            # no rows are one row whose id is nil
            empty = {"EncounterID" if operation == "GetEncounterDetails" else "ID": None}
            _add(etree.SubElement(parent, f"{{{_NAMESPACE}}}{element}"), row or empty)
    return bytes(etree.tostring(body, encoding="utf-8", xml_declaration=True))


def _result(operation: str) -> tuple[Any, Any]:
    root = etree.Element(f"{{{_SOAP}}}Envelope", nsmap={"s": _SOAP, None: _NAMESPACE})
    response = etree.SubElement(etree.SubElement(root, f"{{{_SOAP}}}Body"), f"{{{_NAMESPACE}}}{operation}Response")
    return root, etree.SubElement(response, f"{{{_NAMESPACE}}}{operation}Result")


def _add(parent: Any, members: Mapping[str, str | None]) -> None:
    for name, value in members.items():
        child = etree.SubElement(parent, f"{{{_NAMESPACE}}}{name}")
        if value is None:
            child.set(_NIL, "true")
        else:
            child.text = value


def _fault(message: str) -> bytes:
    root = etree.Element(f"{{{_SOAP}}}Envelope", nsmap={"s": _SOAP})
    fault = etree.SubElement(etree.SubElement(root, f"{{{_SOAP}}}Body"), f"{{{_SOAP}}}Fault")
    etree.SubElement(fault, "faultcode").text = "s:Client"
    etree.SubElement(fault, "faultstring").text = message
    return bytes(etree.tostring(root, encoding="utf-8", xml_declaration=True))


class Server(HttpServer):
    """The server of one Sandbox."""

    sandbox: Sandbox

    def __init__(self, sandbox: Sandbox, port: int = 0) -> None:
        super().__init__(sandbox, port, _Handler)
