"""Fee schedules: PPRRVU with GPCI and localities (physicians), CLFS (clinical laboratory).

Source: CMS, PFS relative value files (rvuYYx.zip) and CLFS public use files. Amount (42 CFR 414.22):
(work x GPCIw + practice expense x GPCIpe + malpractice x GPCImp) x conversion factor; place of service decides which
practice expense.
"""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal, InvalidOperation

import pyarrow as pa

from medbill.errors import BadInput
from medbill.model.reference import CLFS, GPCI, LOCALITY, PPRRVU
from medbill.rules.reference import grid
from medbill.rules.reference.archive import GivenFile, Member
from medbill.rules.reference.release import Dated, Release, first_match, month_of, names, pick, quarter, unknown_version

_CODE = re.compile(r"[0-9A-Z]{5}")
_RVU = {
    "code": "HCPCS",
    "modifier": "MOD",
    "status": "STATUS( CODE)?",
    "work": "WORK RVU",
    "practice_nonfacility": "NON-? ?FAC(ILITY)? PE RVU",
    "practice_facility": "(?<!NON-)(?<!NON- )(?<!NON )FAC(ILITY)? PE RVU",
    "malpractice": "MP RVU",
    "pctc": "PCTC( IND)?",
    "global_days": "GLOB DAYS",
    "multiple": "MULT PROC",
    "bilateral": "BILAT( SURG)?",
    "assistant": "ASST( SURG)?",
    "co_surgeon": r"CO-( SURG)?",
    "team": "TEAM( SURG)?",
    "endoscopic_base": "ENDO BASE",
    "conversion_factor": "CONV(ERSION)? FACTOR",
}
_TEXTS = ("pctc", "global_days", "multiple", "bilateral", "assistant", "co_surgeon", "team", "endoscopic_base")
_FACTORS = ("work", "practice_nonfacility", "practice_facility", "malpractice", "conversion_factor")


def pprrvu(files: list[GivenFile], kind: str, dated: Dated | None) -> Release:
    """Both tables of a release where it has two (for qualifying APM participants and others).

    Raises BadInput: REFERENCE_WRONG_KIND, REFERENCE_MALFORMED, REFERENCE_VERSION_UNKNOWN.
    """
    rows: list[dict[str, object]] = []
    for member in pick(files, r"pprrvu.*\.csv$", r"pprrvu.*\.xlsx$", r"\.(csv|xlsx)$"):
        found = grid.find(member, _RVU)
        qualifying = re.search(r"(?<!non)_?QPP", member.name, re.IGNORECASE) is not None and "nonqpp" not in (
            member.name.lower().replace("-", "").replace("_", "")
        )
        for number, row in found.rows:
            code = found.get(row, "code").upper()
            if not code:
                continue
            if not _CODE.fullmatch(code):
                raise grid.malformed(member, number)
            rows.append(
                {
                    "code": code,
                    "modifier": found.get(row, "modifier").upper(),
                    "qualifying_participant": qualifying,
                    "status": found.get(row, "status").upper(),
                    **{name: found.get(row, name).upper() or None for name in _TEXTS},
                    **{name: _decimal(found.get(row, name), member, number) for name in _FACTORS},
                    "part": member.part,
                    "row": number,
                }
            )
    dated = dated or _rvu_quarter(files)
    return Release(dated.version, dated.start, dated.end, {"codes": pa.Table.from_pylist(rows, schema=PPRRVU)})


