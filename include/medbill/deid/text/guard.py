"""What must survive: codes, amounts, doses and vitals. A guess of a detector that lies on one of these is dropped."""

from __future__ import annotations

import re

import regex

from medbill.deid.text.scan import finditer, led

_CODE_WORD = (
    r"(?:CPT|HCPCS|ICD(?:-?(?:9|10))?(?:-?CM|-?PCS)?|procedure|proc|px|dx|diagnos[ei]s|codes?|NDC|CARC|RARC|rev(?:enue)?|"
    r"DRG|MS-DRG|POS|place of service|modifiers?|mods?|remark|reason|denial|adjustment|LOINC|SNOMED|RxNorm|RxCUI|"
    r"taxonomy|PMID|PMCID|DOI|NCT|type of bill|TOB|bill type|condition code|occurrence code|value code)"
)
_CODE = r"[A-Z]{0,3}\d[0-9A-Z]{0,6}(?:\.[0-9A-Z]{1,4})?(?:-[0-9A-Z]{2})?"
#: A code family's name and the codes after it: "CPT 99285-25, 71046", "reason code CO-45".
_LABELLED = regex.compile(
    rf"\b{_CODE_WORD}s?(?:\s*(?:codes?|numbers?|no\.?|#|:|=|is|was|of))*[\s:=#(]*"
    rf"((?:[A-Z]{{2}}[- ]?)?{_CODE}(?:(?:\s*[,;/&+]\s*|\s+(?:and|or|x)\s+|\s+){_CODE}(?![/\d]))*)(?!\w)",
    regex.I,
)
_NDC = re.compile(
    r"(?<![\w-])(?:\d{4}-\d{4}-\d{2}|\d{5}-\d{3}-\d{2}|\d{5}-\d{4}-\d{1,2})(?![\w-])|\bNDC[\s:#]*\d[\d-]{8,12}\d\b",
    regex.I,
)
_ICD = re.compile(r"(?<![\w#-])[A-TV-Z]\d[0-9AB](?:\.[0-9A-Z]{1,4}|[0-9A-Z]{0,4})(?![\w-])")
_HCPCS = re.compile(r"(?<![\w#-])(?:[A-V]\d{4}|\d{4}[FTU])(?:-[0-9A-Z]{2})?(?![\w-])")
_CARC = re.compile(r"(?<![\w-])(?:(?:CO|PR|OA|PI|CR)[- ]?[A-D]?\d{1,3}|MA\d{2,3}|N\d{1,3}|M\d{1,3})(?![\w-])")
_AMOUNT = re.compile(
    r"[$€£]\s?\d[\d,]*(?:\.\d+)?|(?<![\w.])\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\w-])|(?<![\w.-])\d+(?:\.\d+)?\s?(?:%|percent\b|dollars\b|USD\b)",
    regex.I,
)
_UNIT = (
    r"(?:mg|mcg|ug|µg|μg|g|gm|grams?|kg|lbs?|oz|ml|cc|l|liters?|dl|units?|iu|meq|mmol|mmhg|mm|cm|inch(?:es)?|in|ft|bpm|"
    r"beats|breaths|rpm|hz|f|c|degrees?|%|tabs?|tablets?|caps?|capsules?|pills?|puffs?|drops?|doses?|times|days?|weeks?|"
    r"wks?|months?|mos?|hours?|hrs?|min(?:ute)?s?|sec(?:ond)?s?|copies|cells|k|million|/hpf|x10|mcl|pg|ng|cal|kcal|"
    r"joules?|gy|mci|french|fr|gauge)"
)
_MEASURE = re.compile(rf"(?<![\w/.-])\d[\d,]*(?:[./-]\d+)?\s?{_UNIT}(?:/\w+)?(?![\w])", regex.I)
_VITAL = regex.compile(
    r"\b(?:BP|blood pressure|HR|heart rate|pulse|RR|resp(?:irations?)?|T|temp(?:erature)?|SpO2|O2 ?sats?|sats?|wt|weight|ht|height|BMI|EF|"
    r"LVEF|A1c|HbA1c|INR|WBC|RBC|Hgb|Hct|plt|platelets?|glucose|Na|K|Cl|CO2|BUN|Cr|creatinine|eGFR|GFR|troponin|BNP|CRP|"
    r"ESR|TSH|PSA|LDL|HDL|GCS|MMSE|vision|VA|OD|OS|pain|strength|reflexes|grade|score|class|stage|visit|day|pod|"
    r"gravida|para|G\dP\d|apgars?)"
    r"(?:\s*(?:level|score|of|is|was|at|:|=|in|scored|reading|check))*\s*\d{1,6}(?:[./-]\d{1,4})?(?!\s?(?:/\d|[-/]\d{2,}))(?![\d-])",
    regex.I,
)
_TRIAL = regex.compile(r"\b(?:NCT\d{8}|PMC\d{5,8}|PMID:?\s?\d{6,9}|10\.\d{4,5}/\S+)\b")
#: As a whole, one of the code systems: no identifier even after a word such as "group" or "reference".
_WHOLE = regex.compile(
    r"(?:CO|PR|OA|PI|CR)[- ]?[A-D]?\d{1,3}|MA\d{2,3}|N\d{1,3}|[A-V]\d{4}(?:-\w\w)?|\d{4}[FTU]|[A-TV-Z]\d[0-9AB]\.[0-9A-Z]{1,4}|"
    r"\d{4}-\d{4}-\d{2}|\d{5}-\d{3}-\d{2}|\d{5}-\d{4}-\d{1,2}"
)


