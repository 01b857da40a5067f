"""What must survive: codes, amounts, doses and vitals. A guess of a detector that lies on one of these is dropped."""

from __future__ import annotations

import regex

from medbill.deid.text.scan import finditer

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
_NDC = regex.compile(
    r"(?<![\w-])(?:\d{4}-\d{4}-\d{2}|\d{5}-\d{3}-\d{2}|\d{5}-\d{4}-\d{1,2})(?![\w-])|\bNDC[\s:#]*\d[\d-]{8,12}\d\b",
    regex.I,
)
_ICD = regex.compile(r"(?<![\w#-])[A-TV-Z]\d[0-9AB](?:\.[0-9A-Z]{1,4}|[0-9A-Z]{0,4})(?![\w-])")
_HCPCS = regex.compile(r"(?<![\w#-])(?:[A-V]\d{4}|\d{4}[FTU])(?:-[0-9A-Z]{2})?(?![\w-])")
_CARC = regex.compile(r"(?<![\w-])(?:(?:CO|PR|OA|PI|CR)[- ]?[A-D]?\d{1,3}|MA\d{2,3}|N\d{1,3}|M\d{1,3})(?![\w-])")
_AMOUNT = regex.compile(
    r"[$€£]\s?\d[\d,]*(?:\.\d+)?|(?<![\w.])\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\w-])|(?<![\w.-])\d+(?:\.\d+)?\s?(?:%|percent\b|dollars\b|USD\b)",
    regex.I,
)
_UNIT = (
    r"(?:mg|mcg|ug|µg|μg|g|gm|grams?|kg|lbs?|oz|ml|cc|l|liters?|dl|units?|iu|meq|mmol|mmhg|mm|cm|inch(?:es)?|in|ft|bpm|"
    r"beats|breaths|rpm|hz|f|c|degrees?|%|tabs?|tablets?|caps?|capsules?|pills?|puffs?|drops?|doses?|times|days?|weeks?|"
    r"wks?|months?|mos?|hours?|hrs?|min(?:ute)?s?|sec(?:ond)?s?|copies|cells|k|million|/hpf|x10|mcl|pg|ng|cal|kcal|"
    r"joules?|gy|mci|french|fr|gauge)"
)
_MEASURE = regex.compile(rf"(?<![\w/.-])\d[\d,]*(?:[./-]\d+)?\s?{_UNIT}(?:/\w+)?(?![\w])", regex.I)
_VITAL = regex.compile(
    r"\b(?:BP|blood pressure|HR|heart rate|pulse|RR|resp(?:irations?)?|T|temp(?:erature)?|SpO2|O2 ?sats?|sats?|wt|weight|ht|height|BMI|EF|"
    r"LVEF|A1c|HbA1c|INR|WBC|RBC|Hgb|Hct|plt|platelets?|glucose|Na|K|Cl|CO2|BUN|Cr|creatinine|eGFR|GFR|troponin|BNP|CRP|"
    r"ESR|TSH|PSA|LDL|HDL|GCS|MMSE|vision|VA|OD|OS|pain|strength|reflexes|grade|score|class|stage|visit|day|pod|"
    r"gravida|para|G\dP\d|apgars?)"
    r"(?:\s*(?:level|score|of|is|was|at|:|=|in|scored|reading|check))*\s*\d{1,6}(?:[./-]\d{1,4})?(?!\s?(?:/\d|[-/]\d{2,}))(?![\d-])",
    regex.I,
)
_TRIAL = regex.compile(r"\b(?:NCT\d{8}|PMC\d{5,8}|PMID:?\s?\d{6,9}|10\.\d{4,5}/\S+)\b")
_ALL = (_LABELLED, _NDC, _ICD, _HCPCS, _CARC, _AMOUNT, _MEASURE, _VITAL, _TRIAL)
#: As a whole, one of the code systems: no identifier even after a word such as "group" or "reference".
_WHOLE = regex.compile(
    r"(?:CO|PR|OA|PI|CR)[- ]?[A-D]?\d{1,3}|MA\d{2,3}|N\d{1,3}|[A-V]\d{4}(?:-\w\w)?|\d{4}[FTU]|[A-TV-Z]\d[0-9AB]\.[0-9A-Z]{1,4}|"
    r"\d{4}-\d{4}-\d{2}|\d{5}-\d{3}-\d{2}|\d{5}-\d{4}-\d{1,2}"
)


def protected(text: str) -> list[tuple[int, int]]:
    """Where codes, amounts, doses and vitals stand, in text order (may overlap)."""
    found = [m.span(1) if p is _LABELLED else m.span() for p in _ALL for m in finditer(p, text)]
    found.sort()
    return found


def is_code(value: str) -> bool:
    return _WHOLE.fullmatch(value.strip("#").upper()) is not None
