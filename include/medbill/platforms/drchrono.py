"""DrChrono: billed claims out (minimal fields), tasks and claim billing notes in.

One DrChrono appointment with line items is one claim; its id is what the practice sends as CLM01. Wire facts come from
the vendor's OpenAPI description; `capabilities` says how sure we are of each operation. Errors and logs carry neither
query strings nor bodies, since both hold patient data.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pyarrow as pa

from medbill.errors import PlatformError, PlatformUnknownOutcome
from medbill.model.claims import CLAIM_LINES, CLAIMS, NOTES
from medbill.platforms.base import Certainty, Extraction, Operation, Receipt, is_reference, reference
from medbill.platforms.budget import RateBudget
from medbill.platforms.extraction import ExtractionPolicy
from medbill.platforms.oauth import Credentials, MemoryTokenStore, Tokens, TokenStore
from medbill.settings import Settings

# httpx logs every URL at INFO and httpcore every header at DEBUG: patient ids and bearer tokens
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


PLATFORM = "drchrono"
#: The vendor's hosts; a base URL elsewhere is refused unless it is named or on this machine.
HOSTS = frozenset({"app.drchrono.com", "drchrono.com"})
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
#: The vendor's longest date_range, in days between both ends.
MAX_WINDOW_DAYS = 190
PAGE_SIZE = 250
MAX_PAGES = 4000
#: Up to this many patients are asked for one by one; beyond, the list is read and the others dropped.
PATIENTS_ONE_BY_ONE = 50
_ATTEMPTS = 4
_NOT_BILLED = frozenset({"Cancelled", "Rescheduled", "No Show"})
_KEY = re.compile(r"[A-Za-z0-9._-]{8,100}")

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

_CAPABILITIES = MappingProxyType(
    {
        "extract": Operation(
            "GET /api/appointments, /api/line_items, /api/patients_summary, /api/doctors",
            Certainty.SPEC,
            "the page envelope differs between the specification (data) and every client read (results): both are read",
        ),
        "write_task": Operation("POST /api/tasks", Certainty.SPEC, "the shape of due_date is a guess"),
        "write_claim_note": Operation("POST /api/claim_billing_notes", Certainty.SPEC),
        "find_task": Operation("GET /api/tasks, /api/task_notes", Certainty.SPEC),
        "find_claim_note": Operation("GET /api/claim_billing_notes", Certainty.SPEC),
        "refresh_tokens": Operation("POST /o/token/", Certainty.GUESS, "refresh tokens are treated as rotating"),
    }
)


class DrChrono:
    """One practice's account. Safe to share between threads; close it, or use it in a with statement.

    base_url: https, on one of `hosts`; plain http only on this machine. timeout: seconds per network step.
    tokens: where refreshed tokens are kept; give a FileTokenStore where several processes use the account.
    """

    def __init__(
        self,
        base_url: str,
        credentials: Credentials,
        *,
        tokens: TokenStore | None = None,
        extraction: ExtractionPolicy | None = None,
        policies: Path | None = None,
        budget: RateBudget | None = None,
        timeout: float = 20.0,
        hosts: frozenset[str] = HOSTS,
        task_category: str = "Billing",
    ) -> None:
        self._base = base_url.rstrip("/")
        self._origin = _allowed_origin(self._base, hosts)
        self._credentials = credentials
        self._tokens = tokens or MemoryTokenStore()
        self._policy = extraction or ExtractionPolicy.load(
            policies or Settings.from_env().policies, PLATFORM, _USED, _NEEDED
        )
        self._budget = budget or RateBudget()
        self._task_category = task_category
        self._task_settings: dict[str, int] | None = None
        self._npis: dict[str, str] | None = None
        self._patients: dict[str, dict[str, Any]] = {}
        self._client = httpx.Client(
            timeout=timeout,
            follow_redirects=False,
            trust_env=self._origin[1] not in _LOOPBACK,  # a proxy cannot reach our loopback
            headers={"Accept": "application/json"},
        )

    @property
    def name(self) -> str:
        return PLATFORM

    @property
    def capabilities(self) -> Mapping[str, Operation]:
        return _CAPABILITIES

    def close(self) -> None:
        self._patients.clear()
        self._client.close()

    def __enter__(self) -> DrChrono:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
                    if _date(record["scheduled_time"], "SERVICE_DATE") is None:
                        raise _Unreadable("SERVICE_DATE")
                except _Unreadable as error:
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
            except _Unreadable as error:
                refused[error.reason] = refused.get(error.reason, 0) + 1
                continue
            claim_lines += rows
        return Extraction(
            {
                "claims": pa.Table.from_pylist(claims, schema=CLAIMS),
                "claim_lines": pa.Table.from_pylist(claim_lines, schema=CLAIM_LINES),
            },
            pa.Table.from_pylist(self._notes(claims, billed, refused), schema=NOTES),
            refused,
        )

    @staticmethod
    def _notes(
        claims: Sequence[Mapping[str, Any]], appointments: Mapping[str, Mapping[str, Any]], refused: dict[str, int]
    ) -> list[dict[str, Any]]:
        """What people wrote on the visits and on the claims; what medbill wrote itself is left out."""
        found = []
        for claim in claims:
            appointment = appointments[claim["claim_id"]]
            text = _text(appointment.get("notes"))
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

    def write_task(
        self,
        *,
        idempotency_key: str,
        claim_id: str,
        title: str,
        text: str,
        priority: int = 20,
        due_on: date | None = None,
    ) -> Receipt:
        """A task about a claim, in the billing category, with the text and the reference line as its first note.

        priority: 10 low, 20 medium, 30 high, 40 urgent. Sends once. Raises PlatformError where the platform refused it
        or was never reached, PlatformUnknownOutcome where it may have taken it: then ask find_task before sending again.
        """
        ref = _reference(idempotency_key)
        body: dict[str, Any] = {
            "title": title,
            "priority": str(priority),
            **self._load_task_settings(),
            "associated_items": [{"type": "Appointment", "value": _number(claim_id)}],
            "notes": [{"text": f"{text}\n{ref}"}],
        }
        if due_on is not None:
            body["due_date"] = {"time": f"{due_on.isoformat()}T17:00:00"}
        return self._create("/api/tasks", body, "task", ref)

    def write_claim_note(self, *, idempotency_key: str, claim_id: str, text: str) -> Receipt:
        """A billing note on a claim, its last line the reference. Sends once; errors as write_task."""
        ref = _reference(idempotency_key)
        body = {"appointment": _number(claim_id), "text": f"{text}\n{ref}"}
        return self._create("/api/claim_billing_notes", body, "claim_billing_note", ref)

    def find_task(self, idempotency_key: str, *, since: date | None = None) -> Receipt | None:
        """The task that carries the key, None where there is none. since: skip tasks last changed before that day."""
        ref = _reference(idempotency_key)
        query = {"since": since.isoformat()} if since else {}
        for task in self._list("tasks", query):
            if any(_carries(str(note.get("text", "")), ref) for note in task.get("notes") or []):
                return Receipt(PLATFORM, "task", str(task["id"]), ref)
        for note in self._list("task_notes", query):  # where the list of tasks comes without their notes
            if _carries(str(note.get("text", "")), ref):
                return Receipt(PLATFORM, "task", str(note["task"]), ref)
        return None

    def find_claim_note(self, idempotency_key: str, *, claim_id: str) -> Receipt | None:
        """The billing note of a claim that carries the key, None where there is none."""
        ref = _reference(idempotency_key)
        for note in self._list("claim_billing_notes", {"appointment": str(_number(claim_id))}):
            if _carries(str(note.get("text", "")), ref):
                return Receipt(PLATFORM, "claim_billing_note", str(note["id"]), ref)
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
        stale: str | None = None
        for attempt in range(_ATTEMPTS):
            token = self._access_token(stale)
            self._budget.take()
            last = attempt == _ATTEMPTS - 1
            try:
                response = self._client.get(
                    f"{self._base}{path}",
                    params=params,
                    headers={"Authorization": f"Bearer {token}"},
                )
            except httpx.TransportError as error:
                if last:
                    raise _unreachable(label, error) from None
                self._budget.pause(0.25 * 2**attempt)
                continue
            status = response.status_code
            if status == 200:
                return _parse(label, response)
            if status == 404 and missing_ok:
                return None
            if status == 401 and stale is None:
                stale = token
            elif (status == 429 or status >= 500) and not last:
                self._budget.pause(_retry_after(response, attempt))
            else:
                raise _error(label, status)
        raise _error(label, 429)

    def _create(self, path: str, body: Mapping[str, Any], action: str, ref: str) -> Receipt:
        """POST once. Only answers that say «not taken» (401, 429) lead to another try."""
        label = f"POST {path}"
        stale: str | None = None
        for attempt in range(_ATTEMPTS):
            token = self._access_token(stale)
            self._budget.take()
            try:
                response = self._client.post(
                    f"{self._base}{path}", json=body, headers={"Authorization": f"Bearer {token}"}
                )
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
                raise _unreachable(label, error) from None
            except httpx.TransportError as error:
                raise PlatformUnknownOutcome(
                    f"{label} was sent and no answer came ({type(error).__name__}); read back before sending again"
                ) from None
            status = response.status_code
            if status == 401 and stale is None:
                stale = token
            elif status == 429 and attempt < _ATTEMPTS - 1:
                self._budget.pause(_retry_after(response, attempt))
            elif status >= 500:
                raise PlatformUnknownOutcome(f"{label} answered {status}; read back before sending again")
            elif status not in (200, 201):
                raise _error(label, status)
            else:
                try:
                    return Receipt(PLATFORM, action, str(int(_parse(label, response)["id"])), ref)
                except (PlatformError, KeyError, TypeError, ValueError):
                    raise PlatformUnknownOutcome(
                        f"{label} answered {status} without a readable id; read back before sending again"
                    ) from None
        raise _error(label, 429)

    def _access_token(self, stale: str | None) -> str:
        """A live access token; stale is one the platform has just refused. One caller refreshes, the others wait."""
        tokens = self._tokens.read()
        if tokens is not None and _live(tokens, stale):
            return tokens.access_token
        with self._tokens.locked():
            tokens = self._tokens.read()
            if tokens is not None and _live(tokens, stale):
                return tokens.access_token
            candidates = [tokens.refresh_token] if tokens is not None else []
            if self._credentials.refresh_token not in candidates:
                candidates.append(self._credentials.refresh_token)
            for refresh_token in candidates:
                fresh = self._refresh(refresh_token)
                if fresh is not None:
                    self._tokens.write(fresh)
                    return fresh.access_token
        raise PlatformError(
            "DrChrono refuses the refresh token; authorize the application again", code="PLATFORM_CREDENTIALS"
        )

    def _refresh(self, refresh_token: str) -> Tokens | None:
        """New tokens, None where this refresh token is spent or revoked."""
        label = "POST /o/token/"
        form = {
            "grant_type": "refresh_token",
            "refresh_token": refresh_token,
            "client_id": self._credentials.client_id,
            "client_secret": self._credentials.client_secret,
        }
        for attempt in range(_ATTEMPTS):
            last = attempt == _ATTEMPTS - 1
            try:
                response = self._client.post(f"{self._base}/o/token/", data=form)
            except httpx.TransportError as error:
                if last:
                    raise _unreachable(label, error) from None
                self._budget.pause(0.25 * 2**attempt)
                continue
            if response.status_code == 200:
                answer = _parse(label, response)
                try:
                    return Tokens(
                        str(answer["access_token"]),
                        str(answer.get("refresh_token") or refresh_token),
                        time.time() + float(answer.get("expires_in", 3600)),
                    )
                except (KeyError, TypeError, ValueError, AttributeError):
                    raise PlatformError(f"{label} answered without a token", code="PLATFORM_BAD_ANSWER") from None
            if response.status_code == 400:
                return None
            if (response.status_code == 429 or response.status_code >= 500) and not last:
                self._budget.pause(_retry_after(response, attempt))
                continue
            raise _error(label, response.status_code)
        return None


class _Unreadable(Exception):
    """A record that cannot be read; reason is a code without any value of the record."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


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
        "patient_id": _text(appointment.get("patient")),
        "patient_last_name": _text(patient.get("last_name")),
        "patient_first_name": _text(patient.get("first_name")),
        "patient_birth_date": _date(patient.get("date_of_birth"), "PATIENT_BIRTH_DATE"),
        "member_id": _text(appointment.get("primary_insurance_id_number")),
        "payer_id": _text(appointment.get("primary_insurer_payer_id")),
        "payer_name": _text(appointment.get("primary_insurer_name")),
        "rendering_npi": npis.get(str(appointment.get("doctor"))),
        "place_of_service": None,  # DrChrono's appointments do not carry it
        "service_date": _date(appointment.get("scheduled_time"), "SERVICE_DATE"),
        "billed_date": _date(appointment.get("first_billed_date"), "BILLED_DATE"),
        "authorization_number": None,
        "billing_status": _text(appointment.get("ins1_status")),
        "charge": sum((line["charge"] for line in lines), Decimal("0.00")),
    }


