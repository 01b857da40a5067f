"""Numbers and codes of a person: labelled or recognisable by their shape."""

from __future__ import annotations

import re
from bisect import bisect_right

import regex

from medbill.deid.text import guard
from medbill.deid.text.lexicon import flags, word_set
from medbill.deid.text.note import Note
from medbill.deid.text.scan import TIME_LIMIT, at, finditer, led, near
from medbill.deid.text.span import Span, spot

# (type, labels that speak for themselves, labels that need "number", "#" or "ID" or a value that looks like one)
_LABELS: tuple[tuple[str, str, str], ...] = (
    (
        "MRN",
        r"m\.?r\.?n\.?|m\.?r\.?\s?\#|records?\s*(?:id|number|no\.|no|num|\#)|med(?:ical)?\.?\s*rec(?:ord)?s?\.?|empi|uhid|hospital\s+(?:no|number|\#)|"
        r"(?:patient|pt|chart|unit)\.?\s*(?:id(?:entifier|entification)?|number|no\.|no|num|\#)",
        r"chart|records?|patient|pt",
    ),
    (
        "MEMBER",
        r"(?:member|subscriber|policy\s?holder|beneficiary|insured|enrollee|dependent)(?:'s)?\s*(?:id(?:entifier|entification)?|number|no\.|no|num|\#)|"
        r"(?:insurance|insur|ins|health\s*plan|plan|policy|group|grp|medicaid|medicare|payer|card\s?holder|benefits?|coverage|"
        r"certificate|contract)\.?\s*(?:policy\s*|plan\s*|member\s*|group\s*|card\s*)?(?:ids?|id\.|identifier|identification|number|no\.|no|num|nbr|\#)|"
        r"mbi|hicn?|rx\s?(?:bin|pcn|grp|group|id)|health\s+plan\s+beneficiary",
        r"member|subscriber|beneficiary|insured|insurance|insur|ins|health\s*plan|plan|policy|group|grp|medicaid|medicare|coverage",
    ),
    (
        "ACCOUNT",
        r"(?:account|acct|acc|a/c|encounter|visit|invoice|statement|guarantor|bank|routing|aba|iban|(?:credit|debit)\s+card|card|"
        r"check|cheque|eft|wire|payment|transaction|receipt|bill(?:ing)?)\.?\s*(?:id|number|no\.|no|num|nbr|\#|trace)|"
        r"account|acct|patient\s+control(?:\s+number)?|pcn|iban",
        r"encounter|visit|invoice|statement|check|cheque|eft|trace|routing|card|transaction|receipt|confirmation",
    ),
    (
        "CLAIM",
        r"claims?\s*(?:id|number|no\.|no|num|nbr|\#|control|ref(?:erence)?)|(?:internal|document|transaction|payer|payor)\s*claim\s*control|"
        r"(?:internal|document|transaction|payer|payor)\s*control|icn|dcn|tcn|ccn|clm(?:\s?\#)?",
        r"claims?",
    ),
    (
        "AUTHORIZATION",
        r"(?:prior\s*|pre-?\s*)?auth(?:orization|orisation)?\s*(?:id|number|no\.|no|num|nbr|\#|code|ref(?:erence)?)|"
        r"(?:referral|pre-?cert(?:ification)?|certification|approval|pa)\s*(?:id|number|no\.|no|num|nbr|\#)|prior\s*auth(?:orization)?",
        r"(?:pre-?)?auth(?:orization|orisation)?|referral|pre-?cert(?:ification)?|approval",
    ),
    (
        "LICENSE",
        r"(?:(?:driver'?s?|state|medical|nursing|professional|rn|md)\s+)?(?:licen[cs]e|lic)\.?\s*(?:id|number|no\.|no|num|\#)|"
        r"(?:driver'?s?|medical|nursing|professional)\s+licen[cs]e|\bd\.?l\.?\s?\#|cdl|passport(?:\s*(?:number|no\.?|\#))?|"
        r"state\s+id|green\s*card|visa\s*(?:number|no\.?|\#)|(?:board\s+)?certificate\s*(?:number|no\.?|\#)|clia(?:\s*(?:number|no\.?|\#|id))?|"
        r"upin|state\s+lic(?:ense)?",
        r"licen[cs]e|lic",
    ),
    ("DEA", r"dea(?:\s*(?:registration|number|no\.?|num|\#|id))*", r"dea"),
    ("NPI", r"npi(?:\s*(?:number|no\.?|num|\#|id))*|national\s+provider\s+id(?:entifier)?", r"npi"),
    ("TAX_ID", r"tin|tax\s*(?:payer)?\s*id(?:entification)?(?:\s*(?:number|no\.?|num|\#))?|ein|fein|itin", r"tin"),
    ("VIN", r"vin(?:\s*(?:number|no\.?|num|\#))?|vehicle\s+id(?:entification)?(?:\s*(?:number|no\.?|num|\#))?", r"vin"),
    (
        "DEVICE",
        r"(?:serial|device|implant|udi|lot|model|imei|catalog|part|pacemaker|icd\s+device|stent|pump|sensor)\.?\s*(?:id(?:entifier)?|number|no\.|no|num|nbr|\#|serial|s/n)+|"
        r"(?:implant|device|pacemaker|pump|prosthesis|generator|lead|monitor|cpap|wheelchair|hearing\s+aid)\s+(?:serial|sn|s/n)(?:\s*(?:number|no\.?|num|\#))?|"
        r"s/n|udi|imei|serial",
        r"lot|device|implant|sn",
    ),
    (
        "BIOMETRIC",
        r"(?:finger\s?prints?|retina(?:l)?(?:\s+scan)?|iris(?:\s+scan)?|voice\s?prints?|face\s?prints?|palm\s?(?:print|vein)s?|biometrics?|"
        r"facial\s+recognition|dna\s+(?:profile|sample)|hand\s+geometry)\s*(?:template|scan|file|hash|ref(?:erence)?|record|sample|capture|id|number|no\.?|\#|on\s+file|[:=])+",
        r"biometric",
    ),
    (
        "PHOTO",
        r"(?:photo(?:graph)?s?|image|picture|headshot|selfie|mug\s?shot|portrait)\s*(?:id|file|ref(?:erence)?|number|no\.?|\#)+",
        r"photo(?:graph)?",
    ),
    (
        "REFERENCE",
        r"(?:case|ref(?:erence)?|call\s+ref(?:erence)?|file|ticket|confirmation|conf|tracking|order|accession|specimen|sample|rx|prescription|script|"
        r"study|subject|participant|batch|incident|report|employee|badge|student|military|veteran|serial|locker|room|bed|"
        r"user\s?name|login|user|session|request|inquiry|complaint|appeal|grievance|docket|policy\s+report|unique)\.?\s*(?:id(?:entifier)?s?|number|no\.|no|num|nbr|\#)+|"
        r"(?:unique|patient|subject|study|reference|hospital|identification|enrollment|personal|access)\s+code|"
        r"(?:unique\s+)?identifier|\bids?\b",
        r"case|ref(?:erence)?|subject|participant|enrollee|sample|incident|ticket|confirmation|tracking|accession|specimen|rx|file|order|docket|grievance|appeal|badge|call\s+ref",
    ),
)
_JOIN = (
    r"(?:[\s:=#.(),\[\]\"'-]|\b(?:id|number|no|num|is|was|are|of|as|ending|in|with|listed|noted|recorded|given|documented|on|file)\b)"
    r"{0,10}"
)
#: Marks that are no part of a label, skipped first so that the costly pattern need not try every way to do so.
_MARKS = " :=(),[]\"'-\t\n"
_VALUE = r"(\#?\s?[A-Z0-9](?:[A-Z0-9]|[-/._](?=[A-Z0-9])|(?<=\d) (?=\d{2,}(?:[ .,;)\n]|$))){1,34})"
# Read from right to left, from a value back to its label: one attempt for each value instead of one for each letter.
_STRONG = regex.compile(
    r"(?r)(?<![\w])(?:" + "|".join(f"(?P<{kind}>{strong})" for kind, strong, _ in _LABELS) + rf")s?(?![A-Za-z]){_JOIN}",
    regex.I,
)
_WEAK = regex.compile(
    r"(?r)(?<![\w])(?:" + "|".join(f"(?P<{kind}>{weak})" for kind, _, weak in _LABELS) + r")(?![A-Za-z])"
    r"(?:[\s:=#]|\b(?:is|was)\b){1,5}",
    regex.I,
)
_REACH = 60
#: Between two values that share a label.
_AND = re.compile(r"\s?(?:,|and|&|/|or|,\sand)\s?")
#: Capitals, then figures: "ABC123", "HB-331".
_MIXED = re.compile(r"[A-Z]{2,4}-?\d{3}[A-Z]?")
#: Letters of an id that stand apart: "MRN AB 123456".
_PREFIX = re.compile(r"(?<![A-Za-z0-9])([A-Z]{1,4}) $")
_MORE_DIGITS = re.compile(r"(?: \d{2,})+(?=[ .,;)\n]|$)")
_GLUED = regex.compile(r"\b(MRN|ACCT|NPI|DEA|SSN|CLM|ICN|DCN|PCN|MBI|HICN)[#:]?(\d[\d-]{3,})\b", regex.I)
_GLUED_TYPES = {
    "MRN": "MRN",
    "ACCT": "ACCOUNT",
    "NPI": "NPI",
    "DEA": "DEA",
    "SSN": "SSN",
    "MBI": "MEMBER",
    "HICN": "MEMBER",
    "PCN": "ACCOUNT",
}
_BEFORE_SHAPE = frozenset("$.,/-#_")
_SHAPE = regex.compile(
    # letters-digits: AB-123456, NP-1234AB, ABC234567; five digits or more keep ICD-10, HCPCS and CARC out
    r"#?(?=[A-Z0-9-]*\d{5})[A-Z]{1,6}-?\d{5,}[A-Z]{0,3}(?:-\d+)*|#?[A-Z]{2,6}-\d{3,}(?:-?[A-Z0-9]+)*|"
    r"#?[A-Z]{2,5}(?:-[A-Z]{2,5})?-\d{2,4}-\d{2,}|"
    # of pathology: S24-10293
    r"[A-Z]{1,3}\d{2}-\d{4,}|"
    # digits first: 12345-JHU, 202461304451NN, 87342GH
    r"#?\d{4,}-?[A-Z]{2,4}|#?\d{3,}-\d+[A-Z]\d*|"
    # mixed, long: 1EG4-TE5-MK73
    r"(?=[A-Z0-9-]*\d[A-Z0-9-]*\d[A-Z0-9-]*\d)(?=[A-Z0-9-]*[A-Z][A-Z0-9-]*[A-Z])[A-Z0-9]{2,}(?:-?[A-Z0-9]{2,}){3,}|"
    r"#?\d{7,}|#?\d{2,}(?:-\d{2,}){1,4}|#(?=[\w-]*\d)[A-Za-z0-9][\w-]{3,}|"
    # UUIDs and long hexadecimal digests
    r"(?i:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|(?=[a-f]*\d)[0-9a-f]{24,64})"
)
_SSN = regex.compile(
    r"(?<![\w-])\d{3}[-. ]\s?\d{2}[-. ]\s?\d{4}(?![\w-])|"
    r"(?<![\w-])[X*]{3}-?[X*]{2}-?\d{4}(?![\w-])|"
    r"\b(?:ssn?|ss\#|social(?:\s+security)?(?:\s+(?:number|no\.?|\#|num))?|soc\.?\s?sec\.?)(?:[\s:=#.(-]|\b(?:is|no|number|was|last|four|4|digits|of|ending|in)\b){0,10}"
    r"(\#?[\dOolI](?:[-. ]?[\dOolI]){3,8})(?![\w])|\blast\s+(?:4|four)(?:\s+digits)?(?:\s+of)?(?:\s+(?:the|his|her|their|patient'?s?))?(?:\s+(?:ssn?|social(?:\s+security(?:\s+number)?)?))?\s*(?:is|are|:|-|\#)*\s*(\d{4})\b",
    regex.I,
)
_D = r"[\dOolI]"
_PHONE = regex.compile(
    r"(?<![\w.$/-])(?:\+?\d{1,3}[-.\s]{0,2})?(?:\(\s?\d{3}\s?\)|\d{3})[-.\s/]{0,3}\d{3}\s?[-.\s]\s?\d{4}(?:\s*(?:x|ext\.?|extension)\s*\d{1,6})?(?![\w-])|"
    r"(?<![\w$])\(\d{3}\)\s*\d{3}\s?[-. ]?\s?\d{4}(?:\s*(?:x|ext\.?|extension)\s*\d{1,6})?(?!\w)|"
    r"(?<![\w+])\+\d{1,3}(?:[-.\s()]{0,2}\d{1,4}){3,5}(?:\s*(?:x|ext\.?)\s*\d{1,6})?(?![\w-])|"
    r"(?<![\w.$/-])(?:001[-. ])\d{3}[-. ]\d{3}[-. ]\d{4}(?:\s*(?:x|ext\.?)\s*\d{1,6})?(?![\w-])",
    regex.I,
)
_PHONE_LABEL = (
    r"(?:tele)?phones?|ph|tel|cell(?:ular)?|mobile|mob|home|work|call(?:\s*back)?|contact|fax|facsimile|pager|beeper|"
    r"reach(?:ed)?|text|sms|hotline|dial"
)
_PHONE_LABELLED = regex.compile(
    rf"\b({_PHONE_LABEL})(?:[\s:=#.(-]|\b(?:number|no|num|is|was|at|on|to|me|us|him|her|line|him|back|fax)\b){{1,9}}"
    rf"(\(?\+?{_D}(?:[-. ()/]{{0,2}}{_D}){{6,14}}(?:\s*(?:x|ext\.?|extension)\s*\d{{1,6}})?)(?![\w-])",
    regex.I,
)
_EXTENSION = regex.compile(r"\b(?:ext|extension)\.?\s*\#?\s?(\d{2,6})\b", regex.I)
_FAX_BEFORE = regex.compile(
    r"(?:fax(?:ed)?|facsimile|f)\b[\s:=#.(]*(?:number|no\.?|num|line|is|at|to|\#|:|\s)*$", regex.I
)
_EMAIL = regex.compile(
    r"(?<![\w.+-])[\w.+%'-]{1,64}\s?@\s?(?:[A-Z0-9'-]{1,63}\s?\.\s?){1,5}[A-Z]{2,12}\b|"
    r"\b[A-Z0-9][\w.+-]{0,40}\s*(?:\(at\)|\[at\]|\{at\}|\sat\s)\s*[A-Z0-9-]{2,40}\s*(?:\(dot\)|\[dot\]|\{dot\}|\sdot\s|\.)\s*(?:com|org|net|edu|gov|us|io|info)\b",
    regex.I,
)
_TLD = r"(?:com|org|net|edu|gov|mil|io|us|info|biz|health|care|med|clinic|app|dev|ai|co|me|tv|ca|uk|de)"
_URL = regex.compile(
    rf"\b(?:https?|ftp|sftp|hxxps?)\s?:\s?//[^\s<>\"')\]]+|\bwww\.[^\s<>\"')\]]+|"
    rf"(?<![\w@.-])(?:[A-Z0-9-]{{2,40}}+\.){{1,4}}{_TLD}(?:/[^\s<>\"')\]]*|(?![\w.-]))",
    regex.I,
)
_IP = regex.compile(
    r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?::\d{1,5}|/\d{1,2})?(?![\w.]*\d)|"
    r"(?<![\w:.])(?:[0-9A-F]{1,4}:){7}[0-9A-F]{1,4}(?![\w:])|(?<![\w:.])(?=[0-9A-F:]*::)(?:[0-9A-F]{0,4}:){2,7}[0-9A-F]{1,4}(?![\w:])|"
    r"(?<![\w:.-])(?:[0-9A-F]{2}[:-]){5}[0-9A-F]{2}(?![\w:-])",
    regex.I,
)
_VIN = re.compile(r"(?=[A-Z]*\d)(?=\d*[A-Z])[A-HJ-NPR-Z0-9]{17}", re.I)
_PLATE = regex.compile(
    r"\b(?:(?:licen[cs]e\s+)?(?:plates?|tag)|registration|reg)\.?(?:[\s:=#.(]|\b(?:number|no|num|is|was)\b){1,6}"
    r"(?:(?:[A-Z]{2})\s+)?(\#?(?=[A-Z0-9 -]*\d)[A-Z0-9]{1,7}(?:[- ](?=[A-Z0-9]*\d|[A-Z]{2,4}\b)[A-Z0-9]{1,7})?)(?![\w-])",
    regex.I,
)
_FILE = regex.compile(r"(?<![\w/])[\w-]{3,80}\.(?:jpe?g|png|gif|tiff?|bmp|heic|dcm|webp|mp4|mov|wav|mp3)\b", regex.I)
_DEA = re.compile(r"[ABCDEFGHJKLMPRSTUX][A-Z9]\d{7}")
_MBI = re.compile(
    r"[1-9][AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9]\d-?[AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9]\d-?[AC-HJKMNP-RT-Y]{2}\d{2}"
)
_CARD = regex.compile(r"(?<![\w-])(?:\d{4}[- ]){3}\d{3,4}(?![\w-])|(?<![\w-])3[47]\d{2}[- ]\d{6}[- ]\d{5}(?![\w-])")
_LOOSE_EMAIL = regex.compile(
    r"(?<![\w.+-])[\w+-][\w.+-]{0,60}@[\w-]{2,60}(?:\.[\w-]+)*|\b[\w.+-]{2,40} (?:at|AT) [\w-]{2,40}\.(?:com|org|net|edu|gov)\b"
)
_AT_HOST = re.compile(r" at [\w-]{2,40}\.(?:com|org|net|edu|gov)\b")
_HANDLE = regex.compile(r"(?<![\w@.])@[A-Z_][\w.]{2,29}\b", regex.I)
_YEAR = regex.compile(r"(?:19|20)\d\d")
_DIGIT = regex.compile(r"\d")
_UNIT_AFTER = regex.compile(
    r"\s?(?:mg|mcg|g|kg|ml|cc|units?|days?|weeks?|months?|years?|hours?|hrs?|%|times|minutes?|visits?|x\b)", regex.I
)


