"""Values a vault may know and the ways a payload may hide them, for the tests of the egress guard."""

from __future__ import annotations

import base64
import binascii
import html
import json
import quopri
from collections.abc import Callable, Iterable
from urllib.parse import quote

from medbill.audit.ledger import Event
from medbill.deid.egress import Guard
from medbill.deid.egress_values import Forms, forms

KNOWN = [
    ("PERSON", "Okonkwo, Ngozi"),
    ("PERSON", "Zebrowski"),
    ("PERSON", "José Núñez-Alvarado"),
    ("PERSON", "Will May"),
    ("PERSON", "D'Angelo"),
    ("MEMBER", "XQK-88214-07"),
    ("MEMBER", "1EG4-TE5-MK73"),
    ("MRN", "0048213"),
    ("CLAIM", "20250931177AX"),
    ("PAYER_CLAIM", "990031277645"),
    ("EMAIL", "ngozi.okonkwo77@example.org"),
    ("ADDRESS", "4417 Larkspur Terrace Apt 12"),
    ("FACILITY", "Saint Brendan Clinic"),
    ("CITY", "Oconomowoc"),
    ("PHONE", "555 0142 8836"),
    ("PHONE", "+1 292 515 3805"),
]


class Rows:
    """A ledger that keeps its rows."""

    def __init__(self) -> None:
        self.rows: list[tuple[Event, str]] = []

    def record(self, event: Event, outcome: str = "success") -> int:
        self.rows.append((event, outcome))
        return len(self.rows)


class Listed:
    """Known values given as a list."""

    practice = "lakeside"

    def __init__(self, values: Iterable[tuple[str, str]]) -> None:
        self._forms = Forms()
        self._forms.add((kind, forms(kind, value)) for kind, value in values)

    def refresh(self) -> None:
        """All of it is known from the start."""

    def current(self) -> Forms:
        return self._forms


def guard(values: Iterable[tuple[str, str]] = KNOWN, public: Iterable[str] = ()) -> tuple[Guard, Rows]:
    rows = Rows()
    return Guard(Listed(values), rows, public), rows


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _fullwidth(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


_CYRILLIC = "\u0430\u0435\u043e\u0440\u0441\u0445\u0410\u0415\u041e\u0420\u0421\u0425\u0412\u041d\u041a\u041c\u0422"


def _cyrillic(text: str) -> str:
    return text.translate(str.maketrans("aeopcxAEOPCXBHKMT", _CYRILLIC))


#: Ways to hide a text that a reader undoes in one step.
ENCODINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "upper": str.upper,
    "lower": str.lower,
    "percent": lambda t: "".join(f"%{byte:02X}" for byte in t.encode()),
    "url": quote,
    "url plus": lambda t: quote(t).replace("%20", "+"),
    "entities": lambda t: "".join(f"&#{ord(c)};" for c in t),
    "hex entities": lambda t: "".join(f"&#x{ord(c):x};" for c in t),
    "html": html.escape,
    "json": lambda t: json.dumps({"remark": t}),
    "unicode escapes": lambda t: "".join(f"\\u{ord(c):04x}" for c in t),
    "hex escapes": lambda t: "".join(f"\\x{byte:02x}" if byte < 128 else chr(byte) for byte in map(ord, t)),
    "base64": _b64,
    "base64 unpadded": lambda t: _b64(t).rstrip("="),
    "base64 url-safe": lambda t: base64.urlsafe_b64encode(t.encode()).decode(),
    "base64 of a sentence": lambda t: _b64(f"Re the account of {t} we called again."),
    "base64 in lines": lambda t: base64.encodebytes(f"Re the account of {t} we called again. {'ok ' * 60}".encode()).decode(),
    "base64 utf-16": lambda t: base64.b64encode(t.encode("utf-16-le")).decode(),
    "base64 glued": lambda t: "x" + _b64(f"The account of {t} again"),
    "hex": lambda t: binascii.hexlify(t.encode()).decode(),
    "hex upper": lambda t: binascii.hexlify(t.encode()).decode().upper(),
    "hex spaced": lambda t: t.encode().hex(" "),
    "quoted-printable": lambda t: quopri.encodestring(t.encode(), quotetabs=True).decode(),
    "quoted-printable whole": lambda t: "".join(f"={byte:02X}" for byte in t.encode()),
    "fullwidth": _fullwidth,
    "cyrillic": _cyrillic,
    "zero width": lambda t: "\u200b".join(t),
    "soft hyphens": lambda t: "\u00ad".join(t),
    "lines": lambda t: t.replace(" ", "\n"),
    "quoted lines": lambda t: t.replace(" ", "\n> "),
    "tags": lambda t: f"{t[:2]}<b>{t[2:]}</b>",
    "spaces": lambda t: t.replace(" ", "   "),
}  # fmt: skip
#: Those that leave spelling alone, so that they can be put on top of each other.
STACKABLE = (
    "percent", "entities", "unicode escapes", "base64", "base64 unpadded", "base64 of a sentence", "hex", "quoted-printable whole", "json",
)  # fmt: skip