def _note(claim: Mapping[str, Any], note_id: str, note_type: str, written_on: date | None, text: str) -> dict[str, Any]:
    of_claim = {name: claim[name] for name in NOTES.names if name in claim}
    return {**of_claim, "note_id": note_id, "note_type": note_type, "written_on": written_on, "text": text}


def _note_day(record: Mapping[str, Any]) -> date | None:
    try:
        return _date(record.get("created_at"), "NOTE_DATE")
    except _Unreadable:
        return None


def _line(claim_id: str, number: int, record: Mapping[str, Any], appointment: Mapping[str, Any]) -> dict[str, Any]:
    quantity = _decimal(record.get("quantity"), "LINE_QUANTITY")
    charge = _decimal(record.get("billed"), "LINE_CHARGE")
    if charge is None:
        price = _decimal(record.get("price"), "LINE_CHARGE")
        if price is None or quantity is None:
            raise _Unreadable("LINE_CHARGE")
        charge = price * quantity
    if charge != charge.quantize(Decimal("0.01")):
        raise _Unreadable("LINE_CHARGE")
    return {
        "claim_id": claim_id,
        "line_id": str(record["id"]),
        "line_number": number,
        "procedure_code": _text(record.get("code")),
        "modifiers": [str(m) for m in record.get("modifiers") or [] if m],
        "units": quantity,
        "charge": charge.quantize(Decimal("0.01")),
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


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)


