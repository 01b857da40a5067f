"""Search a text for the values of its own structured record, in all usual spellings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any

import regex

from medbill.deid.text.lexicon import (
    DRUG,
    EPONYM,
    FIRST,
    LAST,
    MEDICAL,
    STATE_CODES,
    STATES,
    STOP,
    WORD,
    flags,
    word_list,
    word_set,
)
from medbill.deid.text.note import Note
from medbill.deid.text.span import Span
from medbill.deid.text.view import View

#: Fields that hold no identifier of a person: codes, amounts, states of a claim.
_SKIP = regex.compile(
    r"(?:^|_)(?:cpt|hcpcs|icd\d*|ndc|carc|rarc|code|codes|modifier|modifiers|amount|amounts|paid|billed|charge|charges|allowed|balance|status|state|sex|gender|"
    r"pos|drg|units|quantity|currency|type|kind|category|payer|payer_name|payor|plan_name|reason|remark|remarks|country|language|"
    r"specialty|taxonomy|dx|diagnosis|diagnoses|procedure|procedures|notes?|text|description)(?:$|_)",
    regex.I,
)
_FIELD_TYPES = (
    ("ADDRESS", r"addr|street|line_?[12]$"),
    ("CITY", r"city|town"),
    ("COUNTY", r"county"),
    ("ZIP", r"zip|postal"),
    ("FACILITY", r"facility|hospital|clinic|location|site"),
    ("EMPLOYER", r"employer|company|workplace|school"),
    ("DATE", r"dob|date|birth|dos|admit|discharge|_on$|_at$|service_day"),
    ("AGE", r"^age$|_age$"),
    ("FAX", r"fax"),
    ("PHONE", r"phone|tel|cell|mobile"),
    ("EMAIL", r"e?mail"),
    ("SSN", r"ssn|social"),
    ("MRN", r"mrn|medical_?record|chart|patient_?(?:id|number|no)$"),
    ("NPI", r"npi"),
    ("DEA", r"dea"),
    ("TAX_ID", r"tax|tin$|ein$"),
    ("MEMBER", r"member|subscriber|policy|group|insur|beneficiary|health_?plan|medicaid|medicare|mbi"),
    ("AUTHORIZATION", r"auth|referral|precert"),
    ("CLAIM", r"claim|icn|dcn|tcn"),
    ("ACCOUNT", r"account|acct|pcn|control|invoice|trace|check"),
    ("LICENSE", r"licen[cs]e|passport"),
    ("VIN", r"vin$|vehicle"),
    ("PLATE", r"plate"),
    ("DEVICE", r"device|serial|implant|udi"),
    ("URL", r"url|portal|web"),
    ("IP", r"^ip|_ip|ip_"),
    ("BIOMETRIC", r"biometric|fingerprint"),
    ("PHOTO", r"photo|image|picture"),
    (
        "PERSON",
        r"name|first|last|middle|given|family|surname|patient|spouse|mother|father|relative|guardian|provider|physician|doctor|"
        r"rendering|referring|attending|contact|guarantor|insured|caller|alias|nickname",
    ),
)  # fmt: skip
_COMPILED = tuple((kind, regex.compile(pattern, regex.I)) for kind, pattern in _FIELD_TYPES)
_NICKNAMES = """abigail abby gail|alexander alex al sandy|alfred al fred|amanda mandy|andrew andy drew|anthony tony|barbara barb babs|
benjamin ben benny|catherine cathy kate katie|charles charlie chuck chas|christina chris tina christy|christine chris chrissy|
christopher chris topher|cynthia cindy|daniel dan danny|david dave davy|deborah deb debbie|donald don donny|dorothy dot dottie|
edward ed eddie ted ned|eleanor ellie nora|elizabeth liz beth betty eliza lizzie betsy|eugene gene|frances fran|francis frank|
frederick fred freddie|gerald jerry gerry|gregory greg|harold harry hal|henry hank harry|jacob jake|jacqueline jackie|james jim jimmy jamie|
jeffrey jeff|jennifer jen jenny|jessica jess jessie|john jack johnny jon|jonathan jon|joseph joe joey|joshua josh|judith judy|
katherine kate kathy katie kathryn|kathleen kathy|kenneth ken kenny|kimberly kim|lawrence larry|leonard len lenny|leslie les|
margaret maggie meg peggy marge|matthew matt|melissa missy|michael mike mikey mick|michelle shelly|nancy nan|nathaniel nate nathan|
nicholas nick|pamela pam|patricia pat patty tricia|patrick pat|peter pete|philip phil|rebecca becky becca|richard rick dick rich richie|
robert bob bobby rob robbie bert|ronald ron ronnie|samantha sam|samuel sam sammy|sandra sandy|stephanie steph|stephen steve|steven steve|
susan sue susie|theodore ted teddy theo|theresa terry tess|thomas tom tommy|timothy tim|valerie val|victoria vicky|vincent vince|
virginia ginny|walter walt|william bill billy will willy liam|zachary zach""".replace("\n", "")
#: A first name and its short forms.
NICKNAMES: dict[str, tuple[str, ...]] = {
    group.split()[0]: tuple(group.split()[1:]) for group in _NICKNAMES.split("|") if group.split()
}
_TITLE = word_set("""
mr mrs ms miss dr prof md do rn jr sr ii iii iv np pa phd the of and at for inc llc ltd
""")
_JUNK = regex.compile(r"[\W_]+")
_TOKEN = regex.compile(r"[^\W\d_][^\W_]*")
_STREET_WORDS = {
    "street": "st", "avenue": "ave", "boulevard": "blvd", "road": "rd", "lane": "ln", "drive": "dr", "court": "ct",
    "place": "pl", "parkway": "pkwy", "highway": "hwy", "terrace": "ter", "circle": "cir", "square": "sq", "apartment": "apt",
    "suite": "ste", "north": "n", "south": "s", "east": "e", "west": "w", "saint": "st", "mount": "mt", "fort": "ft",
    "hospital": "hosp", "medical": "med", "center": "ctr",
}  # fmt: skip
_MONTHS = word_list("""
january february march april may june july august september october november december
""")
_CONFUSED = str.maketrans({"o": "0", "i": "1", "l": "1", "s": "5", "b": "8", "z": "2", "g": "9", "q": "9"})


_NAMES = regex.compile(
    r"(?:first|last|middle|full|given|family|patient|provider|facility|employer|spouse|relative|mother|father)_?(?:name)?$|name"
)
_PAYER_NAMES = regex.compile(r"payer|payor|plan_?name|insurance_?(?:name|company)|carrier")


@lru_cache(maxsize=4096)
def _by_name(field: str) -> tuple[str | None, bool, bool]:
    """What a field's name tells: the kind, whether it holds no identifier, whether it names a payer."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", field).lower()
    kind = next((kind for kind, pattern in _COMPILED if pattern.search(name)), None)
    skip = _NAMES.search(name) is None and _SKIP.search(name) is not None
    return kind, skip, _PAYER_NAMES.search(name) is not None


