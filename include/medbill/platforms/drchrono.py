"""DrChrono: billed claims out (minimal fields), tasks and claim billing notes in.

One DrChrono appointment with line items is one claim; its id is what the practice sends as CLM01. Wire facts come from
the vendor's OpenAPI description; `capabilities` says how sure we are of each operation. Errors and logs carry neither
query strings nor bodies, since both hold patient data.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from medbill.errors import PlatformError
from medbill.model.claims import NOTES
from medbill.platforms import values
from medbill.platforms.base import (
    Adapter,
    Certainty,
    Client,
    Extraction,
    Operation,
    Receipt,
    Setup,
    WriteBack,
    carries,
    is_reference,
    reference,
)
from medbill.platforms.budget import Limit, RateBudget, always
from medbill.platforms.circuit import Circuit
from medbill.platforms.extraction import ExtractionPolicy
from medbill.platforms.http import Answer, Call, Edge, scope, unknown_outcome
from medbill.platforms.oauth import Credentials, MemoryTokenStore, Refresher, Tokens, TokenStore
from medbill.platforms.values import Unreadable
from medbill.settings import Settings

PLATFORM = "drchrono"
#: The vendor's hosts; a base URL elsewhere is refused unless it is named or on this machine.
HOSTS = frozenset({"app.drchrono.com", "drchrono.com"})
#: The vendor's published limits: a burst, and an hour.
LIMITS = always(Limit(10, 1), Limit(500, 3600))
#: The vendor's longest date_range, in days between both ends.
MAX_WINDOW_DAYS = 190
PAGE_SIZE = 250
MAX_PAGES = 4000
#: Up to this many patients are asked for one by one; beyond, the list is read and the others dropped.
PATIENTS_ONE_BY_ONE = 50
_NOT_BILLED = frozenset({"Cancelled", "Rescheduled", "No Show"})

_USED = {
    "appointments": frozenset(
        {
            "id",
            "doctor",
            "patient",
            "scheduled_time",
            "first_billed_date",
            "ins1_status",
            "status",
            "appt_is_break",
            "deleted_flag",
            "primary_insurer_payer_id",
            "primary_insurer_name",
            "primary_insurance_id_number",
            "icd10_codes",
            "notes",
            "billing_notes",
        }
    ),
    "line_items": frozenset(
        {"id", "appointment", "code", "modifiers", "quantity", "price", "billed", "diagnosis_pointers"}
    ),
    "patients_summary": frozenset({"id", "first_name", "last_name", "date_of_birth"}),
    "doctors": frozenset({"id", "npi_number", "group_npi_number"}),
    "task_statuses": frozenset({"id", "name", "status_category", "archived"}),
    "task_categories": frozenset({"id", "name", "archived"}),
    "tasks": frozenset({"id", "title", "notes"}),
    "task_notes": frozenset({"id", "task", "text"}),
    "claim_billing_notes": frozenset({"id", "appointment", "text"}),
}
_NEEDED = {
    "appointments": frozenset({"id", "scheduled_time", "status", "appt_is_break", "deleted_flag", "first_billed_date"}),
    "line_items": frozenset({"id", "appointment", "billed"}),
    "patients_summary": frozenset({"id"}),
    "task_statuses": frozenset({"id", "status_category"}),
    "tasks": frozenset({"id", "notes"}),
    "task_notes": frozenset({"task", "text"}),
    "claim_billing_notes": frozenset({"id", "text"}),
}

_EXTRACTED = ("appointments", "line_items", "patients_summary", "doctors")
CAPABILITIES = MappingProxyType(
    {
        "extract claims": Operation(
            "GET /api/appointments, /api/line_items, /api/patients_summary, /api/doctors",
            Certainty.SPEC,
            "the page envelope differs between the specification (data) and every client read (results): both are read",
        ),
        "extract notes": Operation("GET /api/appointments (notes, billing_notes)", Certainty.SPEC),
        "write task": Operation("POST /api/tasks", Certainty.SPEC, "the shape of due_date is a guess"),
        "write claim_billing_note": Operation("POST /api/claim_billing_notes", Certainty.SPEC),
        "find task": Operation("GET /api/tasks, /api/task_notes", Certainty.SPEC),
        "find claim_billing_note": Operation("GET /api/claim_billing_notes", Certainty.SPEC),
        "refresh tokens": Operation("POST /o/token/", Certainty.GUESS, "refresh tokens are treated as rotating"),
        "rate limits": Operation("10 calls a second, 500 an hour", Certainty.SPEC, "429 without a Retry-After"),
        "check": Operation("GET /api/doctors?page_size=1", Certainty.SPEC),
    }
)


class DrChrono(Client):
    """One practice's account. Safe to share between threads; close it, or use it in a with statement.

    base_url: https, on one of `hosts`; plain http only on this machine. timeout: seconds per network step.
    tokens: where refreshed tokens are kept; give a FileTokenStore where several processes use the account.
    """

    platform = PLATFORM
    extracted = _EXTRACTED

    def __init__(
        self,
        base_url: str,
        credentials: Credentials,
        *,
        tokens: TokenStore | None = None,
        extraction: ExtractionPolicy | None = None,
        policies: Path | None = None,
        budget: RateBudget | None = None,
        circuit: Circuit | None = None,
        timeout: float = 20.0,
        hosts: frozenset[str] = HOSTS,
        task_category: str = "Billing",
    ) -> None:
        self._credentials = credentials
        self._tokens = Refresher(tokens or MemoryTokenStore(), credentials.refresh_token, self._refresh, "DrChrono")
        self._policy = extraction or ExtractionPolicy.load(
            policies or Settings.from_env().policies, PLATFORM, _USED, _NEEDED
        )
        self._task_category = task_category
        self._task_settings: dict[str, int] | None = None
        self._npis: dict[str, str] | None = None
        self._patients: dict[str, dict[str, Any]] = {}
        self._edge = Edge(
            base_url,
            hosts=hosts,
            budget=budget or RateBudget(LIMITS),
            circuit=circuit,
            timeout=timeout,
            headers={"Accept": "application/json"},
        )

    def check(self) -> None:
        self._get("/api/doctors", params={"page_size": "1"})

    def close(self) -> None:
        self._patients.clear()
        self._edge.close()

    # --- claims out ---

    def extract(self, start: date, end: date) -> Extraction:
        """CLAIM_TABLES for service dates start..end, both included, ordered by claim and line.

        Claims with an unreadable record are left out, and counted by reason code.
        """
        appointments: dict[str, dict[str, Any]] = {}
        refused: dict[str, int] = {}
        for low, high in _windows(start, end):
            for record in self._list("appointments", {"date_range": f"{low}/{high}"}):
                if record.get("appt_is_break") or record.get("deleted_flag") or record.get("status") in _NOT_BILLED:
                    continue
                try:
                    if values.day(record["scheduled_time"], "SERVICE_DATE") is None:
                        raise Unreadable("SERVICE_DATE")
                except Unreadable as error:
                    refused[error.reason] = refused.get(error.reason, 0) + 1
                    continue
                appointments[str(record["id"])] = record
        lines = self._lines(appointments)
        billed = {claim: appointments[claim] for claim in sorted(lines)}
        patients = self._load_patients({str(a["patient"]) for a in billed.values() if a.get("patient") is not None})
        npis = self._load_npis()
        claims: list[dict[str, Any]] = []
        claim_lines: list[dict[str, Any]] = []
        for claim_id, appointment in billed.items():
            try:
                rows = [
                    _line(claim_id, number, record, appointment)
                    for number, record in enumerate(sorted(lines[claim_id], key=_by_id), 1)
                ]
                claims.append(
                    _claim(claim_id, appointment, patients.get(str(appointment.get("patient")), {}), npis, rows)
                )
            except Unreadable as error:
                refused[error.reason] = refused.get(error.reason, 0) + 1
                continue
            claim_lines += rows
        return Extraction.of(claims, claim_lines, self._notes(claims, billed, refused), refused)

    @staticmethod
    def _notes(
        claims: Sequence[Mapping[str, Any]], appointments: Mapping[str, Mapping[str, Any]], refused: dict[str, int]
    ) -> list[dict[str, Any]]:
        """What people wrote on the visits and on the claims; what medbill wrote itself is left out."""
        found = []
        for claim in claims:
            appointment = appointments[claim["claim_id"]]
            text = values.text(appointment.get("notes"))
            if text and text.strip():
                found.append(_note(claim, claim["claim_id"], "appointment", claim["service_date"], text))
            for note in appointment.get("billing_notes") or []:
                try:
                    number, text = str(int(note["id"])), str(note["text"] or "")
                except (TypeError, KeyError, ValueError):
                    refused["BILLING_NOTE"] = refused.get("BILLING_NOTE", 0) + 1
                    continue
                if text.strip() and not any(is_reference(line) for line in text.splitlines()):
                    found.append(_note(claim, number, "billing", _note_day(note), text))
        return found

    def _lines(self, appointments: Mapping[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
        """Line items by claim. Asked for by service date; a billed claim without any is asked for by its id."""
        found: dict[str, dict[str, dict[str, Any]]] = {}

        def take(records: Iterator[dict[str, Any]]) -> None:
            for record in records:
                claim = str(record["appointment"])
                if claim in appointments:
                    found.setdefault(claim, {})[str(record["id"])] = record

        for day in sorted({str(a["scheduled_time"])[:10] for a in appointments.values()}):
            take(self._list("line_items", {"service_date": day}))
        for claim in sorted(appointments.keys() - found.keys()):
            if appointments[claim].get("first_billed_date"):
                take(self._list("line_items", {"appointment": claim}))
        return {claim: list(records.values()) for claim, records in found.items()}

    def _load_patients(self, wanted: set[str]) -> dict[str, dict[str, Any]]:
        missing = wanted - self._patients.keys()
        if self._policy.fields.get("patients_summary", frozenset()) <= {"id"}:
            return {}
        if len(missing) <= PATIENTS_ONE_BY_ONE:
            for patient in sorted(missing):
                record = self._get(f"/api/patients_summary/{quote(patient, safe='')}", missing_ok=True)
                if record is not None:
                    self._patients[patient] = self._policy.keep("patients_summary", record)
        else:
            for record in self._list("patients_summary", {}):
                if str(record["id"]) in missing:
                    self._patients[str(record["id"])] = record
        return self._patients

    def _load_npis(self) -> dict[str, str]:
        if self._npis is None:
            self._npis = {}
            for record in self._list("doctors", {}) if self._policy.fields.get("doctors") else ():
                npi = record.get("npi_number") or record.get("group_npi_number")
                if npi and "id" in record:
                    self._npis[str(record["id"])] = str(npi)
        return self._npis

    # --- tasks and notes in ---

    def write(self, write_back: WriteBack) -> Receipt:
        """task: in the billing category, with the text and the reference line as its first note. claim_billing_note: on
        the claim, its last line the reference. Sends once; raises as Writer says."""
        ref = reference(write_back.idempotency_key)
        text = f"{write_back.text}\n{ref}"
        number = _number(write_back.claim_id)
        if write_back.action == "claim_billing_note":
            return self._create("claim_billing_notes", {"appointment": number, "text": text}, write_back.action, ref)
        body: dict[str, Any] = {
            "title": write_back.title,
            "priority": str(write_back.priority),
            **self._load_task_settings(),
            "associated_items": [{"type": "Appointment", "value": number}],
            "notes": [{"text": text}],
        }
        if write_back.due_on is not None:
            body["due_date"] = {"time": f"{write_back.due_on.isoformat()}T17:00:00"}
        return self._create("tasks", body, "task", ref)

    def find(self, write_back: WriteBack) -> Receipt | None:
        """The record that carries the key, None where there is none; tasks last changed before owed_since are skipped."""
        ref = reference(write_back.idempotency_key)
        if write_back.action == "claim_billing_note":
            for note in self._list("claim_billing_notes", {"appointment": str(_number(write_back.claim_id))}):
                if carries(str(note.get("text", "")), ref):
                    return Receipt(PLATFORM, write_back.action, str(note["id"]), ref)
            return None
        query = {"since": write_back.owed_since.isoformat()} if write_back.owed_since else {}
        for task in self._list("tasks", query):
            if any(carries(str(note.get("text", "")), ref) for note in task.get("notes") or []):
                return Receipt(PLATFORM, "task", str(task["id"]), ref)
        for note in self._list("task_notes", query):  # where the list of tasks comes without their notes
            if carries(str(note.get("text", "")), ref):
                return Receipt(PLATFORM, "task", str(note["task"]), ref)
        return None

    def _load_task_settings(self) -> dict[str, int]:
        """The practice's ids for an open status and the billing category; both are named per practice."""
        if self._task_settings is None:
            statuses = [s for s in self._list("task_statuses", {}) if s.get("status_category") == "O"]
            live = [s for s in statuses if not s.get("archived")]
            if not live:
                raise PlatformError(
                    "the practice has no open task status; add one in DrChrono", code="PLATFORM_CONFIGURATION"
                )
            settings = {"status": int(live[0]["id"])}
            for category in self._list("task_categories", {}):
                if category.get("name") == self._task_category and not category.get("archived"):
                    settings["category"] = int(category["id"])
                    break
            self._task_settings = settings
        return self._task_settings

    # --- HTTP ---

    def _list(self, resource: str, query: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """All records of a resource, page by page, each cut down to the policy's fields."""
        path = f"/api/{resource}"
        answer = self._get(path, params={**query, "page_size": str(PAGE_SIZE)})
        seen: set[str] = set()
        while True:
            page = answer.get("results", answer.get("data")) if isinstance(answer, dict) else None
            if not isinstance(page, list):
                raise PlatformError(f"GET {path} did not answer with a page", code="PLATFORM_BAD_ANSWER")
            for record in page:
                if not isinstance(record, dict) or not _NEEDED.get(resource, frozenset({"id"})) <= record.keys():
                    raise PlatformError(
                        f"GET {path} answered with a record that lacks a field the adapter needs",
                        code="PLATFORM_BAD_ANSWER",
                    )
                yield self._policy.keep(resource, record)
            following = answer.get("next")
            if not following:
                return
            if following in seen or len(seen) >= MAX_PAGES:
                raise PlatformError(f"GET {path} pages do not end", code="PLATFORM_BAD_ANSWER")
            seen.add(following)
            answer = self._get(path, params=_next_query(path, str(following)))

    def _get(self, path: str, *, params: Mapping[str, str] | str | None = None, missing_ok: bool = False) -> Any:
        label = f"GET {re.sub(r'/[^/]+$', '/{id}', path) if path.count('/') > 2 else path}"
        resource = path.split("/")[2]
        call = Call(
            "GET",
            path,
            label,
            params=params,
            headers=self._tokens.headers(),
            scope=scope(resource, self._policy.fields.get(resource, frozenset())),
            missing_ok=missing_ok,
        )
        answer = self._edge.send(call)
        return None if answer.status == 404 else _parse(label, answer)

    def _create(self, resource: str, body: Mapping[str, Any], action: str, ref: str) -> Receipt:
        """POST once. Only answers that say «not taken» (401, 429) lead to another try."""
        call = Call(
            "POST",
            f"/api/{resource}",
            f"POST /api/{resource}",
            content=json.dumps(body).encode(),
            headers=self._tokens.headers({"Content-Type": "application/json"}),
            scope=scope(resource, list(body)),
            write=True,
        )
        answer = self._edge.send(call)
        try:
            return Receipt(PLATFORM, action, str(int(_parse(call.label, answer)["id"])), ref)
        except (PlatformError, KeyError, TypeError, ValueError):
            raise unknown_outcome(call, f"answered {answer.status} without a readable id") from None

    def _refresh(self, refresh_token: str) -> Tokens | None:
        """New tokens, None where this refresh token is spent or revoked."""
        form = {
            "grant_type": "refresh_token",
            "refresh_token": refresh_token,
            "client_id": self._credentials.client_id,
            "client_secret": self._credentials.client_secret,
        }
        call = Call(
            "POST",
            "/o/token/",
            "POST /o/token/",
            content=urlencode(form).encode(),
            headers=lambda refused: {"Content-Type": "application/x-www-form-urlencoded"},
        )
        try:
            answer = self._edge.send(call)
        except PlatformError as error:
            if error.code == "PLATFORM_REFUSED":
                return None
            raise
        found = _parse(call.label, answer)
        try:
            return Tokens(
                str(found["access_token"]),
                str(found.get("refresh_token") or refresh_token),
                time.time() + float(found.get("expires_in", 3600)),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise PlatformError(f"{call.label} answered without a token", code="PLATFORM_BAD_ANSWER") from None


def open_(setup: Setup) -> DrChrono:
    """The account of a connection: host, login (client id), password (client secret) and refresh_token."""
    login, password, refresh_token = setup.needs("login", "password", "refresh_token")
    return DrChrono(
        setup.base_url,
        Credentials(login, password, refresh_token),
        tokens=setup.tokens,
        policies=setup.policies,
        budget=RateBudget(LIMITS, setup.calls),
        circuit=setup.circuit,
    )


#: Insurance postings cannot be written by API (/api/transactions is read-only): every kind becomes a task and a note.
ADAPTER = Adapter(PLATFORM, open_, CAPABILITIES, {"*": ("task", "claim_billing_note")})


def _claim(
    claim_id: str,
    appointment: Mapping[str, Any],
    patient: Mapping[str, Any],
    npis: Mapping[str, str],
    lines: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    return {
        "claim_id": claim_id,
        "platform": PLATFORM,
        "patient_id": values.text(appointment.get("patient")),
        "patient_last_name": values.text(patient.get("last_name")),
        "patient_first_name": values.text(patient.get("first_name")),
        "patient_birth_date": values.day(patient.get("date_of_birth"), "PATIENT_BIRTH_DATE"),
        "member_id": values.text(appointment.get("primary_insurance_id_number")),
        "payer_id": values.text(appointment.get("primary_insurer_payer_id")),
        "payer_name": values.text(appointment.get("primary_insurer_name")),
        "rendering_npi": npis.get(str(appointment.get("doctor"))),
        "place_of_service": None,  # DrChrono's appointments do not carry it
        "service_date": values.day(appointment.get("scheduled_time"), "SERVICE_DATE"),
        "billed_date": values.day(appointment.get("first_billed_date"), "BILLED_DATE"),
        "authorization_number": None,
        "billing_status": values.text(appointment.get("ins1_status")),
        "charge": sum((line["charge"] for line in lines), Decimal("0.00")),
    }


def _note(claim: Mapping[str, Any], note_id: str, note_type: str, written_on: date | None, text: str) -> dict[str, Any]:
    of_claim = {name: claim[name] for name in NOTES.names if name in claim}
    return {**of_claim, "note_id": note_id, "note_type": note_type, "written_on": written_on, "text": text}


def _note_day(record: Mapping[str, Any]) -> date | None:
    try:
        return values.day(record.get("created_at"), "NOTE_DATE")
    except Unreadable:
        return None


def _line(claim_id: str, number: int, record: Mapping[str, Any], appointment: Mapping[str, Any]) -> dict[str, Any]:
    quantity = values.decimal(record.get("quantity"), "LINE_QUANTITY")
    charge = values.decimal(record.get("billed"), "LINE_CHARGE")
    if charge is None:
        price = values.decimal(record.get("price"), "LINE_CHARGE")
        if price is None or quantity is None:
            raise Unreadable("LINE_CHARGE")
        charge = price * quantity
    charge = values.money(charge, "LINE_CHARGE")
    return {
        "claim_id": claim_id,
        "line_id": str(record["id"]),
        "line_number": number,
        "procedure_code": values.text(record.get("code")),
        "modifiers": [str(m) for m in record.get("modifiers") or [] if m],
        "units": quantity,
        "charge": charge,
        "diagnosis_codes": _diagnoses(record.get("diagnosis_pointers") or [], appointment.get("icd10_codes") or []),
    }


def _diagnoses(pointers: Sequence[Any], codes: Sequence[Any]) -> list[str]:
    """Diagnosis codes of a line. A pointer is a position in the claim's codes (from 1) or, in old records, a code."""
    found = []
    for pointer in map(str, pointers):
        if pointer.isdigit() and len(pointer) <= 2:
            if 1 <= int(pointer) <= len(codes):
                found.append(str(codes[int(pointer) - 1]))
        elif pointer:
            found.append(pointer)
    return found


def _next_query(path: str, url: str) -> str:
    """The query of a next link. Its host is not followed: the bearer token goes along with every request."""
    parts = urlsplit(url)
    if parts.path.rstrip("/") != path or not parts.query:
        raise PlatformError(f"GET {path}: the next page is somewhere else", code="PLATFORM_BAD_ANSWER")
    return parts.query


def _by_id(record: Mapping[str, Any]) -> tuple[int, str]:
    """Numeric order of ids that are digits, without failing on others."""
    return len(str(record["id"])), str(record["id"])


def _windows(start: date, end: date) -> Iterator[tuple[date, date]]:
    if end < start:
        raise ValueError("the window ends before it starts")
    while start <= end:
        last = min(end, start + timedelta(days=MAX_WINDOW_DAYS))
        yield start, last
        start = last + timedelta(days=1)


def _parse(label: str, answer: Answer) -> Any:
    try:
        return json.loads(answer.content, parse_float=Decimal)
    except (ValueError, RecursionError):
        raise PlatformError(f"{label} did not answer with JSON", code="PLATFORM_BAD_ANSWER") from None


def _number(claim_id: str) -> int:
    if not claim_id.isdigit():
        raise PlatformError("the claim id is not one of DrChrono's", code="PLATFORM_REFUSED")
    return int(claim_id)