def _label_stems() -> frozenset[str]:
    """First three letters (or all two) of every word of a label."""
    patterns = " ".join(strong + " " + weak for _, strong, weak in _LABELS)
    runs = re.findall(r"[a-z]{2,}", re.sub(r"\\[sb]", " ", patterns.replace("\\.?", "")))
    return frozenset(run[:3] for run in runs)


_STEMS = _label_stems()
_JOINING = word_set("is was are of as ending in with listed noted recorded given documented on file")
_LETTERS = re.compile(r"[A-Za-z]+")


def _strong(text: str, low: int, end: int) -> regex.Match[str] | None:
    """A label that speaks for itself and leads up to text[end]."""
    while end > low and text[end - 1] in _MARKS:
        end -= 1
    return _STRONG.match(text, low, end, timeout=TIME_LIMIT)


def _label_near(text: str, low: int, begin: int) -> int:
    """Whether a label can end before a value, a cheap test before the costly one: 2 if the last word, joining words aside,
    can end one, 1 if only a word before letters that may belong to the value can, else 0."""
    near = 2
    for word in reversed(_LETTERS.findall(text, low, begin)):
        small = word.lower()
        if len(small) < 2 or small[:3] in _STEMS or small[:2] in _STEMS:
            return near
        if small not in _JOINING:
            if not (word.isupper() and len(word) <= 4):
                return 0
            near = 1
    return 0


