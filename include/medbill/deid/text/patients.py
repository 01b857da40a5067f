"""Whether a note speaks of more than one patient, so that a person looks before it is filed under one of them.

Evidence is what names a patient as such: two medical record numbers, social security numbers or birthdays that differ, or
two names that are each called the patient's and cannot be one person. What is said of a relative, guarantor or provider
does not count, nor do claim, account and member numbers, of which one patient has several.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from itertools import combinations
from typing import Any, Protocol

from medbill.deid.text.lexicon import word_set
from medbill.deid.text.record import NICKNAMES, date_of, nearly


class Found(Protocol):
    """A span of the engine or a replacement it made."""

    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def type(self) -> str: ...


#: Right before a name: it is the patient's.
_PATIENT = re.compile(
    r"(?:\b(?:patients?|pts?|client|member|chart\s+of|encounter\s+for|visit\s+for)(?:'s)?(?:\s+(?:name|full\s+name|info(?:rmation)?))?"
    r"(?:\s+(?:is|was|named|called|also))?|\b(?:patient\s+)?name|\bre|\bregarding)\s*[:#=(-]?\s*$",
    re.I,
)
#: Right after a name: only a patient has these.
_OF_PATIENT = re.compile(
    r"[\s,;:/(|-]{0,4}(?:[MF]\b[\s,]*)?(?:(?:DOB|D\.O\.B\.?|MRN|M\.R\.N\.?|born|date\s+of\s+birth|medical\s+record)\b"
    r"|\d{1,3}\s?-?(?:y/?o|yr|year)|(?:aged?\s)?\d{1,3}\s?[MF]\b)",
    re.I,
)
#: Whoever these words announce is not the patient.
_OTHER = re.compile(
    r"\b(?:spouse|wife|husband|mother|father|mom|dad|son|daughter|sister|brother|parents?|guardian|aunt|uncle|cousin|partner|fianc\wé?e?|"
    r"grand\w+|guarantor|subscriber|insured|policy\s?holder|employee|responsible\s+party|contact|caregiver|relative|neighbor|friend|"
    r"dr|doctor|provider|physician|surgeon|nurse|attending|referring|rendering|attorney|rep|representative|from|by|with|w/|s/w|spoke|"
    r"cc|attn|dear|sincerely|signed)\b\.?\W{0,3}(?:\w+\W{1,3}){0,2}$",
    re.I,
)
_PROVIDER_AFTER = re.compile(r",?\s+(?:M\.?D|D\.?O|R\.?N|N\.?P|P\.?A|Ph\.?D|CPC|PharmD|MA|LCSW)\b")
_BIRTH = re.compile(
    r"(?:\b(?:DOB|D\.O\.B\.?|date\s+of\s+birth|birth\s?date|born)(?:\s+(?:on|is|was))?)[\s:=#.(-]{0,4}$", re.I
)
_CORRECTED = re.compile(
    r"\b(?:not|instead\s+of|should\s+(?:be|read)|corrected?|wrong|incorrect|updated|changed|old|previous|former|prior|was)\b",
    re.I,
)
_TITLES = word_set("mr mrs ms miss dr prof doctor nurse jr sr ii iii md rn")
_NAME = re.compile(r"[^\W\d_][\w'-]*")
_SENTENCE = re.compile(r"[.!?\n]\s*(?=\S)")


def more_than_one(text: str, spans: Sequence[Found], record: Mapping[str, Any] | None = None) -> bool:
    """Whether the text names two patients. spans: what the engine found in it; record: the structured record the text is
    filed under, whose patient counts as named."""
    numbers: dict[str, list[str]] = {"MRN": [], "SSN": []}
    births: list[date] = []
    names: list[tuple[str, ...]] = []
    for span in spans:
        before = text[max(0, span.start - 60) : span.start]
        value = text[span.start : span.end]
        if span.type in numbers:
            if not _of_other(text, span.start) and not _CORRECTED.search(before[-30:]):
                numbers[span.type].append(_squashed(value))
        elif span.type == "DATE" and _BIRTH.search(before):
            day = date_of(_plain_date(value))
            if day is not None and not _of_other(text, span.start) and not _CORRECTED.search(before[-24:]):
                births.append(day)
        elif span.type == "PERSON" and _is_patient(text, span, before):
            for name in _people(value):
                names.append(name)
    known = _record_name(record)
    if any(_differ(a, b, 6) for a, b in combinations(dict.fromkeys(numbers["MRN"]), 2)):
        return True
    if any(_differ(a, b, 9) for a, b in combinations(dict.fromkeys(numbers["SSN"]), 2)):
        return True
    if len(set(births)) > 1 and any(_other_day(a, b) for a, b in combinations(sorted(set(births)), 2)):
        return True
    if known:
        names.append(known)
    return any(_two_people(a, b) for a, b in combinations(dict.fromkeys(names), 2))


def _plain_date(value: str) -> str:
    """A date without what makes forms of it many: commas, "the", "1st", "of"."""
    value = (
        re.sub(r"(?<=\d)(?:st|nd|rd|th)\b|\b(?:the|of)\b|['.,]", " ", value) if re.search("[A-Za-z]", value) else value
    )
    return " ".join(value.replace("-", " ").split()).title() if re.search("[A-Za-z]", value) else "".join(value.split())


def _clause(before: str) -> str:
    """The words of the sentence that lead up to a value."""
    return _SENTENCE.split(before)[-1]


def _of_other(text: str, start: int) -> bool:
    """Whether a birthday or number is that of a relative or guarantor: one is announced in the same clause."""
    clause = _clause(text[max(0, start - 90) : start])
    return (
        re.search(
            r"\b(?:guarantor|subscriber|insured|policy\s?holder|spouse|wife|husband|mother|father|mom|dad|son|daughter|sister|brother|employee|"
            r"responsible\s+party|baby|newborn|twin)\b",
            clause,
            re.I,
        )
        is not None
    )


def _is_patient(text: str, span: Found, before: str) -> bool:
    value = text[span.start : span.end]
    if re.match(r"(?:Dr|Doctor|Prof|Nurse)\b", value, re.I) or _PROVIDER_AFTER.match(text, span.end):
        return False
    if _PATIENT.search(before):
        return True
    return _OF_PATIENT.match(text, span.end) is not None and _OTHER.search(_clause(before)) is None


def _people(value: str) -> list[tuple[str, ...]]:
    """The words of a name, in lower case, its titles aside; first name first where a comma tells."""
    last, comma, first = value.partition(",")
    words = _NAME.findall(f"{first} {last}" if comma else value)
    name = tuple(w.lower().removesuffix("'s") for w in words if w.lower() not in _TITLES)
    return [name] if name else []


def _record_name(record: Mapping[str, Any] | None) -> tuple[str, ...]:
    if not record:
        return ()
    own = {k: v for k, v in record.items() if _OWN_FIELD.search(k) and isinstance(v, str)}
    words = dict.fromkeys(w.lower() for v in own.values() for w in _NAME.findall(v))
    return tuple(w for w in words if w not in _TITLES)


_OWN_FIELD = re.compile(
    r"^(?:patient_?)?(?:first|last|middle|full)?_?name$|^(?:patient_?)?(?:first|last|given|family|surname)$|^patient$",
    re.I,
)


def _two_people(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """Whether two names cannot be one person's: both have a first and a last name, and they do not agree in both."""
    long_a, long_b = [w for w in a if len(w) > 1], [w for w in b if len(w) > 1]
    if len(long_a) < 2 and len(long_b) < 2:
        if len(a) > 1 and len(b) > 1:  # "Anna S.", "John D."
            return not _same(a[0], b[0]) and a[-1][0] != b[-1][0] and a[0][0] != b[-1][0]
        return False
    if len(long_a) < 2 or len(long_b) < 2:
        short, long = (a, long_b) if len(long_a) < 2 else (b, long_a)
        return len(short) > 1 and not any(_same(s, w) for s in short for w in long)
    shared = sum(any(_same(x, y) for y in long_b) for x in long_a)
    if shared >= 2:
        return False
    return not (shared == 1 and len(a) > len(long_a) and len(b) > len(long_b))


