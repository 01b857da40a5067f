"""Values to search for, and how each of them may be written: the needles.

A needle is what is left of a way to write a value when only its letters and figures are kept, in lower case. So one
needle stands for every spelling with other separators, other case, or broken over lines.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from medbill.errors import BadInput

#: Bytes that are kept of a text: letters, figures, and whatever is not ASCII.
KEPT = bytes(b for b in range(256) if b >= 0x80 or chr(b).isalnum())
LOWER = bytes(range(256)).lower()
DROPPED = bytes(b for b in range(256) if b not in KEPT)
#: Kept bytes a needle has at least, with a letter in it or of figures alone: less stands everywhere by chance.
SHORTEST, SHORTEST_NUMBER = 6, 9
#: Kinds whose values are too common to be searched alone: they count after one of these words, at most CONTEXT bytes before.
CONTEXT = 24
LABELS = {
    "zip": rb"zip|postal|postcode|addr|(?-i:\b[A-Z]{2})",
    "age": rb"age|aged|years",
    "service_date": rb"service|dos|seen|visit|admi|discharg",
}
#: Kinds that are dates of a person: written in every usual form.
DATES = frozenset({"birth_date", "death_date", "service_date"})
#: Kinds that are a first name and a last name: also written the other way round.
NAMES = frozenset({"name"})
_TELEPHONES = frozenset({"phone", "fax"})


def squeezed(text: bytes) -> bytes:
    """The letters and figures of a text alone, in lower case."""
    return text.translate(LOWER, DROPPED)


@dataclass(frozen=True)
class Canary:
    """A value that may be nowhere. ordinal: its line in the file, from 1; the only name it has in a report."""

    ordinal: int
    kind: str
    value: str


@dataclass(frozen=True)
class Needle:
    """One way to write a canary. form: what sets it apart from the value as it is, "" for none.

    whole: a figure before or after it makes it another number. label: the words one of which must stand before it.
    """

    canary: Canary
    squeezed: bytes
    form: str = ""
    whole: bool = False
    label: re.Pattern[bytes] | None = None


@dataclass(frozen=True)
class Excluded:
    """A canary that is not searched, and why."""

    canary: Canary
    reason: str


def read(path: Path) -> list[Canary]:
    """The canaries of a JSON Lines file: {"kind", "value"} a line. Raises BadInput, which quotes no value."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the file of canaries cannot be read ({type(error).__name__})", code="CANARIES") from None
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            kind, value = row["kind"], row["value"]
        except (ValueError, KeyError, TypeError):
            kind = value = None
        if not isinstance(kind, str) or not isinstance(value, str) or not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", kind):
            raise BadInput(f'line {number} of the canaries is no {{"kind": "…", "value": "…"}}', code="CANARIES")
        found.append(Canary(number, kind, value))
    if not found:
        raise BadInput("the file of canaries is empty", code="CANARIES")
    return found


def needles(canaries: Iterable[Canary]) -> tuple[list[Needle], list[Excluded]]:
    """Every way to write them that can be told from chance, and those of which there is none."""
    found: list[Needle] = []
    excluded: list[Excluded] = []
    for canary in canaries:
        label = LABELS.get(canary.kind)
        pattern = re.compile(rb"(?:" + label + rb")[^a-z0-9]", re.I) if label else None
        own: dict[bytes, Needle] = {}
        for text, form, number in _forms(canary):
            for data in _encoded(text):
                digits = data.isdigit()
                if pattern is None and len(data) < (SHORTEST_NUMBER if digits and not number else SHORTEST):
                    continue
                if data:
                    own.setdefault(data, Needle(canary, data, form, digits or number, pattern))
        if not own:
            excluded.append(Excluded(canary, "too short to be told from chance"))
        found += own.values()
    return found, excluded


def _forms(canary: Canary) -> Iterator[tuple[str, str, bool]]:
    """Ways to write it: the text, how it is called, whether figures beside it make it something else."""
    value = canary.value
    if canary.kind in DATES and (day := _day(value)):
        iso = f"{day:%Y%m%d}"
        yield iso, "" if squeezed(value.encode()) == iso.encode() else "date form", True
        for pattern in ("%m%d%Y", "%d%m%Y", "%B%d%Y", "%b%d%Y", "%d%B%Y", "%d%b%Y"):
            text = day.strftime(pattern)
            yield text, "date form", True
            if "%B" in pattern or "%b" in pattern:
                yield text.replace(f"{day:%d}", str(day.day), 1), "date form", True
        return
    yield value, "", False
    digits = re.sub(r"\D", "", value)
    if canary.kind in _TELEPHONES and len(digits) == 10:
        yield "1" + digits, "country code", False
    words = value.split()
    if canary.kind in NAMES and len(words) > 1:
        yield " ".join([*words[1:], words[0]]), "order", False
        yield " ".join([words[-1], *words[:-1]]), "order", False


def _day(value: str) -> date | None:
    try:
        return date.fromisoformat(value)
    except ValueError:
        return None


def _encoded(text: str) -> Iterator[bytes]:
    """What is kept of a text, in the encodings in which it may lie; ASCII is the same in all of them."""
    if text.isascii():
        yield squeezed(text.encode())
        return
    plain = unicodedata.normalize("NFKD", text)
    for one in (
        text,
        text.lower(),
        text.upper(),
        text.title(),
        plain,
        "".join(c for c in plain if not unicodedata.combining(c)),
    ):
        for codec in ("utf-8", "cp1252", "utf-16-le", "utf-16-be"):
            yield squeezed(one.encode(codec, "ignore"))