def _digits(value: str) -> int:
    return len(_DIGIT.findall(value))


def _labelled(note: Note) -> list[Span]:
    text = note.text
    found: list[Span] = []
    last_end, last_kind = -10, ""
    for begin, end in note.tokens:
        value = text[begin:end]
        if len(value) < 3 and not _MORE_DIGITS.match(text, end):
            continue
        follows = begin - last_end <= 5 and last_kind and _AND.fullmatch(text, last_end, begin)
        if follows and len(value) >= 5 and _digits(value) >= 4 and not note.protected(begin, end):
            found.append(Span(begin, end, last_kind, 0.85, "labelled_id"))
            last_end = end
            continue
        low = max(0, begin - _REACH)
        label = _label_near(text, low, begin)
        if label == 0:
            continue
        apart = begin > 1 and text[begin - 1] == " " and text[begin - 2].isupper() and value[0].isdigit()
        prefix = _PREFIX.search(text, max(low, begin - 6), begin) if apart else None
        match = _strong(text, low, prefix.start(1)) if prefix else None
        if match is not None and prefix is not None:
            begin = prefix.start(1)
        elif label == 1:
            continue
        else:
            match = _strong(text, low, begin)
            if match is None and value[0] == "#":  # "case #12": the sign belongs to the label
                match = _strong(text, low, begin + 1)
        if match is not None:
            kind = match.lastgroup or "REFERENCE"
            more = _MORE_DIGITS.match(text, end) if value[-1].isdigit() else None
            if more and kind != "PHOTO" and not note.protected(end, more.end()):
                end = more.end()
                value = text[begin:end]
            bare = value.strip("# ")
            if guard.is_code(value) or not (_digits(value) or _ocr_number(value)):
                continue
            if len(bare) < (2 if "#" in text[match.start() : end] else 3):
                continue
            if "," in text[match.start() : begin] and (
                len(bare) < 5 or (len(bare) == 5 and bare.isdigit()) or note.protected(begin, end)
            ):
                continue
            if kind in ("REFERENCE", "MEMBER") and _YEAR.fullmatch(bare):
                continue
            start = begin
            # a case is known by its label too ("case #JH-998877")
            if (
                kind == "REFERENCE"
                and text[match.start() : match.start() + 4].lower() == "case"
                and "#" in text[match.start() : end]
            ):
                start = match.start()
            found.append(Span(start, end, kind, 0.9, "labelled_id"))
            last_end, last_kind = end, kind
            continue
        bare = value.strip("# ")
        mixed = _MIXED.fullmatch(bare) and not _CLINICAL.fullmatch(bare) and not note.protected(begin, end)
        if len(bare) < 5 or (_digits(bare) < 4 and not mixed) or "." in bare or "/" in bare or guard.is_code(bare):
            continue
        match = _WEAK.match(text, low, begin, timeout=TIME_LIMIT)
        if match is None or _UNIT_AFTER.match(text, end):
            continue
        if len(bare) == 5 and "#" not in text[match.start() : end]:  # as long as a CPT code or a ZIP
            continue
        cased = value.startswith("#") and text[match.start() : begin].lower().startswith("case")
        start = match.start() if cased else begin
        found.append(Span(start, end, match.lastgroup or "REFERENCE", 0.8, "labelled_id"))
    if note.has({"mrn"}):
        for m in _MRN_LETTERS.finditer(text):
            if not flags(m[1]) and m[1] not in _NO_VALUES:
                found.append(spot(m, 1, "MRN", 0.6, "labelled_letters"))
    if note.has(_OCR_TRIGGERS):
        for m in _LETTERS_ONLY.finditer(text):
            if m[1] not in _NO_VALUES:
                found.append(spot(m, 1, "REFERENCE", 0.6, "labelled_letters"))
        for m in finditer(_OCR_VALUE, text) if _MAYBE_OCR.search(text) else ():
            match = _STRONG.match(text, max(0, m.start() - _REACH), m.start(), timeout=TIME_LIMIT)
            if match is not None:
                found.append(spot(m, 0, match.lastgroup or "REFERENCE", 0.8, "labelled_id"))
    for begin, _ in note.tokens:
        glued = _GLUED.match(text, begin, timeout=TIME_LIMIT) if text[begin].isalpha() else None
        if glued is not None:
            found.append(spot(glued, 2, _GLUED_TYPES.get(glued[1].upper(), "CLAIM"), 0.9, "labelled_id"))
    return found