def _same(a: str, b: str) -> bool:
    if len(a) == 1 or len(b) == 1:
        return a[0] == b[0]
    if a == b or (min(len(a), len(b)) >= 4 and (a.startswith(b) or b.startswith(a))):
        return True
    return (
        nearly(a, b)
        or b in NICKNAMES.get(a, ())
        or a in NICKNAMES.get(b, ())
        or bool(set(a.split("-")) & set(b.split("-")))
    )


def _squashed(value: str) -> str:
    return (
        "".join(c for c in value.upper() if c.isalnum())
        .replace("O", "0")
        .replace("L", "1")
        .replace("I", "1")
        .replace("S", "5")
    )


def _differ(a: str, b: str, least: int) -> bool:
    """Whether two numbers are surely two: long enough, neither part of the other, more than a slip apart."""
    if min(len(a), len(b)) < min(least, 5) or a in b or b in a:
        return False
    if least == 9 and min(len(a), len(b)) < 9:  # a masked number: only the last four are known
        return a[-4:] != b[-4:]
    return len(a) != len(b) or sum(x != y for x, y in zip(a, b, strict=True)) > 1


def _other_day(a: date, b: date) -> bool:
    """Whether two birthdays are not one with a slip of the pen: they differ in two of year, month and day."""
    return (a.year != b.year) + (a.month != b.month) + (a.day != b.day) >= 2
