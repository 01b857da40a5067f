"""A stand-in for DrChrono's API on the loopback interface, in its wire format.

OAuth2 with authorization code and rotating refresh tokens, bearer scopes per path, cursor pages, rate limits, field
errors, and writes that survive a restart. What is served comes from practice.json in the state folder; what is written
goes to state.sqlite beside it. Sources of each behaviour: docs/sandbox.md. For tests and demonstrations: no real data.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import sqlite3
import threading
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

from medbill.errors import BadInput
from medbill.sandbox import wire
from medbill.sandbox.faults import Fault, disturb
from medbill.sandbox.server import Handler, Records, Refused, StandIn
from medbill.sandbox.server import Server as HttpServer

PRACTICE_FILE = "practice.json"
CREDENTIALS_FILE = "credentials.json"
STATE_FILE = "state.sqlite"
MAX_PAGE = 250
MAX_VERBOSE_PAGE = 25
MAX_DATE_RANGE = timedelta(days=190)

#: What a service account of medbill needs, and no more.
SCOPES = "calendar:read patients:summary:read billing:read billing:write user:read tasks:read tasks:write"

#: resource -> scope names without :read/:write, any of which opens it
_SCOPES: dict[str, tuple[str, ...]] = {
    "appointments": ("calendar", "clinical"),
    "patients": ("patients",),
    "patients_summary": ("patients:summary", "patients"),
    "line_items": ("billing",),
    "transactions": ("billing",),
    "eobs": ("billing",),
    "claim_billing_notes": ("billing",),
    "insurances": ("user",),
    "doctors": ("user",),
    "offices": ("user",),
    "users": ("user",),
    "tasks": ("tasks",),
    "task_notes": ("tasks",),
    "task_categories": ("tasks",),
    "task_statuses": ("tasks",),
}
#: query parameter -> (field, how it is compared)
_FILTERS: dict[str, dict[str, tuple[str, str]]] = {
    "appointments": {
        "patient": ("patient", "same"),
        "office": ("office", "same"),
        "doctor": ("doctor", "same"),
        "status": ("status", "same"),
        "since": ("updated_at", "since"),
        "occurred_since": ("scheduled_time", "since"),
        "date": ("scheduled_time", "day"),
        "date_range": ("scheduled_time", "range"),
    },
    "patients": {
        **{
            n: (n, "same")
            for n in ("first_name", "last_name", "gender", "doctor", "date_of_birth", "chart_id", "email")
        },
        "since": ("updated_at", "since"),
    },
    "line_items": {
        "patient": ("patient", "same"),
        "doctor": ("doctor", "same"),
        "appointment": ("appointment", "same"),
        "posted_date": ("posted_date", "day"),
        "service_date": ("service_date", "day"),
        "since": ("updated_at", "since"),
    },
    "transactions": {
        "line_item": ("line_item", "same"),
        "appointment": ("appointment", "same"),
        "doctor": ("doctor", "same"),
        "posted_date": ("posted_date", "day"),
        "since": ("updated_at", "since"),
    },
    "eobs": {"doctor": ("doctor", "same")},
    "claim_billing_notes": {"appointment": ("appointment", "same")},
    "tasks": {
        **{n: (n, "same") for n in ("status", "category", "assignee_user", "assignee_group")},
        "since": ("updated_at", "since"),
    },
    "task_notes": {"task": ("task", "same"), "since": ("updated_at", "since")},
    "insurances": {"term": ("payer_name", "contains")},
}
_FILTERS["patients_summary"] = _FILTERS["patients"]
_WRITABLE = ("tasks", "task_notes", "claim_billing_notes", "eobs")
_REQUIRED = {
    "tasks": ("title", "status"),
    "task_notes": ("task", "text"),
    "claim_billing_notes": ("appointment",),
    "eobs": ("doctor", "insurance_payer_id", "insurance_payer_name", "insurance_payer_trace_number"),
}


@dataclass
class Limits:
    """The vendor's published limits by default: calls in one second, calls in one clock hour."""

    per_second: int = 10
    per_hour: int = 500
    retry_after: int | None = None  # seconds to send along with 429; the vendor documents none