def _ocr_number(value: str) -> bool:
    """Whether a value without any digit may be one that OCR misread: capital O, l and I only."""
    return len(value) >= 5 and all(c in "OolI-" for c in value)


def _near(
    kind: str,
    score: float,
    name: str,
    pattern: regex.Pattern[str],
    anchor: re.Pattern[str],
    text: str,
    before: int,
    after: int,
) -> list[Span]:
    return [spot(m, m.lastindex or 0, kind, score, name) for m in near(pattern, anchor, text, before, after)]


def _simple(kind: str, score: float, name: str, pattern: regex.Pattern[str], text: str) -> list[Span]:
    return [
        Span(m.start(m.lastindex or 0), m.end(m.lastindex or 0), kind, score, name) for m in finditer(pattern, text)
    ]


_PHONE_TRIGGERS = word_set("""
telephone telephones phone phones ph tel cell cellular mobile mob home work call contact fax facsimile pager
beeper reach reached text sms hotline dial callback
""")
_FILE_TRIGGERS = word_set("jpg jpeg png gif tif tiff bmp heic dcm webp mp4 mov wav mp3")
_OCR_TRIGGERS = word_set("mrn account acct claim npi ssn id")
#: "MRN: ABCXYZ": no figure at all, but a label with a colon or a number sign before it.
_LETTERS_ONLY = re.compile(
    r"\b(?:MRN|[Aa]cc(?:oun)?t|NPI|SSN|[Cc]laim|(?:[Mm]ember|[Pp]atient|[Ii]nsurance) ID)\s*[:#]+\s*#?([A-Z]{3,}(?:-[A-Z]+)*)(?![\w-])"
)
_ROOM = re.compile(r"\b(?:[Rr]oom|ROOM|[Rr]m|[Bb]ed|BED)\s?#?\d{1,4}[A-Z]?\b(?!\s?(?:%|days?|hours?|beds?|air))")
_MRN_LETTERS = re.compile(r"\bMRN (?:of |is |was )?#?([A-Z]{4,10})\b")
_NO_VALUES = frozenset(
    [
        "DOB",
        "SSN",
        "NPI",
        "MRN",
        "DOS",
        "NONE",
        "UNKNOWN",
        "PENDING",
        "DENIED",
        "PAID",
        "THE",
        "FOR",
        "AND",
        "CPT",
        "ICD",
        "TBD",
    ]
)
_MAYBE_OCR = re.compile(r"[OolI]{5}")
_OCR_VALUE = regex.compile(r"(?<![\w])[OolI]{5,}(?![\w])")
# These begin with a set of characters, then look back at which it was: the search skips from one to the next.
_SSN_LEAD = re.compile(
    r"[\dXx*SsLl](?<!\w.)(?:(?<=\d)\d\d[-. ]\s?\d\d[-. ]\s?\d{4}|(?<=[Xx*])[Xx*]{2}-?[Xx*]{2}"
    r"|(?<=[Ss])(?i:sn?|oc(?:ial)?)\b|(?<=[Ll])(?i:ast\s+(?:4|four))\b)"
)
_AT_SIGN = re.compile("@")
_MISREAD = re.compile(r"[-\d( .](?:(?<=\d)[OolIS](?:[\dOolIS-]|\b)|(?<=\D)[OolIS]\d)")
#: Ten characters of a number at least, or the sign that comes before a country's.
_PHONE_LEAD = re.compile(r"[\d(+](?<!\w.)(?=[\d()+\-.\s/]{10}|(?<=\+)\d)")
_PHONE_LABEL_LEAD = led(
    "teleph", "phone", "ph", "tel", "cell", "mob", "home", "work", "call", "contact", "fa", "pager", "beeper", "reach", "text",
    "sms", "hotline", "dial",
)  # fmt: skip
_PLATE_LEAD = led("licen", "plate", "tag", "reg")
#: A telephone number in which OCR took a figure for a letter.
_PHONE_OCR = regex.compile(
    r"(?<![\w.$/-])(?=(?:[^\d\n]{0,3}[\dOolIS]){10})(?:\+?1[-.\s]{0,2})?\(?[\dOolIS]{3}\)?[-.\s]{1,2}[\dOolIS]{3}[-.\s][\dOolIS]{4}(?![\w-])"
)
_URL_LEAD = re.compile(
    r"[a-z0-9-](?<!\w.)(?:(?<=[hfs])(?:ttps?|tp|ftp|xxps?)\s?:\s?//|(?<=w)ww\."
    rf"|(?<![@.-].)[a-z0-9-]*\.(?:[a-z0-9-]+\.){{0,3}}{_TLD}(?![a-z0-9_]))",
    re.I,
)
#: Figures before a full stop, or hexadecimal ones before a colon or between hyphens.
_IP_LEAD = re.compile(
    r"[\dA-Fa-f:](?<![\w.].)(?:(?<=\d)\d{0,2}\.\d|(?<=:)[\dA-Fa-f:]|(?<=[^:])(?:[\dA-Fa-f]{0,3}:[\dA-Fa-f:]|[\dA-Fa-f][:-][\dA-Fa-f]{2}[:-]))"
)
_MAYBE_CARD = re.compile(r"\d{4}[- ](?:\d{4}|\d{6})[- ]")