def field_type(field: str, value: str) -> str | None:
    """The kind of identifier a record's field holds, by its name, else by its value; None where it holds none."""
    kind, skip, payer = _by_name(field)
    digits = sum(c.isdigit() for c in value)
    if skip or (payer and not digits):
        return None
    if kind is not None:
        return kind
    if re.fullmatch(r"\$?[\d,]+\.\d\d|\d{1,4}", value):
        return None
    if digits >= 4:
        return "REFERENCE"
    if value[:1].isupper() and not flags(value.split()[0]) & (WORD | STOP | MEDICAL | DRUG):
        return "PERSON"
    return None


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}_")
        elif isinstance(value, (list, tuple)):
            for entry in value:
                if isinstance(entry, Mapping):
                    yield from _flat(entry, f"{name}_")
                elif entry is not None:
                    yield name, str(entry)
        elif value is not None and not isinstance(value, bool):
            yield name, value.isoformat() if isinstance(value, (date, datetime)) else str(value)


def date_of(value: str) -> date | None:
    """A full date in one of the usual forms, else None."""
    value = value.strip()
    for form in (
        "%Y-%m-%d",
        "%m/%d/%Y",
        "%m-%d-%Y",
        "%m/%d/%y",
        "%m-%d-%y",
        "%Y%m%d",
        "%B %d, %Y",
        "%b %d, %Y",
        "%d %B %Y",
        "%d %b %Y",
        "%B %d %Y",
        "%b %d %Y",
        "%d %b %y",
        "%m.%d.%Y",
    ):
        try:
            return (
                datetime.strptime(
                    value[:18] if form.startswith("%B") else value[:10] if form == "%Y-%m-%d" else value, form
                )
                .replace(tzinfo=UTC)
                .date()
            )
        except ValueError:
            continue
    return None