def _date(value: Any, reason: str) -> date | None:
    if value is None or value == "":
        return None
    try:
        return date.fromisoformat(str(value)[:10])
    except ValueError:
        raise _Unreadable(reason) from None


def _decimal(value: Any, reason: str) -> Decimal | None:
    if value is None or value == "":
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise _Unreadable(reason) from None
    if not number.is_finite() or abs(number) >= Decimal(10) ** 12:
        raise _Unreadable(reason)
    return number


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


def _allowed_origin(url: str, hosts: frozenset[str]) -> tuple[str, str, int | None]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        parts, host, port = urlsplit(""), "", None
    local = host in _LOOPBACK and parts.scheme in ("http", "https")
    if not local and not (parts.scheme == "https" and host in hosts):
        raise PlatformError(
            "the platform's address is not allowed: it must be https on a host of the allow-list, or on this machine",
            code="PLATFORM_HOST_REFUSED",
        )
    if parts.username or parts.password or parts.query or parts.fragment or parts.path not in ("", "/"):
        raise PlatformError("the platform's address must be scheme and host only", code="PLATFORM_HOST_REFUSED")
    return parts.scheme, host, port


def _parse(label: str, response: httpx.Response) -> Any:
    try:
        return json.loads(response.content, parse_float=Decimal)
    except (ValueError, RecursionError):
        raise PlatformError(f"{label} did not answer with JSON", code="PLATFORM_BAD_ANSWER") from None