#: First letters of the words that a pattern of _LABELLED and of _VITAL begins with, and the marks of _TRIAL.
_CODE_WORDS = led(
    "cpt", "hcpc", "icd", "proc", "px", "dx", "diag", "code", "ndc", "carc", "rarc", "rev", "drg", "ms-", "pos", "place", "mod",
    "remark", "reason", "denial", "adj", "loinc", "snomed", "rx", "taxo", "pmid", "pmcid", "doi", "nct", "type", "tob", "bill", "cond",
    "occ", "value",
)  # fmt: skip
_VITAL_WORDS = led(
    "bp", "blood", "hr", "heart", "pulse", "rr", "resp", r"t\b", "temp", "spo", "o2", "sat", "wt", "wei", "ht", "hei", "bmi", "ef",
    "lvef", "a1c", "hba", "inr", "wbc", "rbc", "hgb", "hct", "plt", "plate", "glu", "na", r"k\b", "cl", "co2", "bun", "cr", "egfr",
    "gfr", "trop", "bnp", "esr", "tsh", "psa", "ldl", "hdl", "gcs", "mmse", "vis", r"a\b", "va", "od", "os", "pain", "str", "refl",
    "gr", "score", "sta", "day", "pod", "par", r"g\d", "apgar",
)  # fmt: skip
#: Each takes time in proportion to the text: no limit is needed.
_NEAR = (_NDC, _ICD, _HCPCS, _CARC, _AMOUNT, _MEASURE)
#: How far from a value a code or amount that overlaps it may begin or end, and how far before it the name of its family.
_REACH, _FAR = 14, 80


def covers(text: str, start: int, end: int) -> bool:
    """Whether any of text[start:end] is a code, an amount, a dose or a vital sign."""
    low, high = _widened(text, max(0, start - _REACH), min(len(text), end + _REACH))
    for quick in _NEAR:
        for match in quick.finditer(text, low, high):
            if match.start() < end and start < match.end():
                return True
    low, high = _widened(text, max(0, start - _FAR), min(len(text), end + 30))
    patterns = []
    if _CODE_WORDS.search(text, low, high):
        patterns += [_LABELLED, _TRIAL]
    elif "10." in text[low:high] or "PMC" in text[low:high]:
        patterns.append(_TRIAL)
    if _VITAL_WORDS.search(text, low, high):
        patterns.append(_VITAL)
    for pattern in patterns:
        for match in finditer(pattern, text, low, high):
            a, b = match.span(1 if pattern is _LABELLED else 0)
            if a < end and start < b:
                return True
    return False


def _widened(text: str, low: int, high: int) -> tuple[int, int]:
    least, most = max(0, low - 2 * _FAR), min(len(text), high + 20)
    while low > least and not text[low - 1].isspace():
        low -= 1
    while high < most and not text[high].isspace():
        high += 1
    return low, high


def is_code(value: str) -> bool:
    return _WHOLE.fullmatch(value.strip("#").upper()) is not None