def _date_forms(day: date) -> set[str]:
    y, yy, m, d = f"{day:%Y}", f"{day:%y}", day.month, day.day
    month = _MONTHS[m - 1]
    short = month[:3]
    forms = set()
    for mm in {f"{m:02d}", str(m)}:
        for dd in {f"{d:02d}", str(d)}:
            forms |= {f"{mm}/{dd}/{y}", f"{mm}/{dd}/{yy}", f"{y}/{mm}/{dd}", f"{dd}/{mm}/{y}"}
    suffix = "th" if 10 < d % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(d % 10, "th")
    for name in {month, short, "sept" if m == 9 else short}:
        for dd in {f"{d:02d}", str(d), f"{d}{suffix}"}:
            forms |= {
                f"{name} {dd}",
                f"{name} {dd} {y}",
                f"{name} {dd} {yy}",
                f"{dd} {name} {y}",
                f"{dd} {name}",
                f"{dd} of {name}",
            }
    return forms


class Record:
    """A structured record, prepared for the search in one text. Bad values (empty, too short) are left out."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        #: squashed value -> type; squashed: lower case, letters and digits only
        self.exact: dict[str, str] = {}
        #: words of names, lower case -> type
        self.names: dict[str, str] = {}
        for field, raw in _flat(record):
            value = " ".join(View(raw).text.split())
            if not value or len(value) > 300:
                continue
            kind = field_type(field, value)
            if kind is not None:
                self._add(kind, value)

    def _add(self, kind: str, value: str) -> None:
        if kind == "PERSON":
            self._add_name(value)
            return
        if kind == "AGE":
            return
        if kind == "DATE":
            day = date_of(value)
            if day is not None:
                for form in _date_forms(day):
                    self._put(form, kind)
                return
        digits = "".join(c for c in value if c.isdigit())
        if kind in ("PHONE", "FAX"):
            core = digits[-10:] if len(digits) >= 10 else digits
            self._put(value, kind)
            for form in (core, "1" + core, "001" + core, core[-7:] if len(core) == 10 else ""):
                self._put(form, kind)
            return
        if kind == "SSN":
            self._put(digits, kind)
            return
        self._put(value, kind)
        if kind in ("ADDRESS", "FACILITY", "EMPLOYER", "CITY"):
            words = re.findall(r"[\w']+", value.lower())
            short = [_STREET_WORDS.get(w, w) for w in words]
            long = {v: k for k, v in _STREET_WORDS.items()}
            self._put(" ".join(short), kind)
            self._put(" ".join(long.get(w, w) for w in words), kind)
            for part in re.split(r"[,;\n]", value):
                if len(part.split()) > 1 or kind == "CITY":
                    self._put(part, kind)
            if kind == "ADDRESS":
                unit = re.split(r"(?i),|\b(?:apt|apartment|suite|ste|unit|#)\b", value)[0]
                if len(unit.split()) > 1:
                    self._put(unit, kind)
            return
        if kind == "ZIP" and len(digits) == 9:
            self._put(digits[:5], kind)
        if kind == "EMAIL":
            return
        # an id is often written without its prefix, or without leading noughts
        bare = _JUNK.sub("", value)
        prefixed = re.fullmatch(r"([A-Za-z]{1,5})(\d{6,})", bare)
        if prefixed:
            self._put(prefixed[2], kind)
        stripped = bare.lstrip("0")
        if len(stripped) >= 6 and stripped != bare:
            self._put(stripped, kind)

    def _put(self, value: str, kind: str) -> None:
        squashed = _JUNK.sub("", value).casefold()
        least = 3 if kind in ("CITY", "FACILITY", "EMPLOYER") else 5
        if len(squashed) >= least and not (squashed in STATES or squashed.upper() in STATE_CODES.split("|")):
            if len(squashed) < 6 and squashed.isalpha() and flags(squashed) & (WORD | STOP):
                return
            if kind != "ZIP" and len(squashed) == 5 and squashed.isdigit():
                return  # it could be a procedure code
            self.exact.setdefault(squashed, kind)

    def _add_name(self, value: str) -> None:
        words = [w.lower() for w in _TOKEN.findall(value) if w.lower() not in _TITLE]
        for word in words:
            if len(word) >= 2:
                self.names.setdefault(word, "PERSON")
                for nick in NICKNAMES.get(word, ()):
                    self.names.setdefault(nick, "PERSON")
        if len(words) >= 2:
            self._put("".join(words), "PERSON")
            self._put("".join(words[::-1]), "PERSON")
            self._put(words[-1] + "".join(words[:-1]), "PERSON")

    def find(self, note: Note) -> list[Span]:
        """Every value of the record in the text."""
        found: list[Span] = []
        text = note.text
        if self.exact:
            found += _find_squashed(text, self.exact)
        if self.names:
            found += self._find_names(text)
        return found

    def _find_names(self, text: str) -> list[Span]:
        found: list[Span] = []
        long = [n for n in self.names if len(n) >= 5]
        previous: Span | None = None
        for match in _TOKEN.finditer(text):
            word = match[0]
            low = word.lower()
            hit = low in self.names
            capital = word[0].isupper()
            if hit:
                f = flags(low)
                beside = previous is not None and match.start() - previous.end <= 3
                if f & (WORD | STOP) and not (capital and _names(text, match, f)) and not beside:
                    # "Will the claim ...", "long": the word, not the name - unless another name of the record follows
                    after = _TOKEN.search(text, match.end())
                    hit = bool(
                        capital and after and after[0].lower() in self.names and after.start() - match.end() <= 3
                    )
                elif (len(low) <= 3 and not capital and not beside) or (f & EPONYM and _eponym_use(text, match.end())):
                    hit = False
            elif long and len(low) >= 4 and not flags(low) & (WORD | STOP | DRUG | MEDICAL):
                hit = any(nearly(low, name) for name in long) and not (flags(low) & (FIRST | LAST) and len(low) < 6)
            if hit:
                start = match.start()
                if previous is not None and re.fullmatch(r"\s?,?\s?(?:[A-Z]\.?\s)?", text[previous.end : start]):
                    start = previous.start
                    found.pop()
                end = match.end()
                letter = re.match(r"\s[A-Z]\b\.?(?!\w)", text[end : end + 4])
                if letter and capital:
                    end += letter.end()
                previous = Span(start, end, "PERSON", 0.97, "record")
                found.append(previous)
        return found


def _eponym_use(text: str, end: int) -> bool:
    return (
        re.match(
            r"(?:'s)?\s+(?:disease|syndrome|sign|score|scale|criteria|test|index|palsy|lymphoma)", text[end : end + 24]
        )
        is not None
    )


def _names(text: str, match: Any, known: int) -> bool:
    """Whether a name of the record that is also a word ("Mark", "Will") is meant as the name: it has a capital that its
    place does not explain, or what follows treats it as a person."""
    word = match[0]
    if word.isupper() and len(word) > 1 and text[match.end() : match.end() + 12].isupper():
        return False
    if not _opens(text, match.start()):
        return True
    if not known & STOP:
        return True
    return (
        re.match(r"\s+(?:is|was|has|had|will|did|does|[a-z]{2,12}(?:s|ed))\b", text[match.end() : match.end() + 20])
        is not None
    )


def _opens(text: str, start: int) -> bool:
    before = text[max(0, start - 3) : start].rstrip(" ")
    return start == 0 or not before or before[-1] in ".!?\n"


def nearly(a: str, b: str) -> bool:
    """Whether one edit (change, drop, add, exchange of neighbours) or one OCR confusion makes a of b."""
    if abs(len(a) - len(b)) > 1:
        return a.replace("rn", "m").replace("vv", "w") == b.replace("rn", "m").replace("vv", "w")
    if a.translate(_CONFUSED) == b.translate(_CONFUSED):
        return True
    if len(a) == len(b):
        different = [i for i in range(len(a)) if a[i] != b[i]]
        if len(different) == 1:
            return different[0] > 0 and len(a) >= 5
        return (
            len(different) == 2
            and different[1] == different[0] + 1
            and a[different[0]] == b[different[1]]
            and a[different[1]] == b[different[0]]
        )
    short, long = (a, b) if len(a) < len(b) else (b, a)
    i = next((k for k in range(len(short)) if short[k] != long[k]), len(short))
    return short[i:] == long[i + 1 :] and len(short) >= 5 and i > 0


def _find_squashed(text: str, values: dict[str, str]) -> list[Span]:
    """Values in the text whatever stands between their letters and digits: blanks, hyphens, line breaks."""
    lowered = text.lower()
    if len(lowered) != len(text):
        lowered = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
    squashed = _JUNK.sub("", lowered)
    found: list[Span] = []
    where: list[int] | None = None
    for value, kind in values.items():
        at = squashed.find(value)
        while at >= 0:
            if where is None:
                where = [i for i, c in enumerate(lowered) if c.isalnum()]
                if len(where) != len(squashed):  # a letter the pattern and str do not agree on
                    where = [m.start() for m in re.finditer(r"[^\W_]", lowered)]
            start, end = where[at], where[at + len(value) - 1] + 1
            left_ok = (
                start == 0 or not text[start - 1].isalnum() or (text[start].isdigit() and text[start - 1].isalpha())
            )
            right_ok = (
                end == len(text)
                or not text[end].isalnum()
                or (text[end - 1].isdigit() and text[end].isalpha() and end - start >= 8)
            )
            spread = (end - start) <= 2 * len(value) + 6
            if left_ok and right_ok and spread:
                found.append(Span(start, end, kind, 0.98, "record"))
            at = squashed.find(value, at + 1)
    return found
