"""A stand-in for AdvancedMD's login and XMLRPC service on the loopback interface.

Strict where the real one is known to be: login in XML at two addresses, token as a cookie, JSON asked for, action and class
that belong together, columns of a template, sessions that end inside HTTP 200, limits by tier. Sources of each behaviour:
docs/sandbox.md. For tests and demonstrations: no real data.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from lxml import etree

from medbill.errors import BadInput
from medbill.sandbox import wire
from medbill.sandbox.advancedmd_wire import NOTE_TYPES, Row, carriers
from medbill.sandbox.drchrono import Store
from medbill.sandbox.faults import Fault, disturb
from medbill.sandbox.server import Handler, Records, Refused, StandIn
from medbill.sandbox.server import Server as HttpServer

FOLDER = "advancedmd"
RECORDS_FILE = "records.json"
CREDENTIALS_FILE = "credentials.json"
STATE_FILE = "state.sqlite"
LOGIN = "/practicemanager/xmlrpc/processrequest.aspx"
OFFICE = "/processrequest/api-801/"
_END = "/xmlrpc/processrequest.aspx"
MAX_FILE = 1024 * 1024
SESSION_SECONDS = 24 * 3600.0
_DENVER = ZoneInfo("America/Denver")
#: Calls a minute: tier -> in peak hours (Mon-Fri, 06-18 in Denver), outside of them.
TIERS = {1: (1, 60), 2: (12, 120), 3: (24, 120)}
#: action -> class, tier, attributes it takes (the first of them is required)
ACTIONS: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "getupdatedvisits": ("api", 1, ("datechanged", "includecharges")),
    "getdatevisits": ("api", 2, ("visitdate",)),
    "getdemographic": ("demographics", 2, ("patientid",)),
    "getchargedetaildata": ("demographics", 2, ("chargeid",)),
    "gettxhistory": ("demographics", 2, ("patientid", "pagenumber", "filterhistory", "typefilter", "getmemo")),
    "uploadfile": ("files", 2, ()),
    "savepatientnotes": ("api", 2, ("id", "useclienttime")),
    "lookupnotetypes": ("api", 3, ()),
}
#: Columns a template of getdatevisits may ask for; another one is HTTP 400.
COLUMNS = {
    "visit": {"columnheading", "duration", "color", "apptstatus"},
    "patient": {"name", "chart"},
    "insurance": {"carname", "carcode"},
}
_MSGTIME = re.compile(r"\d\d/\d\d/\d{4} \d\d:\d\d:\d\d [AP]M")
_REDIRECT, _SESSION_OVER, _BAD_LOGIN = "-2147220476", "-2147220479", "-1"


class Sandbox(StandIn):
    """Records, what was written, and sessions. limited: whether the tiers' limits hold; calls_per_minute of the credentials
    takes their place. webserver: where the login leads instead of here. forgets: writes still to be acknowledged and not
    kept. now: for peak hours."""

    def __init__(
        self, folder: Path, limited: bool = True, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        super().__init__()
        self.folder = folder / FOLDER
        try:
            self.credentials = json.loads((self.folder / CREDENTIALS_FILE).read_text())
        except (OSError, ValueError):
            raise BadInput(
                "the state folder has no AdvancedMD practice; run `medbill sandbox seed` first",
                code="SANDBOX_NOT_SEEDED",
            ) from None
        self.store = Store(self.folder / STATE_FILE)
        self.limited, self.now = limited, now
        self.webserver, self.forgets, self.logins = "", 0, 0
        self._calls: dict[int, deque[float]] = {tier: deque() for tier in TIERS}
        self.records = Records(self.folder / RECORDS_FILE, json.loads).of

    def too_many(self, tier: int) -> bool:
        """Whether a call is one too many in its minute; it counts all the same."""
        local = self.now().astimezone(_DENVER)
        peak = local.weekday() < 5 and 6 <= local.hour < 18
        allowed = self.credentials.get("calls_per_minute", {}).get(f"tier{tier}") or TIERS[tier][0 if peak else 1]
        with self.lock:
            calls, at = self._calls[tier], time.monotonic()
            while calls and calls[0] <= at - 60:
                calls.popleft()
            calls.append(at)
            return self.limited and len(calls) > allowed

    def written(self) -> dict[str, list[wire.Record]]:
        return {name: self.store.all(name) for name in ("files", "notes")}

    def close(self) -> None:
        self.store.close()


class _Handler(Handler):
    server: Server
    _received = b""

    def _body(self) -> bytes:
        self._received = super()._body()
        return self._received

    def route(self, path: str) -> str:
        """The action of a message, the path of any other request."""
        if not path.endswith(_END):
            return path
        if self._is_xml():
            return "login"
        try:
            return str(json.loads(self._received)["ppmdmsg"]["@action"])
        except (ValueError, KeyError, TypeError):
            return path

    def refusal(self, status: int, detail: str) -> Any:
        return {"title": "QuotaViolation" if status == 429 else "Error", "detail": detail}

    def render(self, answer: Any) -> tuple[str, bytes]:
        if isinstance(answer, bytes):
            return "text/xml; charset=ISO-8859-1", answer
        return "application/json; charset=utf-8", json.dumps(answer).encode()

    def reply(
        self, method: str, path: str, query: dict[str, list[str]], body: bytes, fault: Fault | None
    ) -> tuple[int, Any, dict[str, str]]:
        if method != "POST" or not path.endswith(_END):
            raise Refused(404, self.refusal(404, "Not found."))
        if fault and fault.kind == "throttle":
            headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            raise Refused(429, self.refusal(429, "Too many calls."), headers)
        office = f"{OFFICE}{self.server.sandbox.credentials['app_name']}{_END}"
        if self._is_xml() and path in (LOGIN, office):
            return 200, self._login(body, first=path == LOGIN), {}
        if path != office:
            raise Refused(404, self.refusal(404, "Not found."))
        return 200, {"PPMDResults": self._act(body, fault)}, {}

    def _is_xml(self) -> bool:
        return self.headers.get("Content-Type", "").startswith("text/xml")

    # --- login ---

    def _login(self, body: bytes, first: bool) -> bytes:
        sandbox = self.server.sandbox
        try:
            root = etree.fromstring(body, etree.XMLParser(resolve_entities=False, no_network=True))
        except etree.XMLSyntaxError:
            raise Refused(400, self.refusal(400, "Bad request.")) from None
        own = sandbox.credentials
        names = (("username", "user"), ("psw", "password"), ("officecode", "office_code"), ("appname", "app_name"))
        right = all(secrets.compare_digest(root.get(name, "").encode(), own[key].encode()) for name, key in names)
        shaped = (
            root.tag == "ppmdmsg"
            and root.get("action") == root.get("class") == "login"
            and _MSGTIME.fullmatch(root.get("msgtime", ""))
        )
        answer = etree.Element("PPMDResults")
        outcome = etree.SubElement(answer, "Results")
        if not shaped or not right:
            return _refused_login(answer, outcome, _BAD_LOGIN, "Invalid login")
        context = etree.SubElement(outcome, "usercontext")
        if first:
            context.set("webserver", sandbox.webserver or f"{self.server.url}{OFFICE}{own['app_name']}")
            return _refused_login(answer, outcome, _REDIRECT, "redirect")
        with sandbox.lock:
            sandbox.logins += 1
        outcome.set("success", "1")
        context.text = sandbox.store.issue("access", own["office_code"], SESSION_SECONDS)
        return bytes(etree.tostring(answer, encoding="ISO-8859-1"))

    # --- actions ---

    def _act(self, body: bytes, fault: Fault | None) -> dict[str, Any]:
        sandbox = self.server.sandbox
        if "application/json" not in self.headers.get("Accept", ""):
            raise Refused(406, self.refusal(406, "XML is not served here."))
        try:
            message = json.loads(body)["ppmdmsg"]
            action, class_ = message["@action"], message["@class"]
        except (ValueError, KeyError, TypeError):
            raise Refused(400, self.refusal(400, "Bad request.")) from None
        if "@usercontext" in message or "@token" in message:
            raise Refused(400, self.refusal(400, "Improperly Formatted Token"))
        _, _, token = self.headers.get("Cookie", "").partition("token=")
        live = sandbox.store.scopes("access", token) is not None
        if not live or (fault and fault.kind == "expired"):
            return _failed(_SESSION_OVER, "Session has ended. Please log in again.")
        if action not in ACTIONS or ACTIONS[action][0] != class_:
            return _failed("-2147220991", f"Unknown action {action} of class {class_}")
        _, tier, names = ACTIONS[action]
        if sandbox.too_many(tier):
            raise Refused(429, self.refusal(429, "Too many calls."))
        asked = {name: message.get(f"@{name}", "") for name in names}
        if not _MSGTIME.fullmatch(message.get("@msgtime", "")) or (names and not asked[names[0]]):
            return _failed("-2147220992", "A required attribute is missing or malformed")
        served: Callable[..., dict[str, Any]] = getattr(self, f"_{action}")
        return served(asked, message, fault)

    def _getupdatedvisits(self, asked: Mapping[str, str], message: Row, fault: Fault | None) -> dict[str, Any]:
        since = _date(asked["datechanged"])
        if since is None:
            return _failed("-2147220992", "datechanged is not a date")
        rows = [v for v in self.server.sandbox.records("visits") if (_date(v["@lastupdated"]) or since) >= since]
        left_out = {"patient", "insurance"} | ({"chargelist"} if asked["includecharges"] != "1" else set())
        rows = [{k: v for k, v in row.items() if k not in left_out} for row in disturb(fault, rows)]
        return _listed(rows, "visitlist", "visit", "@visitcount")

    def _getdatevisits(self, asked: Mapping[str, str], message: Row, fault: Fault | None) -> dict[str, Any]:
        day = _date(asked["visitdate"])
        if day is None:
            return _failed("-2147220992", "visitdate is not a date")
        wanted = {name: {c.removeprefix("@") for c in message.get(name) or {}} for name in COLUMNS}
        for name, columns in wanted.items():
            if columns - COLUMNS[name]:
                raise Refused(400, self.refusal(400, "Invalid column name"))
        rows = []
        for visit in self.server.sandbox.records("visits"):
            if _date(visit["@date"]) == day:
                row = {k: v for k, v in visit.items() if k[1:] not in COLUMNS["visit"] - wanted["visit"]}
                del row["chargelist"], row["@patientid"], row["@reason"]
                for name in ("patient", "insurance"):
                    shown = {f"@{c}": visit[name][f"@{c}"] for c in wanted[name]}
                    row[name] = {**shown, **({"@id": visit["patient"]["@id"]} if name == "patient" else {})}
                    if not message.get(name):
                        del row[name]
                rows.append(row)
        return _listed(disturb(fault, rows), "visitlist", "visit", "@visitcount")

    def _getdemographic(self, asked: Mapping[str, str], message: Row, fault: Fault | None) -> dict[str, Any]:
        key = asked["patientid"].removeprefix("pat")
        files = [
            {"@id": str(f["id"]), "@name": f["filename"], "@description": f["description"]}
            for f in self.server.sandbox.store.all("files")
            if f["patientid"].removeprefix("pat") == key
        ]
        rows = [
            {**p, "filelist": {"file": files}}
            for p in self.server.sandbox.records("patients")
            if p["@id"].removeprefix("pat") == key
        ]
        found = _listed(disturb(fault, rows), "patientlist", "patient")
        found["Results"]["carrierlist"] = {"carrier": carriers()}
        return found

    def _getchargedetaildata(self, asked: Mapping[str, str], message: Row, fault: Fault | None) -> dict[str, Any]:
        rows = [c for c in self.server.sandbox.records("charge_details") if c["@id"] == asked["chargeid"]]
        shown = [{k: v for k, v in c.items() if k not in ("@visit", "@patientid")} for c in rows]
        return _listed(disturb(fault, shown), "chargelist", "charge")

    def _gettxhistory(self, asked: Mapping[str, str], message: Row, fault: Fault | None) -> dict[str, Any]:
        key = asked["patientid"].removeprefix("pat")
        names = ("@id", "@proccode", "@void", "@protected", "@fee", "@paid", "@visit", "@patientid")
        rows = [
            {**{n: c[n] for n in names}, "@dos": c["@begindate"]}
            for c in self.server.sandbox.records("charge_details")
            if c["@patientid"].removeprefix("pat") == key
        ]
        return _listed(disturb(fault, rows), "chargelist", "charge", "@chargecount")

    def _lookupnotetypes(self, asked: Mapping[str, str], message: Row, fault: Fault | None) -> dict[str, Any]:
        rows = [{"@id": f"not{key}", "@name": name} for key, name in NOTE_TYPES]
        return _listed(disturb(fault, rows), "notetypelist", "notetype")

    def _uploadfile(self, asked: Mapping[str, str], message: Row, fault: Fault | None) -> dict[str, Any]:
        given = message.get("file")
        file = {k[1:]: str(v) for k, v in given.items()} if isinstance(given, dict) else {}
        try:
            content = base64.b64decode(file.get("filecontents", ""), validate=True)
        except binascii.Error:
            content = b""
        if not self._is_patient(file.get("patientid", "")):
            return _failed("-2147220990", "Patient not found")
        if file.get("fileext") != "pdf" or not content.startswith(b"%PDF-") or not file.get("filename"):
            return _failed("-2147220990", "The file is not valid")
        if len(content) > MAX_FILE:
            return _failed("-2147220990", "The file is larger than 1 MB")
        made = self._keep("files", file)
        return {"Results": {"@success": "1", "file": {"@id": made, "@name": file["filename"], "@fileext": "pdf"}}}

    def _savepatientnotes(self, asked: Mapping[str, str], message: Row, fault: Fault | None) -> dict[str, Any]:
        given = message.get("masterfile")
        note = {k[1:]: str(v) for k, v in given.items()} if isinstance(given, dict) else {}
        if note.get("uid") != "" or note.get("patientfid") != asked["id"] or not self._is_patient(asked["id"]):
            return _failed("-2147220990", "Patient not found")
        if note.get("notetypefid") not in dict(NOTE_TYPES) or not note.get("note"):
            return _failed("-2147220990", "The note is not valid")
        made = self._keep("notes", note)
        return {"@newid": made, "record": {"@uid": made}}

    def _keep(self, resource: str, record: Row) -> str:
        sandbox = self.server.sandbox
        with sandbox.lock:
            forgotten = sandbox.forgets > 0
            sandbox.forgets -= forgotten
        return "9999999" if forgotten else str(sandbox.store.add(resource, record)["id"])

    def _is_patient(self, identifier: str) -> bool:
        key = identifier.removeprefix("pat")
        return any(p["@id"].removeprefix("pat") == key for p in self.server.sandbox.records("patients"))


def _refused_login(answer: Any, outcome: Any, code: str, description: str) -> bytes:
    outcome.set("success", "0")
    detail = etree.SubElement(etree.SubElement(etree.SubElement(answer, "Error"), "Fault"), "detail")
    etree.SubElement(detail, "code").text = code
    etree.SubElement(detail, "description").text = description
    return bytes(etree.tostring(answer, encoding="ISO-8859-1"))


def _failed(code: str, description: str) -> dict[str, Any]:
    detail = {"code": code, "description": description}
    return {"Results": {"@success": "0"}, "Error": {"Fault": {"detail": detail}}}


def _listed(rows: list[Row], list_name: str, element: str, count: str = "") -> dict[str, Any]:
    """One as an object, several as a list, none as null; everywhere below as well."""
    more = {count: str(len(rows))} if count else {}
    return {"Results": {"@success": "1", **more, list_name: _as_sent({element: rows})}}


def _as_sent(value: Any) -> Any:
    if isinstance(value, list):
        return _as_sent(value[0]) if len(value) == 1 else [_as_sent(v) for v in value]
    if isinstance(value, dict):
        shown = {k: _as_sent(v) for k, v in value.items() if v != []}
        return shown or None
    return value


def _date(text: str) -> date | None:
    try:
        return datetime.strptime(text.partition(" ")[0], "%m/%d/%Y").date()  # noqa: DTZ007
    except ValueError:
        return None


class Server(HttpServer):
    """The server of one Sandbox."""

    sandbox: Sandbox

    def __init__(self, sandbox: Sandbox, port: int = 0) -> None:
        super().__init__(sandbox, port, _Handler)