def find(note: Note) -> list[Span]:
    """Spans of numbers, addresses of the net, and labelled ids."""
    text = note.text
    found: list[Span] = []
    if "@" in text:
        found += _near("EMAIL", 1.0, "email", _EMAIL, _AT_SIGN, text, 3, 40)
        found += _near("EMAIL", 0.8, "email", _LOOSE_EMAIL, _AT_SIGN, text, 3, 40)
        found += _near("URL", 0.7, "handle", _HANDLE, _AT_SIGN, text, 1, 30)
    if " at " in text and _AT_HOST.search(text):
        found += _simple("EMAIL", 0.8, "email", _LOOSE_EMAIL, text)
    if note.has({"dot"}) or "(at)" in text or "[at]" in text:
        found += _simple("EMAIL", 1.0, "email", _EMAIL, text)
    for match in at(_URL, _URL_LEAD, text):
        start, end = match.span()
        while end > start and text[end - 1] in ".,;:!?":
            end -= 1
        found.append(Span(start, end, "URL", 0.95, "url"))
    if note.has(_FILE_TRIGGERS):
        found += _simple("PHOTO", 0.9, "file_name", _FILE, text)
    found += [spot(m, 0, "IP", 0.95, "ip") for m in at(_IP, _IP_LEAD, text)]
    if not note.tokens:
        return found
    labelled = _labelled(note)
    found += labelled
    found += [spot(m, m.lastindex or 0, "SSN", 0.95, "ssn") for m in at(_SSN, _SSN_LEAD, text)]
    for match in at(_PHONE, _PHONE_LEAD, text):
        fax = _FAX_BEFORE.search(text, max(0, match.start() - 25), match.start(), timeout=TIME_LIMIT) is not None
        found.append(spot(match, 0, "FAX" if fax else "PHONE", 0.9, "phone"))
    for match in near(_PHONE_OCR, _MISREAD, text, 16, 16):
        if _digits(match[0]) >= 7:
            found.append(spot(match, 0, "PHONE", 0.7, "phone"))
    if note.has(_PHONE_TRIGGERS):
        for match in at(_PHONE_LABELLED, _PHONE_LABEL_LEAD, text):
            if _digits(match[2]) >= 5 and not note.protected(match.start(2), match.end(2)):
                kind = "FAX" if match[1].lower().startswith("f") else "PHONE"
                found.append(spot(match, 2, kind, 0.9, "phone"))
    if note.has({"room", "bed"}):
        found += [spot(m, 0, "REFERENCE", 0.7, "room") for m in _ROOM.finditer(text)]
    if note.has({"ext", "extension"}):
        found += _simple("PHONE", 0.8, "phone", _EXTENSION, text)
    if note.has({"plate", "plates", "tag", "registration", "reg"}):
        found += [spot(m, m.lastindex or 0, "PLATE", 0.9, "plate") for m in at(_PLATE, _PLATE_LEAD, text)]
    found += _near("ACCOUNT", 0.9, "card", _CARD, _MAYBE_CARD, text, 8, 16)
    known = sorted((s.start, s.end) for s in found)
    starts = [a for a, _ in known]
    for start, end in note.tokens:
        if end - start >= 5:
            k = bisect_right(starts, start) - 1
            if k >= 0 and known[k][1] >= end:  # found already
                continue
            shaped = _by_shape(note, start, end)
            if shaped is not None:
                found.append(shaped)
    return found


