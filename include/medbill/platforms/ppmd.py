"""AdvancedMD's messages: a ppmdmsg in JSON out, PPMDResults in; the login in XML.

JSON made from XML: attributes are keyed "@name", a child that occurs once is an object and one that occurs more often an
array, an empty element is null or "". Both forms of a child are read as a list here, and every value as text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from lxml import etree

from medbill.errors import PlatformError
from medbill.platforms import soap

#: Message times and peak hours are the vendor's local time.
DENVER = ZoneInfo("America/Denver")
JSON = "application/json"
XML = "text/xml; charset=ISO-8859-1"
_TIME = "%m/%d/%Y %I:%M:%S %p"
_PREFIXED = re.compile(r"[A-Za-z]*([0-9]+)")
_NOT_LATIN = re.compile(r"[^\t\n\r\u0020-\u007e\u00a0-\u00ff]")


def message(
    action: str, class_: str, at: datetime, attributes: Mapping[str, str], children: Mapping[str, Any]
) -> bytes:
    """A request. attributes: of the message, without their @; children: as they are to be sent."""
    head = {"@action": action, "@class": class_, "@msgtime": _time(at), "@nocookie": "0"}
    named = {f"@{name}": value for name, value in attributes.items()}
    return json.dumps({"ppmdmsg": {**head, **named, **children}}).encode()


def login(at: datetime, user: str, password: str, office_code: str, app_name: str) -> bytes:
    """The login message, the same for both steps. Raises PlatformError where a part cannot be said in ISO 8859-1."""
    parts = {"username": user, "psw": password, "officecode": office_code, "appname": app_name}
    if any(_NOT_LATIN.search(value) for value in parts.values()):
        raise PlatformError("the login has characters AdvancedMD cannot take", code="PLATFORM_CREDENTIALS")
    root = etree.Element("ppmdmsg", {"action": "login", "class": "login", "msgtime": _time(at), **parts})
    return bytes(etree.tostring(root, encoding="ISO-8859-1", xml_declaration=True))


def _time(at: datetime) -> str:
    return at.astimezone(DENVER).strftime(_TIME)


def results(label: str, content: bytes) -> Mapping[str, Any]:
    """The PPMDResults of an answer. Raises PlatformError PLATFORM_BAD_ANSWER where there are none."""
    try:
        found = json.loads(content, parse_float=Decimal)
    except (ValueError, RecursionError):
        found = None
    inside = found.get("PPMDResults") if isinstance(found, dict) else None
    if not isinstance(inside, dict):
        raise PlatformError(f"{label} did not answer with PPMDResults", code="PLATFORM_BAD_ANSWER")
    return inside


def login_answer(label: str, content: bytes) -> tuple[str, str, str]:
    """Webserver, token and fault code of an answer to a login, "" where there is none."""
    root = soap.document(label, content)
    context = next(soap.all_named(root, "usercontext"), None)
    server = (context.get("webserver") or "").strip() if context is not None else ""
    token = (context.text or "").strip() if context is not None else ""
    code = next((e.text or "" for e in soap.all_named(root, "code")), "").strip()
    success = next((e.get("success") for e in soap.all_named(root, "Results")), None)
    if success is None:
        raise PlatformError(f"{label} did not answer with PPMDResults", code="PLATFORM_BAD_ANSWER")
    return server, token if success == "1" else "", code or ("" if success == "1" else "0")


def fault(found: Mapping[str, Any]) -> tuple[str, str] | None:
    """Code and description of the error inside an answer, None where it is none."""
    for detail in nodes(found, "Error", "Fault", "detail"):
        return _text(detail.get("code")), _text(detail.get("description"))
    if found.get("Error"):
        return "", ""
    outcome = found.get("Results")
    if isinstance(outcome, dict) and _text(outcome.get("@success")) == "0":
        return "", ""
    return None


def nodes(node: Any, *path: str) -> list[Mapping[str, Any]]:
    """The elements at a path of names, whether each step has one, several or none."""
    found = [node]
    for step in (*path, None):
        flat = [one for x in found for one in (x if isinstance(x, list) else [x]) if isinstance(one, dict)]
        found = flat if step is None else [one[step] for one in flat if step in one]
    return found


def attributes(node: Mapping[str, Any]) -> dict[str, str]:
    """An element's own attributes without their @; null is left out."""
    return {
        name[1:]: _text(value)
        for name, value in node.items()
        if name.startswith("@") and value is not None and not isinstance(value, dict | list)
    }


def number(identifier: str) -> str:
    """An id without the letters of its kind: pat45 is 45. Another form stays as it is."""
    found = _PREFIXED.fullmatch(identifier)
    return found.group(1) if found else identifier


def _text(value: Any) -> str:
    """The text of an attribute or of an element that has nothing else."""
    if isinstance(value, dict):
        value = value.get("#text")
    return "" if value is None or isinstance(value, list) else str(value).strip()
