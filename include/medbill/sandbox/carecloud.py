"""A stand-in for CareCloud on the loopback interface: v2 REST as others' code reads it, and a FHIR R4 server for billing.

Of billing nothing is published, so its FHIR side is strict to the standard instead: media type, scopes, search parameters,
names in _elements, references that must exist, conditional create, OperationOutcome for every error. Sources of each
behaviour: docs/sandbox.md. For tests and demonstrations: no real data.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from medbill.errors import BadInput
from medbill.sandbox import wire
from medbill.sandbox.carecloud_elements import ELEMENTS, REQUIRED, STATUSES
from medbill.sandbox.drchrono import Store
from medbill.sandbox.faults import Fault, disturb
from medbill.sandbox.server import Handler, Records, Refused, StandIn
from medbill.sandbox.server import Server as HttpServer

Record = dict[str, Any]
FOLDER = "carecloud"
RECORDS_FILE = "records.json"
CREDENTIALS_FILE = "credentials.json"
STATE_FILE = "state.sqlite"
MEDIA_TYPE = "application/fhir+json"
FHIR = "/fhir/r4"
FHIR_TOKEN = "/oauth2/token"  # noqa: S105
V2 = "/v2"
V2_TOKEN = "/oauth2/access_token"  # noqa: S105
MAX_PAGE = 100
WRITABLE = ("Task", "Communication")
#: What a service account of medbill needs, and no more.
SCOPES = (
    "system/Claim.read system/ClaimResponse.read system/Coverage.read system/Communication.read "
    "system/Communication.write system/Task.read system/Task.write"
)
_SEARCH = frozenset({"_id", "identifier", "_lastUpdated"})
_CONTROL = frozenset({"_elements", "_count", "_total", "_sort", "_summary", "_cursor", "_offset"})
_ISSUE = {400: "invalid", 401: "login", 403: "forbidden", 404: "not-found", 405: "not-supported", 422: "business-rule"}


class Sandbox(StandIn):
    """Records, accounts and what was written. page: the most records of an answer. total: whether bundles say one.

    writable: whether the account may write at all."""

    def __init__(self, folder: Path, page: int = MAX_PAGE, total: bool = True, writable: bool = True) -> None:
        super().__init__()
        self.folder = folder / FOLDER
        try:
            self.credentials = json.loads((self.folder / CREDENTIALS_FILE).read_text())
        except (OSError, ValueError):
            raise BadInput(
                "the state folder has no CareCloud practice; run `medbill sandbox seed` first",
                code="SANDBOX_NOT_SEEDED",
            ) from None
        self.store = Store(self.folder / STATE_FILE)
        self.page, self.total, self.writable = page, total, writable
        #: every X-Requested-Data-Scope that came
        self.scopes_asked: set[str] = set()
        self._issued: list[str] = []
        self._seeded = Records(self.folder / RECORDS_FILE)

    def records(self, resource: str) -> list[Record]:
        """Records of a resource and what was written."""
        return self._seeded.of(resource) + [r | {"id": str(r["id"])} for r in self.store.all(resource)]

    def issue(self, kind: str, scopes: str) -> str:
        token = self.store.issue(kind, scopes, 3600)
        with self.lock:
            self._issued.append(token)
        return token

    def revoke(self) -> None:
        """Every access token given so far opens nothing any more."""
        with self.lock:
            issued, self._issued = self._issued, []
        for token in issued:
            self.store.spend(token)

    def written(self) -> dict[str, list[Record]]:
        return {resource: self.store.all(resource) for resource in WRITABLE}

    def close(self) -> None:
        self.store.close()


class _Handler(Handler):
    server: Server

    def route(self, path: str) -> str:
        """A FHIR resource type, v2/<resource>, or the path."""
        if path.startswith(f"{FHIR}/"):
            return path.removeprefix(f"{FHIR}/").partition("/")[0]
        if path.startswith(f"{V2}/"):
            return "v2/" + path.removeprefix(f"{V2}/").partition("/")[0]
        return path

    def refusal(self, status: int, detail: str, code: str = "") -> Any:
        if urlsplit(self.path).path.startswith(FHIR):
            issue = {"severity": "error", "code": code or _ISSUE.get(status, "transient"), "diagnostics": detail}
            return {"resourceType": "OperationOutcome", "issue": [issue]}
        return {"error": detail}

    def render(self, answer: Any) -> tuple[str, bytes]:
        fhir = answer is None or "resourceType" in answer
        return MEDIA_TYPE if fhir else "application/json", wire.dumps(answer).encode() if answer is not None else b""

    def reply(
        self, method: str, path: str, query: dict[str, list[str]], body: bytes, fault: Fault | None
    ) -> tuple[int, Any, dict[str, str]]:
        if asked := self.headers.get("X-Requested-Data-Scope"):
            with self.server.sandbox.lock:
                self.server.sandbox.scopes_asked.add(asked)
        if fault and fault.kind == "throttle":
            extra = {"Retry-After": str(fault.retry_after)} if fault.retry_after is not None else {}
            raise Refused(429, self.refusal(429, "Too many requests.", "throttled"), extra)
        if path in (V2_TOKEN, FHIR_TOKEN) and method == "POST":
            if fault and fault.kind == "expired":
                raise Refused(400, {"error": "invalid_grant"})
            return 200, self._token(path, body), {}
        if path.startswith(f"{V2}/"):
            return self._v2(method, path.removeprefix(f"{V2}/"), query, fault)
        if path.startswith(f"{FHIR}/"):
            return self._fhir(method, path.removeprefix(f"{FHIR}/"), body, fault)
        raise self._no(404, "Not found.")

    def _no(self, status: int, detail: str) -> Refused:
        return Refused(status, self.refusal(status, detail))

    # --- OAuth2 ---

    def _token(self, path: str, body: bytes) -> Record:
        if not self.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
            raise Refused(400, {"error": "invalid_request"})
        form = {name: found[-1] for name, found in parse_qs(body.decode("utf-8", "replace")).items()}
        own = self.server.sandbox.credentials
        if path == FHIR_TOKEN:
            right = _same(form.get("client_id"), own["fhir_client_id"])
            if not right or not _same(form.get("client_secret"), own["fhir_client_secret"]):
                raise Refused(401, {"error": "invalid_client"})
            if form.get("grant_type") != "client_credentials":
                raise Refused(400, {"error": "unsupported_grant_type"})
            scopes = form.get("scope", "").split()
            if not scopes or not set(scopes) <= set(own["fhir_scope"].split()):
                raise Refused(400, {"error": "invalid_scope"})
            token = self.server.sandbox.issue("fhir", " ".join(scopes))
            return {"access_token": token, "token_type": "Bearer", "expires_in": 3600, "scope": " ".join(scopes)}
        pair = f"{own['client_id']}:{own['client_secret']}".encode()
        if not _same(self.headers.get("Authorization"), f"Basic {base64.b64encode(pair).decode()}"):
            raise Refused(401, {"error": "invalid_client"})
        if form.get("grant_type") != "refresh_token" or not _same(form.get("refresh_token"), own["refresh_token"]):
            raise Refused(400, {"error": "invalid_grant"})
        return {"access_token": self.server.sandbox.issue("v2", "all"), "token_type": "Bearer"}

    def _scopes(self, kind: str, fault: Fault | None) -> set[str]:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        found = self.server.sandbox.store.scopes(kind, token) if scheme == "Bearer" else None
        if found is None or (fault and fault.kind == "expired"):
            raise self._no(401, "The access token is missing, expired or revoked.")
        return set(found.split())

    # --- v2 ---

    def _v2(
        self, method: str, path: str, query: Mapping[str, list[str]], fault: Fault | None
    ) -> tuple[int, Any, dict[str, str]]:
        self._scopes("v2", fault)
        sandbox = self.server.sandbox
        resource, _, id = path.partition("/")
        if method != "GET":
            raise self._no(405, "Method not allowed.")
        if resource == "patients" and id:
            found = [r for r in sandbox.records("patients") if r["id"] == id]
            if not found:
                raise self._no(404, "Patient not found.")
            return 200, disturb(fault, found)[0] if not fault or fault.kind != "truncate" else {}, {}
        if resource == "providers" and not id:
            return 200, {"providers": disturb(fault, sandbox.records("providers"))}, {}
        if resource == "appointments" and not id:
            return 200, {"appointments": disturb(fault, self._appointments(query))}, {}
        raise self._no(404, "Not found.")

    def _appointments(self, query: Mapping[str, list[str]]) -> list[Record]:
        if query.keys() - {"start_date", "end_date", "page", "per_page"}:
            raise self._no(400, "Unknown parameter.")
        try:
            low, high = (date.fromisoformat(query[name][-1]) for name in ("start_date", "end_date"))
            page, size = int(query.get("page", ["1"])[-1]), int(query.get("per_page", ["25"])[-1])
        except (KeyError, ValueError):
            raise self._no(400, "start_date and end_date are required.") from None
        size = max(1, min(size, self.server.sandbox.page))
        rows = [
            r
            for r in self.server.sandbox.records("appointments")
            if low.isoformat() <= r["start_time"][:10] <= high.isoformat()
        ]
        return rows[(page - 1) * size : page * size]

    # --- FHIR ---

    def _fhir(self, method: str, path: str, body: bytes, fault: Fault | None) -> tuple[int, Any, dict[str, str]]:
        scopes = self._scopes("fhir", fault)
        if path not in ELEMENTS:
            raise self._no(404, "Unknown resource type.")
        if MEDIA_TYPE not in self.headers.get("Accept", ""):
            raise self._no(406, f"Accept must be {MEDIA_TYPE}.")
        wanted = f"system/{path}.{'read' if method == 'GET' else 'write'}"
        if wanted not in scopes:
            raise self._no(403, f"The token lacks the scope {wanted}.")
        if method == "GET":
            return 200, self._search(path, parse_qsl(urlsplit(self.path).query), fault), {}
        if method == "POST" and path in WRITABLE and self.server.sandbox.writable:
            return self._create(path, body)
        raise self._no(405, "Not supported for this resource.")

    def _search(self, resource: str, query: list[tuple[str, str]], fault: Fault | None) -> Record:
        given = dict(query)
        offset = 0
        if "_cursor" in given:
            try:
                offset = int(given["_offset"])
                query = [tuple(pair) for pair in json.loads(base64.urlsafe_b64decode(given["_cursor"]))]
            except (KeyError, ValueError, binascii.Error):
                raise self._no(410, "This page is gone.") from None
            given = dict(query)
        if strange := given.keys() - _SEARCH - _CONTROL:
            raise self._no(400, f"Unknown search parameter {sorted(strange)[0]}.")
        rows = self.server.sandbox.records(resource)
        for name, value in query:
            rows = self._filtered(rows, name, value)
        rows.sort(key=lambda r: (r["meta"]["lastUpdated"], str(r.get("id"))))
        bundle: Record = {"resourceType": "Bundle", "type": "searchset"}
        if given.get("_total") == "accurate" or "_summary" in given:
            bundle |= {"total": len(rows)} if self.server.sandbox.total else {}
        if given.get("_summary") == "count":
            return bundle
        try:
            size = max(1, min(int(given.get("_count", "20")), self.server.sandbox.page))
        except ValueError:
            raise self._no(400, "_count is not a number.") from None
        page = [self._elements(resource, row, given.get("_elements")) for row in rows[offset : offset + size]]
        here = f"{self.server.url}{FHIR}/{resource}"
        links = [{"relation": "self", "url": here}]
        if offset + size < len(rows):
            cursor = base64.urlsafe_b64encode(json.dumps(query).encode()).decode()
            links.append(
                {"relation": "next", "url": f"{here}?{urlencode({'_cursor': cursor, '_offset': offset + size})}"}
            )
        entries = [
            {"fullUrl": f"{here}/{row.get('id')}", "resource": row, "search": {"mode": "match"}}
            for row in disturb(fault, page)
        ]
        return {**bundle, "link": links, **({"entry": entries} if entries else {})}

    def _filtered(self, rows: Iterable[Record], name: str, value: str) -> list[Record]:
        if name == "_id":
            ids = set(value.split(","))
            return [r for r in rows if r.get("id") in ids]
        if name == "identifier":
            system, _, number = value.partition("|")
            return [
                r
                for r in rows
                if any(i.get("system") == system and i.get("value") == number for i in r.get("identifier", ()))
            ]
        if name == "_lastUpdated":
            try:
                limit = datetime.fromisoformat(value[2:])
                compare = {"ge": limit.__le__, "gt": limit.__lt__, "le": limit.__ge__, "lt": limit.__gt__}[value[:2]]
                return [r for r in rows if compare(datetime.fromisoformat(r["meta"]["lastUpdated"]))]
            except (ValueError, KeyError, TypeError):
                raise self._no(400, "_lastUpdated is not a prefix and an instant.") from None
        return list(rows)

    def _elements(self, resource: str, row: Record, names: str | None) -> Record:
        if not names:
            return row
        wanted = set(names.split(","))
        if strange := wanted - ELEMENTS[resource]:
            raise self._no(400, f"Unknown element {sorted(strange)[0]}.")
        kept = {name: value for name, value in row.items() if name in wanted | {"resourceType", "id", "meta"}}
        tag = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}
        return kept | {"meta": {**row["meta"], "tag": [tag]}}

    def _create(self, resource: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
        if self.headers.get("Content-Type", "").partition(";")[0].strip() != MEDIA_TYPE:
            raise self._no(415, f"Content-Type must be {MEDIA_TYPE}.")
        try:
            record = json.loads(body)
        except ValueError:
            record = None
        if not isinstance(record, dict) or record.get("resourceType") != resource or "id" in record:
            raise self._no(400, f"The body is not a new {resource}.")
        self._validate(resource, record)
        condition = dict(parse_qsl(self.headers.get("If-None-Exist", "")))
        sandbox = self.server.sandbox
        if "identifier" in condition:
            same = self._filtered(sandbox.records(resource), "identifier", condition["identifier"])
            if len(same) > 1:
                raise self._no(412, "More than one resource matches.")
            if same:
                return 200, self._made(same[0]), {"Location": self._location(resource, same[0]["id"])}
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        made = sandbox.store.add(resource, record | {"meta": {"versionId": "1", "lastUpdated": now}})
        return 201, self._made(made), {"Location": self._location(resource, made["id"])}

    def _location(self, resource: str, id: object) -> str:
        return f"{self.server.url}{FHIR}/{resource}/{id}/_history/1"

    def _made(self, record: Record) -> Record | None:
        return None if "return=minimal" in self.headers.get("Prefer", "") else record | {"id": str(record["id"])}

    def _validate(self, resource: str, record: Record) -> None:
        if strange := record.keys() - ELEMENTS[resource] - {"resourceType"}:
            raise self._no(400, f"Unknown element {sorted(strange)[0]}.")
        if missing := [name for name in REQUIRED[resource] if not record.get(name)]:
            raise self._no(422, f"{missing[0]} is required.")
        if record["status"] not in STATUSES[resource]:
            raise self._no(422, "status is not of the value set.")
        whose = _reference(record.get("for") or record.get("subject"))
        about = [_reference(r) for r in _several(record.get("focus") or record.get("about"))]
        claims = {f"Claim/{r['id']}": r["patient"]["reference"] for r in self.server.sandbox.records("Claim")}
        if not about or any(one not in claims for one in about):
            raise self._no(422, "A reference points at nothing.")
        if any(claims[one] != whose for one in about):
            raise self._no(422, "The claim is another patient's.")


def _same(given: str | None, own: str) -> bool:
    return secrets.compare_digest((given or "").encode(), own.encode())


def _several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value] if value else []


def _reference(value: Any) -> str:
    return str(value.get("reference", "")) if isinstance(value, dict) else ""


class Server(HttpServer):
    """The server of one Sandbox."""

    sandbox: Sandbox

    def __init__(self, sandbox: Sandbox, port: int = 0) -> None:
        super().__init__(sandbox, port, _Handler)