class Store:
    """What was written and which tokens live, in one SQLite file."""

    def __init__(self, path: Path | str) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.executescript(
            """
            CREATE TABLE IF NOT EXISTS objects(id INTEGER PRIMARY KEY AUTOINCREMENT, resource TEXT NOT NULL, body TEXT NOT NULL);
            CREATE TABLE IF NOT EXISTS tokens(hash TEXT PRIMARY KEY, kind TEXT NOT NULL, scopes TEXT NOT NULL,
              expires REAL NOT NULL, replaces TEXT, dead INTEGER NOT NULL DEFAULT 0);
            INSERT OR IGNORE INTO sqlite_sequence(name, seq) SELECT 'objects', 1000000
              WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'objects');
            """
        )

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def add(self, resource: str, record: wire.Record) -> wire.Record:
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            row = self._db.execute("INSERT INTO objects(resource, body) VALUES (?, '')", (resource,))
            whole = {"id": row.lastrowid, **record}
            self._db.execute("UPDATE objects SET body = ? WHERE id = ?", (wire.dumps(whole), row.lastrowid))
        return whole

    def all(self, resource: str) -> list[wire.Record]:
        with self._lock:
            rows = self._db.execute("SELECT body FROM objects WHERE resource = ? ORDER BY id", (resource,)).fetchall()
        return [wire.loads(body) for (body,) in rows]

    def written(self) -> dict[str, list[wire.Record]]:
        return {resource: self.all(resource) for resource in _WRITABLE}

    def issue(
        self, kind: str, scopes: str, seconds: float, replaces: str | None = None, token: str | None = None
    ) -> str:
        """A new token of a kind (code, access, refresh); only its hash is kept."""
        token = token or secrets.token_urlsafe(24)
        with self._lock:
            self._db.execute(
                "INSERT OR IGNORE INTO tokens(hash, kind, scopes, expires, replaces) VALUES (?, ?, ?, ?, ?)",
                (_hash(token), kind, scopes, time.time() + seconds, replaces),
            )
        return token

    def scopes(self, kind: str, token: str) -> str | None:
        """The scopes of a live token, None where it is unknown, spent or expired."""
        with self._lock:
            row = self._db.execute(
                "SELECT scopes, expires FROM tokens WHERE hash = ? AND kind = ? AND dead = 0", (_hash(token), kind)
            ).fetchone()
            if row is None or row[1] < time.time():
                return None
            # the use of a new token ends the one it replaces: a client that never got the answer may ask again
            replaced = self._db.execute("SELECT replaces FROM tokens WHERE hash = ?", (_hash(token),)).fetchone()[0]
            if replaced:
                self._db.execute("UPDATE tokens SET dead = 1 WHERE hash = ?", (replaced,))
        return str(row[0])

    def revive(self, token: str) -> None:
        """Make a spent token good again: each start of the sandbox authorizes its application anew."""
        with self._lock:
            self._db.execute("UPDATE tokens SET dead = 0 WHERE hash = ?", (_hash(token),))

    def spend(self, token: str) -> None:
        with self._lock:
            self._db.execute("UPDATE tokens SET dead = 1 WHERE hash = ?", (_hash(token),))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class Sandbox(StandIn):
    """The state behind the server: practice, store, clients, limits and faults."""

    def __init__(
        self,
        folder: Path,
        limits: Limits | None = None,
        access_seconds: float = 172_800,
        strict_rotation: bool = False,
    ) -> None:
        super().__init__()
        self.folder, self.limits = folder, limits or Limits()
        self.access_seconds, self.strict_rotation = access_seconds, strict_rotation
        try:
            self.credentials = json.loads((self.folder / CREDENTIALS_FILE).read_text())
        except (OSError, ValueError):
            raise BadInput(
                "the state folder has no practice; run `medbill sandbox seed` first", code="SANDBOX_NOT_SEEDED"
            ) from None
        self.store = Store(self.folder / STATE_FILE)
        self.store.issue(
            "refresh", self.credentials["scope"], 10 * 365 * 86_400, token=self.credentials["refresh_token"]
        )
        self.store.revive(self.credentials["refresh_token"])
        self._calls: deque[float] = deque()
        self._hour = (0, 0)
        self._seeded = Records(folder / PRACTICE_FILE)

    def records(self, resource: str) -> list[wire.Record]:
        """All records of a resource in order of id; practice.json is read again when it was replaced."""
        base = self._seeded.of
        if resource == "patients_summary":
            return [wire.summary(p) for p in base("patients")]
        found = base(resource) + (self.store.all(resource) if resource in _WRITABLE else [])
        if resource == "tasks":
            notes = self.store.all("task_notes")
            return [t | {"notes": [n for n in notes if n["task"] == t["id"]]} for t in found]
        if resource == "appointments":
            billing_notes: dict[str, list[wire.Record]] = {}
            for note in base("claim_billing_notes") + self.store.all("claim_billing_notes"):
                billing_notes.setdefault(str(note["appointment"]), []).append(note)
            return [a | {"billing_notes": billing_notes.get(a["id"], [])} for a in found]
        return found

    def throttled(self) -> bool:
        """Count one call; True where it is over the burst or the hourly limit (which starts again on the hour)."""
        with self.lock:
            now = time.monotonic()
            hour = int(time.time() // 3600)
            if self._hour[0] != hour:
                self._hour = (hour, 0)
            while self._calls and self._calls[0] <= now - 1:
                self._calls.popleft()
            if len(self._calls) >= self.limits.per_second or self._hour[1] >= self.limits.per_hour:
                return True
            self._calls.append(now)
            self._hour = (hour, self._hour[1] + 1)
            return False

    def written(self) -> dict[str, list[wire.Record]]:
        return self.store.written()

    def close(self) -> None:
        self.store.close()


class _Handler(Handler):
    server: Server

    def refusal(self, status: int, detail: str) -> Any:
        return {"detail": detail}

    def render(self, answer: Any) -> tuple[str, bytes]:
        return "application/json", wire.dumps(answer).encode()

    # --- OAuth2 ---

    def reply(
        self, method: str, path: str, query: dict[str, list[str]], body: bytes, fault: Fault | None
    ) -> tuple[int, Any, dict[str, str]]:
        if path == "/o/authorize" and method == "GET":
            return self._authorize({k: v[-1] for k, v in query.items()})
        if path == "/o/token" and method == "POST":
            return 200, self._token({k: v[-1] for k, v in parse_qs(body.decode("utf-8", "replace")).items()}), {}
        parts = path.split("/")
        if len(parts) not in (3, 4) or parts[1] != "api" or parts[2] not in _SCOPES:
            raise Refused(404, {"detail": "Not found."})
        resource, number = parts[2], parts[3] if len(parts) == 4 else None
        sandbox = self.server.sandbox
        if fault and fault.kind == "expired":
            raise Refused(401, {"detail": "Invalid token."}, {"WWW-Authenticate": 'Bearer realm="api"'})
        scopes = self._scopes()
        if (fault and fault.kind == "throttle") or sandbox.throttled():
            extra = {"Retry-After": str(sandbox.limits.retry_after)} if sandbox.limits.retry_after is not None else {}
            raise Refused(429, {"detail": "Request was throttled."}, extra)
        kind = "read" if method == "GET" else "write"
        if not any(f"{scope}:{kind}" in scopes for scope in _SCOPES[resource]):
            raise Refused(403, {"detail": "You do not have permission to perform this action."})
        flat = {k: v[-1] for k, v in query.items()}
        if method == "GET":
            if number is None:
                page = self._page(resource, flat)
                page["results"] = disturb(fault, page["results"])
                if fault and fault.kind == "data_envelope":
                    page["data"] = page.pop("results")
                return 200, page, {}
            found = [r for r in sandbox.records(resource) if str(r["id"]) == number]
            if not found:
                raise Refused(404, {"detail": "Not found."})
            return 200, found[0], {}
        if method == "POST" and number is None and resource in _WRITABLE:
            return 201, self._create(resource, body), {}
        raise Refused(405, {"detail": f'Method "{method}" not allowed.'}, {"Allow": "GET, HEAD, OPTIONS"})

    def _authorize(self, q: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        """Grant at once: a sandbox has no person who could click."""
        credentials = self.server.sandbox.credentials
        if q.get("client_id") != credentials["client_id"] or q.get("redirect_uri") not in credentials["redirect_uris"]:
            raise Refused(400, {"error": "invalid_request"})
        back = {"state": q["state"]} if "state" in q else {}
        if q.get("response_type") != "code":
            back["error"] = "unsupported_response_type"
        else:
            wanted = q.get("scope", credentials["scope"])
            back["code"] = self.server.sandbox.store.issue("code", wanted, 60)
        return 302, {}, {"Location": f"{q['redirect_uri']}?{urlencode(back)}"}

    def _token(self, form: dict[str, str]) -> dict[str, Any]:
        sandbox = self.server.sandbox
        own = sandbox.credentials
        right = secrets.compare_digest(form.get("client_secret", ""), own["client_secret"])
        if form.get("client_id") != own["client_id"] or not right:
            raise Refused(401, {"error": "invalid_client"})
        grant = form.get("grant_type")
        if grant == "authorization_code":
            used, kind = form.get("code", ""), "code"
            if form.get("redirect_uri") not in own["redirect_uris"]:
                raise Refused(400, {"error": "invalid_grant"})
        elif grant == "refresh_token":
            used, kind = form.get("refresh_token", ""), "refresh"
        else:
            raise Refused(400, {"error": "unsupported_grant_type"})
        scopes = sandbox.store.scopes(kind, used)
        if scopes is None:
            raise Refused(400, {"error": "invalid_grant"})
        replaces = None
        if kind == "code" or sandbox.strict_rotation:
            sandbox.store.spend(used)
        else:
            replaces = _hash(used)
        access = sandbox.store.issue("access", scopes, sandbox.access_seconds, replaces)
        refresh = sandbox.store.issue("refresh", scopes, 10 * 365 * 86_400, replaces)
        return {
            "access_token": access,
            "refresh_token": refresh,
            "expires_in": int(sandbox.access_seconds),
            "token_type": "Bearer",
            "scope": scopes,
        }

    def _scopes(self) -> set[str]:
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        scopes = self.server.sandbox.store.scopes("access", token) if kind.lower() == "bearer" else None
        if scopes is None:
            detail = "Authentication credentials were not provided." if not token else "Invalid token."
            raise Refused(401, {"detail": detail}, {"WWW-Authenticate": 'Bearer realm="api"'})
        return set(scopes.split())

    # --- reading ---

    def _page(self, resource: str, query: dict[str, str]) -> dict[str, Any]:
        if resource == "insurances" and query.get("payer_type") not in ("emdeon", "gateway", "ihcfa"):
            raise Refused(400, {"payer_type": ["This field is required."]})
        rows = self.server.sandbox.records(resource)
        for name, (column, how) in _FILTERS.get(resource, {}).items():
            if name in query:
                rows = _filter(rows, name, column, how, query[name])
        most = MAX_VERBOSE_PAGE if resource == "appointments" and query.get("verbose") == "true" else MAX_PAGE
        size = min(max(_integer("page_size", query.get("page_size", str(most))), 1), most)
        after = _decode_cursor(query["cursor"]) if "cursor" in query else -1
        rest = [r for r in rows if int(r["id"]) > after]
        page = rest[:size]
        following = None
        if len(rest) > size:
            more = {k: v for k, v in query.items() if k != "cursor"} | {"cursor": _encode_cursor(int(page[-1]["id"]))}
            following = f"http://{self.headers['Host']}/api/{resource}?{urlencode(more)}"
        return {"previous": None, "results": page, "next": following}

    # --- writing ---

    def _create(self, resource: str, body: bytes) -> wire.Record:
        try:
            given = wire.loads(body)
        except (ValueError, RecursionError):
            raise Refused(400, {"detail": "JSON parse error."}) from None
        if not isinstance(given, dict):
            raise Refused(400, {"non_field_errors": ["Invalid data. Expected a dictionary."]})
        errors = {f: ["This field is required."] for f in _REQUIRED[resource] if given.get(f) in (None, "")}
        if not errors:
            errors = self._invalid(resource, given)
        if errors:
            raise Refused(400, errors)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
        stamps = {"created_at": now, "updated_at": now, "created_by": str(wire.BILLING_USER)}
        store = self.server.sandbox.store
        if resource == "claim_billing_notes":
            return store.add(
                resource,
                {
                    "appointment": int(given["appointment"]),
                    "text": str(given.get("text", "")),
                    "created_at": now,
                    "created_by": str(wire.BILLING_USER),
                },
            )
        if resource == "task_notes":
            return store.add(
                resource, {"task": int(given["task"]), "text": str(given["text"]), "archived": False, **stamps}
            )
        if resource == "eobs":
            return store.add(resource, {**given, "posted_date": now[:10], "updated_at": now})
        task = store.add(
            resource,
            {
                "title": str(given["title"]),
                "status": given["status"],
                "category": given.get("category"),
                "priority": str(given.get("priority", "20")),
                "due_date": given.get("due_date"),
                "assignee_user": given.get("assignee_user"),
                "assignee_group": given.get("assignee_group"),
                "associated_items": given.get("associated_items") or [],
                "archived": False,
                "assigned_by": str(wire.BILLING_USER),
                **stamps,
            },
        )
        notes = [
            store.add("task_notes", {"task": task["id"], "text": str(n.get("text", "")), "archived": False, **stamps})
            for n in given.get("notes") or []
        ]
        return task | {"notes": notes}

    def _invalid(self, resource: str, given: wire.Record) -> dict[str, list[str]]:
        def unknown(name: str, among: str) -> dict[str, list[str]]:
            if given.get(name) is None:
                return {}
            known = {str(r["id"]) for r in self.server.sandbox.records(among)}
            if str(given[name]) in known:
                return {}
            return {name: ["Invalid pk - object does not exist."]}

        if resource == "claim_billing_notes":
            return unknown("appointment", "appointments")
        if resource == "task_notes":
            return unknown("task", "tasks")
        if resource == "eobs":
            return unknown("doctor", "doctors")
        errors = unknown("status", "task_statuses") | unknown("category", "task_categories")
        if str(given.get("priority", "20")) not in ("10", "20", "30", "40"):
            errors["priority"] = ["Not a valid choice."]
        notes = given.get("notes") or []
        if not isinstance(notes, list) or not all(isinstance(n, dict) for n in notes):
            errors["notes"] = ["Expected a list of items."]
        items = given.get("associated_items") or []
        if not isinstance(items, list) or not all(isinstance(i, dict) and "type" in i and "value" in i for i in items):
            errors["associated_items"] = ["Expected a list of items."]
        return errors


def _filter(rows: list[wire.Record], name: str, column: str, how: str, value: str) -> list[wire.Record]:
    if how == "same":
        return [r for r in rows if str(r[column]) == value]
    if how == "contains":
        return [r for r in rows if value.lower() in str(r[column]).lower()]
    if how == "day":
        wanted = _day(name, value).isoformat()
        return [r for r in rows if str(r[column])[:10] == wanted]
    if how == "since":
        _day(name, value[:10])
        return [r for r in rows if str(r[column]) >= value]
    low_text, slash, high_text = value.partition("/")
    low, high = _day(name, low_text), _day(name, high_text if slash else low_text)
    if high - low > MAX_DATE_RANGE:
        raise Refused(400, {name: ["The date range may not exceed 190 days."]})
    return [r for r in rows if low.isoformat() <= str(r[column])[:10] <= high.isoformat()]


def _day(name: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Refused(400, {name: ["Enter a valid date."]}) from None


def _integer(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise Refused(400, {name: ["A valid integer is required."]}) from None


def _encode_cursor(number: int) -> str:
    return base64.urlsafe_b64encode(f"p={number}".encode()).decode()


def _decode_cursor(cursor: str) -> int:
    try:
        return int(base64.urlsafe_b64decode(cursor.encode()).decode().removeprefix("p="))
    except ValueError:
        raise Refused(404, {"detail": "Invalid cursor"}) from None


class Server(HttpServer):
    """The server of one Sandbox."""

    sandbox: Sandbox

    def __init__(self, sandbox: Sandbox, port: int = 0) -> None:
        super().__init__(sandbox, port, _Handler)