def _retry_after(response: httpx.Response, attempt: int) -> float:
    """Seconds to wait: what the platform says, else doubling from half a second (the burst limit is one second)."""
    said = response.headers.get("Retry-After", "")
    return float(said) if said.isdigit() else 0.5 * 2.0**attempt


def _live(tokens: Tokens, stale: str | None) -> bool:
    return tokens.access_token != stale and tokens.expires_at > time.time() + 60


def _unreachable(label: str, error: httpx.TransportError) -> PlatformError:
    return PlatformError(
        f"{label} got no answer ({type(error).__name__}); check the platform's address and the network",
        code="PLATFORM_UNREACHABLE",
    )


def _error(label: str, status: int) -> PlatformError:
    code, hint = {
        401: ("PLATFORM_CREDENTIALS", "authorize the application again"),
        403: ("PLATFORM_FORBIDDEN", "the account lacks the scope for it"),
        404: ("PLATFORM_NOT_FOUND", "the record does not exist on the platform"),
        405: ("PLATFORM_READ_ONLY", "the platform does not take this by API"),
        429: ("PLATFORM_RATE_LIMITED", "run the task again later"),
    }.get(
        status,
        ("PLATFORM_REFUSED", "the platform refused the request") if status < 500 else ("PLATFORM_ERROR", "retry"),
    )
    return PlatformError(f"{label} answered {status}; {hint}", code=code)


def _reference(idempotency_key: str) -> str:
    if not _KEY.fullmatch(idempotency_key):
        raise ValueError("an idempotency key has 8 to 100 letters, digits, dots, dashes or underscores")
    return reference(idempotency_key)


def _carries(text: str, ref: str) -> bool:
    return any(line.strip() == ref for line in text.splitlines())


def _number(claim_id: str) -> int:
    if not claim_id.isdigit():
        raise PlatformError("the claim id is not one of DrChrono's", code="PLATFORM_REFUSED")
    return int(claim_id)
