"""Identifiers that are certain by their form or their label, whoever's they are.

Not the de-identifier's recognizers (medbill.deid.text.identifiers): those lean towards redacting, which a guard that
stops a whole payload must not, and cost several milliseconds per kilobyte. Here a pattern counts only where nothing else
looks like it; codes, amounts, dates of payment and the numbers of payers and providers do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from medbill.deid.text import guard

_SSN = re.compile(r"(?<![\w.-])(?!000|666)\d{3}([-. ]|\s?-\s?)(?!00)\d{2}\1(?!0000)\d{4}(?![\w-]|\.\d)")
_PHONE = re.compile(
    r"(?<![\w.$/-])(?:\+?1[-. ]{0,2})?(?:\(\s?[2-9]\d\d\s?\)[-. ]{0,2}|[2-9]\d\d[-. ])[2-9]\d\d[-. ]\d{4}(?![\w-]|\.\d)|"
    r"(?<![\w.$/+-])\+\d{1,3}(?:[-. ()]{1,2}\d{2,4}){2,5}(?![\w-])|(?<!\w)\+1?[2-9]\d\d[2-9]\d{6}(?!\d)"
)
_EMAIL = re.compile(r"[\w.+%'-]{1,64}@(?:[\w-]{1,63}\.){1,6}[^\W\d_]{2,24}(?![\w-])")
_CARD = re.compile(r"(?<![\w-])(?:\d[ -]?){12,18}\d(?![\w-]|\.\d)")
_MBI = re.compile(
    r"(?<![\w-])[1-9][AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9]\d-?[AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9]\d-?[AC-HJKMNP-RT-Y]{2}\d\d(?![\w-])",
    re.I,
)
_IP = re.compile(
    r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?![\w.]*\d)"
)
_JOIN = r"(?:[\s_.:=#\"'*()-]|\b(?:is|was|no|nr|number|num|id|of)\b){1,12}"
_NUMBER = r"(?=[A-Z-]*\d)([A-Z0-9]+(?:-[A-Z0-9]+)*)(?![\w-])"
#: Label, then a value with a figure in it. In names of fields "_" joins words.
_LABELLED = {
    "MRN": re.compile(
        rf"(?<![A-Za-z])(?:m\.?r\.?n|med(?:ical)?[\s_.]*rec(?:ord)?(?:[\s_.]*(?:number|num|no|nr|id|\#))?|chart[\s_]*(?:number|num|no|\#)|"
        rf"patient[\s_]*(?:id|number|no|\#)){_JOIN}{_NUMBER}",
        re.I,
    ),
    "SSN": re.compile(
        rf"(?<![A-Za-z])(?:ssn|social[\s_]*security)(?:[\s_]*(?:number|num|no|\#))?{_JOIN}(\d{{9}}|[X*]{{3}}-?[X*]{{2}}-?\d{{4}}|\d{{4}})(?![\w-])",
        re.I,
    ),
    "MEMBER": re.compile(
        rf"(?<![A-Za-z])(?:member|subscriber|beneficiary|insured|enrollee|medicare|medicaid|mbi|hicn)[\s_']*s?[\s_]*(?:id|identifier|number|num|no|\#){_JOIN}{_NUMBER}|"
        rf"(?<![A-Za-z])(?:mbi|hicn){_JOIN}{_NUMBER}",
        re.I,
    ),
    "ACCOUNT": re.compile(
        rf"(?<![A-Za-z])(?:account|acct)[\s_]*(?:id|identifier|number|num|no|\#){_JOIN}{_NUMBER}", re.I
    ),
    "LICENSE": re.compile(
        rf"(?<![A-Za-z])(?:driver'?s?[\s_]*licen[cs]e|passport)(?:[\s_]*(?:id|number|num|no|\#))?{_JOIN}{_NUMBER}",
        re.I,
    ),
}
_MONTHS = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\.?"
_DAY = (
    rf"(\d{{1,2}}\s?[-/.]\s?\d{{1,2}}\s?[-/.]\s?\d{{2,4}}|(?:19|20)\d\d[-/.]?[01]\d[-/.]?[0-3]\d|[01]\d[0-3]\d(?:19|20)\d\d|"
    rf"{_MONTHS}\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+\d{{2,4}}|\d{{1,2}}(?:st|nd|rd|th)?[\s-]+{_MONTHS},?[\s-]+\d{{2,4}})(?!\d)"
)
_BORN = re.compile(
    rf"(?<![A-Za-z])(?:d\.?o\.?b|b\.?day|born|birth[\s_]*(?:date|day)|date[\s_]*of[\s_]*birth|d\.?o\.?d|died|deceased|date[\s_]*of[\s_]*death|death[\s_]*date)"
    rf"(?:[\s_.:=#\"'*()-]|\b(?:is|was|on|as|of)\b){{1,12}}{_DAY}",
    re.I,
)
_SHORTEST = 4  # figures in a labelled number
_SHAPES = {"SSN": _SSN, "PHONE": _PHONE, "CARD": _CARD, "MEMBER": _MBI, "IP": _IP}


#: Four figures near each other: no pattern but that of mail addresses matches without. And how far a label is looked for.
_FOUR = re.compile(r"\d(?:[^\d\n|]{0,3}\d){3}")
_BEFORE, _AFTER = 60, 40
_LABEL = re.compile(
    r"mrn|m\.r|rec|chart|patient|ssn|social|member|subscr|benef|insured|enroll|medic|mbi|hic|account|acct|licen|passport|"
    r"born|birth|b\.?day|d\.?o\.?[bd]|died|deceased|death",
    re.I,
)


def find(text: str) -> Iterator[tuple[str, int, int]]:
    """(kind, start, end) of certain identifiers in a folded text; may overlap. Linear: every pattern is bounded."""
    if "@" in text:
        for m in _EMAIL.finditer(text):
            yield "EMAIL", *m.span()
    low = high = -1
    for hit in _FOUR.finditer(text):
        if hit.start() - _BEFORE > high:
            if high >= 0:
                yield from _figures(text, low, high)
            low = max(0, hit.start() - _BEFORE)
        high = min(len(text), hit.end() + _AFTER)
    if high >= 0:
        yield from _figures(text, low, high)


def _figures(text: str, low: int, high: int) -> Iterator[tuple[str, int, int]]:
    for kind, pattern in _SHAPES.items():
        for m in pattern.finditer(text, low, high):
            if kind != "CARD" or _luhn(m[0]):
                yield kind, *m.span()
    if _LABEL.search(text, low, high) is None:
        return
    for kind, pattern in _LABELLED.items():
        for m in pattern.finditer(text, low, high):
            value = m[m.lastindex or 0]
            if kind == "SSN" or (sum(map(str.isdigit, value)) >= _SHORTEST and not guard.is_code(value)):
                yield kind, *m.span(m.lastindex or 0)
    for m in _BORN.finditer(text, low, high):
        yield "BIRTH_OR_DEATH_DATE", *m.span(1)


def _luhn(text: str) -> bool:
    """Whether a number passes the check digit of payment cards (ISO/IEC 7812-1) and begins as those of people do."""
    digits = [int(character) for character in text if character.isdigit()]
    if digits[0] not in (2, 3, 4, 5, 6) or not 13 <= len(digits) <= 19 or len(set(digits)) < 2:
        return False
    odd, even = digits[-1::-2], digits[-2::-2]
    return (sum(odd) + sum(n * 2 - 9 * (n > 4) for n in even)) % 10 == 0
