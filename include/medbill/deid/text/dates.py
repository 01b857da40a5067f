"""Dates in every form, and ages over 89 (45 CFR 164.514(b)(2)(i)(C))."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from functools import lru_cache

import regex

from medbill.deid.text.lexicon import word_list, word_set
from medbill.deid.text.note import Note
from medbill.deid.text.scan import at, finditer, led, near
from medbill.deid.text.span import Span, spot

_FULL = word_list("""
january february march april may june july august september october november december
""")
_SHORT = word_list("jan feb mar apr jun jul aug sept sep oct nov dec")


def _misspelt() -> frozenset[str]:
    """Names of months with one letter dropped, doubled, exchanged with its neighbour, or as OCR misreads it."""
    out = set()
    for month in _FULL:
        if len(month) < 5:
            continue
        for i in range(1, len(month)):
            out |= {month[:i] + month[i + 1 :], month[:i] + month[i] + month[i:]}
            out.add(month[: i - 1] + month[i] + month[i - 1] + month[i + 1 :])
        for a, b in (
            ("o", "0"),
            ("l", "1"),
            ("r", "n"),
            ("u", "v"),
            ("e", "c"),
            ("a", "e"),
            ("m", "rn"),
            ("b", "h"),
            ("i", "l"),
        ):
            for i, c in enumerate(month):
                if c == a:
                    out.add(month[:i] + b + month[i + 1 :])
    return frozenset(out) - set(_FULL) - {"march"}


_MISSPELT = _misspelt()
_MONTH = "(?:" + "|".join([*_FULL, *(f"{m}\\b\\.?" for m in _SHORT), *sorted(_MISSPELT, key=len, reverse=True)]) + ")"
_CLEAN_MONTH = "(?:" + "|".join([*_FULL, *_SHORT]) + ")"
_O = r"[\dOolI]"  # OCR
_DAY = r"(?:[0-3]?\d|[O0][1-9]|[l1I][0-9OolI]|[23][OolI]|[lI])(?:\s?(?:st|nd|rd|th))?"
_YEAR = r"(?:(?:19|20|2O)[\dOolI]{2}|'\s?\d{2}|\d{2}(?![\d:/-]))"
_YEAR4 = r"(?:19|20)\d\d"
_TIME = r"(?:[T ,]{1,2}(?:at )?\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:\s?[ap]\.?m\b\.?)?(?:Z|[+-]\d\d:?\d\d)?)?"
_WEEKDAY = r"(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?s?"


@lru_cache(maxsize=2048)
def _written(name: str) -> regex.Pattern[str]:
    """Dates with this month in letters: one pattern for each month that is met, not one with every misspelling."""
    month = rf"{name}\b\.?" if name in _SHORT else name
    return regex.compile(
        rf"(?<![\w])(?:{_WEEKDAY}\.?,?\s+)?(?:the\s+)?(?:"
        rf"{month}[\s.,/-]*(?:the\s+)?{_DAY}(?:\s?(?:-|to|and|&|through|thru)\s?(?:{_CLEAN_MONTH}\.?\s+)?{_DAY})?(?:\s?(?:,|of|-|/|\s)\s?\s?{_YEAR})?(?![\w])"
        rf"|{_DAY}[\s.,/-]*(?:day\s+)?(?:of\s+)?{month}(?:[\s.,/-]+{_YEAR})?(?![\w])"
        rf"|{month}[\s.,/-]*(?:of\s+)?(?:{_YEAR4}|'\d\d)(?![\w])"
        r")",
        regex.I,
    )


_NUMERIC = regex.compile(
    rf"(?<![\w./-])(?:"
    rf"(?:0?[1-9]|1[0-2]|[Ol]{_O}|1[Ol])\s?[/.-]\s?(?:0?[1-9]|[12]\d|3[01]|[Ol]{_O}|{_O}[Ol])\s?[/.-]\s?(?:(?:19|20|2O){_O}{_O}|\d\d)"
    rf"|(?:0?[1-9]|[12]\d|3[01])\s?[/.-]\s?(?:0?[1-9]|1[0-2])\s?[/.-]\s?(?:(?:19|20)\d\d|\d\d)"
    rf"|(?:19|20|2O){_O}{_O}[/.-](?:0?[1-9]|1[0-2]|O[1-9]|[lI]{_O}|{_O}[lIO])[/.-](?:0?[1-9]|[12]\d|3[01]|[Ol]{_O}|{_O}[OlI]){_TIME}"
    rf"|(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
    rf")(?![\w/-]|\.\d)",
    regex.I,
)
#: Month and day without a year, or month and year in figures: only with a cue or leading noughts.
_CUE = (
    r"(?:on|since|by|from|dated?|dos|dob|d\.o\.b\.?|seen|visit(?:ed)?|until|till|through|thru|between|and|to|of|before|after|"
    r"starting|effective|eff|due|thru|exp(?:ires|iration)?|admit(?:ted)?|adm|disch(?:arged)?|dc|d/c|scheduled|appt|"
    r"appointment|received|rec'd|recd|sent|filed|submitted|mailed|paid|posted|for|as\s+of|last|next|f/u|service|birth|born|dod)"
)
_SHORT_NUMERIC = regex.compile(
    rf"\b{_CUE}\b[\s:,.(-]{{1,3}}((?:0?[1-9]|1[0-2])[/-](?:0?[1-9]|[12]\d|3[01])(?:\s?(?:-|to|thru|through|and)\s?(?:0?[1-9]|1[0-2])[/-](?:0?[1-9]|[12]\d|3[01]))?|(?:0?[1-9]|1[0-2])[/-](?:19|20)\d\d)(?![\w/%-]|\.\d)|"
    r"(?<![\w/.-])(0[1-9]/(?:0[1-9]|[12]\d|3[01])|1[0-2]/(?:0[1-9]|[12]\d|3[01])|(?:0?[1-9]|1[0-2])/(?:19|20)\d\d)(?![\w/%-]|\.\d)",
    regex.I,
)
_MONTH_ALONE = regex.compile(
    rf"\b(?:in|since|until|till|by|before|after|during|from|of|through|thru|last|next|this|early|mid|late|every|each)[\s-]+((?:(?:early|mid|late)[\s-]+)?{_CLEAN_MONTH})\b(?!\s+(?:i|be|not|have|need|cause)\b)",
    regex.I,
)
_WEEKDAY_WORD = regex.compile(
    r"\b(?:last|next|this(?:\s+past|\s+coming)?|past|coming|on|every|each|until|by|since|before|after)\s+"
    r"(?:mon|tues|wednes|thurs|fri|satur|sun)days?\b|(?-i:(?<=[a-z,(] ?)(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day\b)|\b(?:on|by|until|last|next|this)\s+(?:Mon|Tues?|Wed|Thurs?|Fri)\b\.?",
    regex.I,
)
#: A month with a capital says when, whatever stands around it; "March" and "May" are words too.
_MONTH_NAME = re.compile(r"\b(?:January|February|April|June|July|August|September|October|November|December)\b")
_DAY_ALONE = re.compile(
    r"\b(?:on|since|until|till|by|before|after)\s+(the\s+(?:[1-9]|[12]\d|3[01])(?:st|nd|rd|th))(?=[,.;?!)]|\s*$|\s+(?:and|with|for|at|to|by|in)\b)"
)
_HOLIDAY = regex.compile(
    r"\b(?:Christmas(?:\s+(?:Eve|Day))?|Thanksgiving(?:\s+Day)?|New\s+Year'?s?(?:\s+(?:Eve|Day))?|Independence\s+Day|Labor\s+Day|"
    r"Memorial\s+Day|Veterans\s+Day|Easter(?:\s+Sunday)?|Halloween|Valentine'?s\s+Day|Mother'?s\s+Day|Father'?s\s+Day|"
    r"(?:the\s+)?(?:Fourth|4th)\s+of\s+July)\b"
)
_QUARTER = regex.compile(
    rf"\bQ[1-4]\s?(?:of\s+)?'?(?:{_YEAR4})\b|\b(?:first|second|third|fourth|1st|2nd|3rd|4th)\s+quarter\s+of\s+{_YEAR4}\b",
    regex.I,
)
_UNIX = regex.compile(
    r"\b(?:dob|birth\s?date|date\s+of\s+birth|born(?:\s+on)?|dos|date\s+of\s+service|dod|date\s+of\s+death)\b[\s:.=-]{0,4}(\d{6}|\d{8}|\d{1,2}[/.-]\d{1,2}[/.-]\d{2,4}|\d{1,2}[/.-]\d{1,2})(?![\w/])",
    regex.I,
)
_BIRTH_YEAR = regex.compile(
    r"\b(?:born|dob|d\.o\.b\.?|birth(?:\s?(?:date|year|day))?|year\s+of\s+birth|yob|b\.)(?:\s*(?:in|on|:|=|is|was|of|the\s+year)){0,4}\s*((?:18|19)\d\d)\b",
    regex.I,
)
_NUMBER_WORDS = r"(?:ninety(?:[- ](?:one|two|three|four|five|six|seven|eight|nine))?|(?:one\s+)?hundred(?:\s+and)?(?:[- ](?:one|two|three|four|five|six|seven|eight|nine|ten))?)"
_AGE_UNIT = r"(?:[\s-]*(?:years?|yrs?|yr\.?|y\.?/?o\.?|y\.o\.?|yoa|y)(?:[\s-]*(?:old|of\s+age))?\b)"
_SEX = r"(?:[\s-]*(?:yo|y/o)?[\s/-]*(?:[mf]\b|male|female|man|woman|gentleman|lady))"
_AGE = regex.compile(
    rf"(?<![\w.$/-])(9[Oo0-9]|1[01]\d|12[0-5])(?={_AGE_UNIT}|{_SEX})|"
    rf"\b(?:aged?|age\s+is|age\s+of|turn(?:ed|ing|s)|is\s+now|currently)[\s:=]{{1,3}}(9\d|1[01]\d|12[0-5])\b(?!\s*(?:%|mg|days?|weeks?|months?|[/.]\d))|"
    rf"\b({_NUMBER_WORDS})(?={_AGE_UNIT})|"
    rf"\b(?:in|into|of)\s+(?:his|her|their|the)\s+(?:early|mid|late|very\s+late)?[\s-]*(nineties|90'?s|hundreds|100'?s)\b|"
    rf"\b(nonagenarians?|centenarians?|supercentenarians?)\b|"
    rf"\b(?:over|older\s+than|past|above)\s+(9\d|1[01]\d)(?=\s*(?:years|yrs|y/?o))",
    regex.I,
)


def _pain(text: str, start: int, end: int) -> bool:
    """Whether "5/10" and the like is a score, not a date."""
    before = text[max(0, start - 22) : start].lower()
    return any(
        w in before
        for w in (
            "pain",
            "strength",
            "reflex",
            "score",
            "scale",
            "grade",
            "murmur",
            "bp",
            "vision",
            "stage",
            "ratio",
            "rated",
        )
    )


_CLEAN_MONTHS = frozenset(_FULL) | frozenset(_SHORT)
_ALL_MONTHS = frozenset(_FULL) | frozenset(_SHORT) | _MISSPELT
_GLUED_MONTH = re.compile(
    r"\d(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)|(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)\d", re.I
)
#: Month or year and the mark after it, or eight figures.
_NUMERIC_LEAD = re.compile(
    r"[\dOolI](?<![\w./-].)(?:[\dOolI]?\s?[/.-]\s?[\dOolI]{1,2}\s?[/.-]\s?[\dOolI]|[\dOolI]{3}[/.-]|(?<=[12])\d{7}(?!\d))"
)
_MAYBE_SHORT = re.compile(r"(?<![\w/.-])\d{1,2}[/-](?:\d\d?(?!\d)|(?:19|20)\d\d)(?![\w/%]|-\d{1,4}[/-]\d{4}|\.\d)")
_MAYBE_OLD = re.compile(
    r"[91NnCcHh](?:(?<=[91])(?:(?<![\w.$/-].)(?:(?<=9)[\dOo]|(?<=1)[0-2]\d)(?![\d/])|(?<=9)0)"
    r"|(?i:(?<=n)(?:onagen|inet)|(?<=c)enten|(?<=h)undred))"
)
_HOLIDAY_LEAD = led(
    "Chris", "Thanks", "New", "Indep", "Labor", "Memor", "Veter", "Easter", "Hallow", "Valent", "Mother", "Father", "the", "Fourth",
    "4th", case=True,
)  # fmt: skip
_WEEKDAYS = word_set("""
monday tuesday wednesday thursday friday saturday sunday mondays tuesdays wednesdays thursdays fridays saturdays
sundays mon tue tues wed thu thur thurs fri
""")
_HOLIDAYS = word_set("""
christmas thanksgiving year independence labor memorial veterans easter halloween valentine mother father fourth
4th
""")
_SEASON = re.compile(r"\b(?:spring|summer|fall|autumn|winter)\s+(?:of\s+)?(?:19|20)\d\d\b", re.I)
_BIRTH = word_set("dob born birth birthdate birthday dos dod date yob d b")
_BIRTH_AT = led(r"d\.?o\.?[bsd]\b", "birth", r"date\s+of", "born", r"year\s+of\s+birth", "yob", r"b\.")
_OLD = word_set("""
ninety hundred nineties 90s hundreds 100s nonagenarian nonagenarians centenarian centenarians supercentenarian
supercentenarians 90
""")
_REACH = 48


def _windows(note: Note, months: frozenset[str]) -> Iterator[tuple[str, int, int]]:
    """Each name of a month with the stretches of the text around it."""
    lowered = note.text.lower()
    for month in sorted(months):
        if len(lowered) != len(note.text):
            yield month, 0, len(note.text)
            continue
        at = lowered.find(month)
        while at >= 0:
            low, high = max(0, at - _REACH), min(len(lowered), at + _REACH + 16)
            while low > 0 and lowered[low - 1].isalnum():
                low -= 1
            while high < len(lowered) and lowered[high].isalnum():
                high += 1
            yield month, low, high
            at = lowered.find(month, at + 1)


_STOPS = frozenset(".;?!\n")
_VAGUE = re.compile(
    r"\b(?:last|next|this|this\s+past|the\s+past|earlier\s+this)\s+(?:week|weekend|month|year|night|spring|summer|fall|autumn|winter)\b"
    r"|\b(?:yesterday|(?:a|one|two|three|four|five|six|\d{1,2})\s+(?:day|week|month)s?\s+ago)\b",
    re.I,
)
#: How far before such words the person or place may stand.
_VISIT = 40


def relative(text: str, spans: list[Span]) -> list[Span]:
    """ "Last week" soon after a named person or place: the day of that visit. Elsewhere such words tell nothing."""
    out = []
    for match in _VAGUE.finditer(text):
        named = any(
            s.type in ("PERSON", "FACILITY", "CITY")
            and 0 <= match.start() - s.end <= _VISIT
            and _STOPS.isdisjoint(text[s.end : match.start()])
            for s in spans
        )
        if named:
            out.append(Span(match.start(), match.end(), "DATE", 0.5, "relative_date"))
    return out


def find(note: Note, today: date | None = None) -> list[Span]:
    """Dates (type DATE) and ages over 89 (type AGE)."""
    text = note.text
    found: list[Span] = []
    months = note.words & _ALL_MONTHS
    if note.tokens and any(_GLUED_MONTH.search(form) for form in note.mixed):
        months = months | frozenset(_SHORT)
    if months:
        for name, low, high in _windows(note, months):
            for match in finditer(_written(name), text, low, high):
                value = match[0]
                lowered = value.lower()
                verb = lowered.startswith(("may ", "march ", "mar ", "sun ", "sat ")) and value[0].islower()
                if (verb and _SURELY.search(lowered) is None) or "\n\n" in value or lowered == "may i":
                    continue
                if _DOSE_AFTER.match(text, match.end()) and _YEAR_IN.search(value) is None:
                    continue
                found.append(spot(match, 0, "DATE", 0.9, "date_written"))
        found += [spot(m, 0, "DATE", 0.6, "month") for m in _MONTH_NAME.finditer(text)]
        for match in finditer(_MONTH_ALONE, text) if note.has(_CLEAN_MONTHS) else ():
            if match[1][0].isupper() or match[1].split()[-1].lower() not in (
                "may",
                "march",
                "mar",
                "sep",
                "dec",
                "jan",
                "jun",
            ):
                found.append(spot(match, 1, "DATE", 0.6, "month"))
    if note.tokens:
        for match in at(_NUMERIC, _NUMERIC_LEAD, text):
            found.append(spot(match, 0, "DATE", 0.9, "date_numeric"))
        if _MAYBE_SHORT.search(text):
            for match in near(_SHORT_NUMERIC, _MAYBE_SHORT, text, 18, 24):
                group = 1 if match[1] else 2
                if match[group] not in _FRACTIONS and not _pain(text, match.start(), match.end(group)):
                    found.append(spot(match, group, "DATE", 0.7, "date_short"))
        if note.has(_BIRTH):
            for match in near(_UNIX, _BIRTH_AT, text, 0, 36):
                found.append(spot(match, 1, "DATE", 0.9, "date_labelled"))
            limit = (today or datetime.now(UTC).date()).year - 89
            for match in near(_BIRTH_YEAR, _BIRTH_AT, text, 0, 40):
                if int(match[1]) < limit:
                    found.append(spot(match, 1, "DATE", 0.9, "birth_year_over_89"))
        if note.has({"q1", "q2", "q3", "q4", "quarter"}):
            found += [spot(m, 0, "DATE", 0.7, "quarter") for m in finditer(_QUARTER, text)]
    if note.tokens and "the " in text:
        found += [spot(m, 1, "DATE", 0.6, "day_of_month") for m in _DAY_ALONE.finditer(text)]
    if note.has(_WEEKDAYS):
        for match in finditer(_WEEKDAY_WORD, text):
            first, _, rest = match[0].partition(" ")
            keep = len(match[0]) - len(rest.lstrip()) if first.lower() in _KEPT else 0
            found.append(Span(match.start() + keep, match.end(), "DATE", 0.6, "weekday"))
    if note.tokens and note.has({"spring", "summer", "fall", "autumn", "winter"}):
        found += [spot(m, 0, "DATE", 0.6, "season") for m in _SEASON.finditer(text)]
    if note.has(_HOLIDAYS):
        found += [spot(m, 0, "DATE", 0.6, "holiday") for m in at(_HOLIDAY, _HOLIDAY_LEAD, text)]
    if note.tokens or note.has(_OLD):
        for match in near(_AGE, _MAYBE_OLD, text, 40, 40):
            found.append(spot(match, match.lastindex or 0, "AGE", 0.9, "age_over_89"))
    return found


_FRACTIONS = frozenset(("1/2", "1/3", "2/3", "1/4", "3/4", "1/8", "10/10"))
_SURELY = re.compile(r"\d{3}|st\b|nd\b|rd\b|th\b")
_DOSE_AFTER = re.compile(r"\s?(?:mg|mcg|ml|units?|%)")
_YEAR_IN = re.compile(_YEAR4)
_KEPT = word_set("on by every each until since before after")
_KEEP_YEAR = regex.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")


def year_to_keep(value: str, today: date | None = None) -> tuple[int, int] | None:
    """Where in a date the year stands that Safe Harbor lets stay: four figures, and not so long ago that it tells an
    age over 89."""
    match = _KEEP_YEAR.search(value)
    if match is None or len(value) == 4 or int(match[0]) <= (today or datetime.now(UTC).date()).year - 90:
        return None
    return match.start(), match.end()