def _rvu_quarter(files: list[GivenFile]) -> Dated:
    """PPRRVU2026_Jul, PPRRVU24_JAN, or rvu26c: a January, b April, c July, d October."""
    if found := first_match(r"pprrvu(?:20)?(\d\d)_([a-z]{3})", names(files)):
        month = month_of(found[2])
        if month is not None:
            return quarter(2000 + int(found[1]), (month + 2) // 3)
    if found := first_match(r"rvu(\d\d)([a-d])", names(files)):
        return quarter(2000 + int(found[1]), "abcd".index(found[2].lower()) + 1)
    raise unknown_version()


def gpci(files: list[GivenFile], kind: str, dated: Dated | None) -> Release:
    """Indices by locality; footnotes at the end are left out. Raises BadInput as pprrvu() does."""
    rows: list[dict[str, object]] = []
    for member in pick(files, r"gpci.*\.csv$", r"gpci.*\.xlsx$"):
        found = grid.find(
            member,
            {
                "contractor": r"(MAC|MEDICARE ADMINISTRATIVE CONTRACTOR)( \(MAC\))?",
                "state": "STATE",
                "locality": "LOCALITY NUMBER",
                "work": r"PW GPCI( \(WITH 1\.0 FLOOR\))?",
                "practice": "PE GPCI",
                "malpractice": "MP GPCI",
            },
        )
        for number, row in found.rows:
            if not re.fullmatch(r"\d{5}", found.get(row, "contractor")):
                continue
            values = {n: _decimal(found.get(row, n), member, number) for n in ("work", "practice", "malpractice")}
            if None in values.values():
                raise grid.malformed(member, number)
            rows.append(
                {
                    "contractor": found.get(row, "contractor"),
                    "state": found.get(row, "state").upper(),
                    "locality": found.get(row, "locality").zfill(2),
                    **values,
                    "part": member.part,
                    "row": number,
                }
            )
    dated = dated or _year(files, r"gpci\D*(20\d\d)")
    return Release(dated.version, dated.start, dated.end, {"localities": pa.Table.from_pylist(rows, schema=GPCI)})


def locality(files: list[GivenFile], kind: str, dated: Dated | None) -> Release:
    """Counties of the localities (26LOCCO); a contractor is given once for all of its rows. Raises BadInput as pprrvu()."""
    rows: list[dict[str, object]] = []
    for member in pick(files, r"locco.*\.(csv|txt)$", r"locco.*\.xlsx$"):
        found = grid.find(
            member,
            {
                "contractor": "(CONTRACTOR|MAC|ADMINISTRATIVE CONTRACTOR)",
                "locality": "LOCALITY( NUMBER)?",
                "state": "STATE",
            },
            {"counties": "COUNTIES"},
        )
        contractor = state = ""
        for number, row in found.rows:
            contractor = found.get(row, "contractor") or contractor
            state = found.get(row, "state").upper() or state
            if not re.fullmatch(r"\d{1,2}", found.get(row, "locality")) or not re.fullmatch(r"\d{5}", contractor):
                continue
            rows.append(
                {
                    "contractor": contractor,
                    "locality": found.get(row, "locality").zfill(2),
                    "state": state,
                    "counties": found.get(row, "counties") or None,
                    "part": member.part,
                    "row": number,
                }
            )
    if dated is None:
        stated = first_match(r"(\d\d)locco", names(files))
        if stated is None:
            raise unknown_version()
        dated = _whole_year(2000 + int(stated[1]))
    return Release(dated.version, dated.start, dated.end, {"localities": pa.Table.from_pylist(rows, schema=LOCALITY)})


def clfs(files: list[GivenFile], kind: str, dated: Dated | None) -> Release:
    """Rates of the clinical laboratory fee schedule. Raises BadInput as pprrvu() does."""
    rows: list[dict[str, object]] = []
    for member in pick(files, r"clfs.*\.csv$", r"clfs.*\.xlsx$", r"\.csv$"):
        found = grid.find(
            member,
            {"code": "HCPCS", "modifier": "MOD", "effective": "EFF DATE", "indicator": "INDICATOR", "rate": "RATE"},
        )
        for number, row in found.rows:
            code = found.get(row, "code").upper()
            if not code:
                continue
            if not _CODE.fullmatch(code):
                raise grid.malformed(member, number)
            rows.append(
                {
                    "code": code,
                    "modifier": found.get(row, "modifier").upper(),
                    "effective": grid.day(found.get(row, "effective"), member, number),
                    "indicator": found.get(row, "indicator") or None,
                    "rate": _decimal(found.get(row, "rate"), member, number),
                    "part": member.part,
                    "row": number,
                }
            )
    if dated is None:
        stated = first_match(r"clfs\D*(20\d\d)\D?Q([1-4])", names(files))
        if stated is None:
            raise unknown_version()
        dated = quarter(int(stated[1]), int(stated[2]))
    try:
        table = pa.Table.from_pylist(rows, schema=CLFS)
    except pa.ArrowInvalid:
        raise BadInput("a rate has more than two decimals; the layout is new", code="REFERENCE_MALFORMED") from None
    return Release(dated.version, dated.start, dated.end, {"rates": table})


def _decimal(value: str, member: Member, row: int) -> Decimal | None:
    value = value.replace(",", "").replace("$", "").strip()
    if not value or value.upper() in ("NA", "N/A"):
        return None
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise grid.malformed(member, row, "has an unreadable number") from None
    if not number.is_finite() or abs(number) >= 10**7:
        raise grid.malformed(member, row, "has an unreadable number")
    return number.quantize(Decimal("0.0001"))


def _year(files: list[GivenFile], pattern: str) -> Dated:
    stated = first_match(pattern, names(files))
    if stated is None:
        raise unknown_version()
    return _whole_year(int(stated[1]))


def _whole_year(year: int) -> Dated:
    return Dated(str(year), date(year, 1, 1), date(year, 12, 31))