def _by_shape(note: Note, start: int, end: int) -> Span | None:
    """An id without a label, by its form alone."""
    text = note.text
    before = text[start - 1] if start else " "
    after = text[end] if end < len(text) else " "
    if before.isalnum() or after == "_" or (after == "-" and end + 1 < len(text) and text[end + 1].isalnum()):
        return None
    value = text[start:end]
    if _VIN.fullmatch(value):
        return Span(start, end, "VIN", 0.95, "vin")
    if before in _BEFORE_SHAPE:
        return None
    if after in ".," and end + 1 < len(text) and text[end + 1].isdigit():
        return None
    if _DEA.fullmatch(value):
        return Span(start, end, "DEA", 0.85, "dea")
    if _MBI.fullmatch(value):
        return Span(start, end, "MEMBER", 0.9, "mbi")
    if "/" in value or "." in value or (len(value) < 7 and value.isdigit()):  # no shape has these
        return None
    if _SHAPE.fullmatch(value, timeout=TIME_LIMIT) is None:
        return None
    if _DATE_LIKE.fullmatch(value) or _CLINICAL.fullmatch(value) or _RANGE.fullmatch(value) or guard.is_code(value):
        return None
    if note.protected(start, end) or _UNIT_AFTER.match(text, end):
        return None
    return Span(start, end, "REFERENCE", 0.6, "id_shape")


_CLINICAL = regex.compile(
    r"(?:COVID|SARS|CHA2DS2|CHADS|HbA1C|ICD|CPT|CURB|DAS|MIS|HIV|HPV|HSV|CA|CD|IL|PD|BRCA|FEV|ECOG|PHQ|GAD|DSM|UB|CMS|HCFA|NCT|"
    r"SGLT|GLP|T|L|C|S|B|H|G|P|Q|X|MS)-?\d{1,3}(?:[A-Z]{0,4})(?:-\w+)*",
    regex.I,
)
_DATE_LIKE = re.compile(
    r"(?:0?[1-9]|1[0-2])-(?:0?[1-9]|[12]\d|3[01])-(?:\d\d|(?:19|20)\d\d)|(?:19|20)\d\d-[01]\d-[0-3]\d"
)
_RANGE = regex.compile(r"\#?(?:\d{5}-\d{5}|(?:19|20)\d\d-(?:19|20)?\d\d|\d{1,3}-\d{1,3}|\d{5}-\d{2})")
