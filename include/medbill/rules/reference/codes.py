"""Code sets: ICD-10-CM (order file and tabular list), HCPCS level II, NUCC provider taxonomy.

ICD-10-CM and HCPCS level II are works of the US government; of their texts only the side of the body is kept, as an
indicator. Sources: CDC/NCHS ICD-10-CM release, CMS HCPCS quarterly update (ANWEB), NUCC code set.
"""

from __future__ import annotations

import re
from datetime import date, timedelta
from xml.parsers import expat

import pyarrow as pa

from medbill.errors import BadInput
from medbill.model.reference import HCPCS, ICD10CM, ICD10CM_EXCLUDES1, NUCC
from medbill.rules.reference import grid
from medbill.rules.reference.archive import GivenFile, Member
from medbill.rules.reference.release import (
    Dated,
    Release,
    first_match,
    month_of,
    names,
    pick,
    quarter,
    unknown_version,
    wrong_kind,
)

_ICD10 = r"[A-Z][0-9][0-9A-Z][0-9A-Z]{0,4}"
_ORDER = re.compile(rf"(\d{{5}}) ({_ICD10}) *([01]) ")
_SIDES = (
    ("bilateral", re.compile(r"\bbilateral\b", re.IGNORECASE)),
    (
        "unspecified",
        re.compile(
            r"\bunspecified (?:\w+ ){0,3}?(?:side|eye|ear|arm|leg|hand|foot|hip|knee|ankle|shoulder|elbow|wrist|thumb|finger|toe|breast|limb|upper arm|forearm|thigh|lower leg|ovary|kidney|lung|eyelid|extremity)\b",
            re.IGNORECASE,
        ),
    ),
)
_RIGHT, _LEFT = (re.compile(rf"\b{side}\b", re.IGNORECASE) for side in ("right", "left"))


def _fiscal_year(files: list[GivenFile], pattern: str) -> Dated:
    """A release of a fiscal year: from 1 October of the year before; its April addenda from 1 April."""
    found = names(files)
    year = first_match(pattern, found)
    if year is None:
        raise unknown_version()
    fiscal = int(year[1])
    april = any(re.search(r"apr", n, re.IGNORECASE) for n in found)
    start = date(fiscal, 4, 1) if april else date(fiscal - 1, 10, 1)
    return Dated(f"FY{fiscal}{' April' if april else ''}", start, date(fiscal, 9, 30))


def icd10cm(files: list[GivenFile], kind: str, dated: Dated | None) -> Release:
    """The order file: code, and whether it may be billed. Raises BadInput: REFERENCE_WRONG_KIND, REFERENCE_MALFORMED."""
    rows: list[dict[str, object]] = []
    members = [m for m in pick(files, r"order.*\.txt$", r"\.txt$") if "addenda" not in m.name.lower()]
    if not members:
        raise wrong_kind(1)
    for member in members:
        for number, line in enumerate(grid.text(member.read()).splitlines(), 1):
            if not line.strip():
                continue
            found = _ORDER.match(line)
            if found is None:
                raise wrong_kind(member.part) if number == 1 else grid.malformed(member, number)
            rows.append(
                {
                    "code": found[2],
                    "billable": found[3] == "1",
                    "side": _side(line[16:]),
                    "part": member.part,
                    "row": number,
                }
            )
    dated = dated or _fiscal_year(files, r"icd10cm[_-](?:order|codes)\D*(20\d\d)")
    return Release(dated.version, dated.start, dated.end, {"codes": pa.Table.from_pylist(rows, schema=ICD10CM)})


def _side(text: str) -> str | None:
    right, left = _RIGHT.search(text), _LEFT.search(text)
    for side, pattern in _SIDES:
        if pattern.search(text):
            return side
    if right and left:
        return None
    return "right" if right else "left" if left else None


def icd10cm_tabular(files: list[GivenFile], kind: str, dated: Dated | None) -> Release:
    """Excludes1 notes of the tabular list (XML), as ranges of beginnings of codes.

    Raises BadInput: REFERENCE_WRONG_KIND, ARCHIVE_BROKEN.
    """
    rows: list[dict[str, object]] = []
    for member in pick(files, r"tabular.*\.xml$", r"\.xml$"):
        rows += _Tabular(member).parse()
    dated = dated or _fiscal_year(files, r"tabular\D*(20\d\d)")
    table = pa.Table.from_pylist(rows, schema=ICD10CM_EXCLUDES1)
    return Release(dated.version, dated.start, dated.end, {"excludes1": table})


_CATEGORY = r"[A-Z][0-9][0-9A-Z](?:\.[0-9A-Z]{1,4})?"
_REFERENCE = re.compile(rf"({_CATEGORY})(?:\s*-\s*({_CATEGORY}))?")


def referenced(note: str) -> list[tuple[str, str]]:
    """The codes a note names in brackets: "other disease (A00-A09, B15.-)" gives (A00, A09) and (B15, B15)."""
    found = []
    for group in re.findall(r"\(([^()]*)\)", note):
        for first, last in _REFERENCE.findall(group):
            a = first.replace(".", "")
            found.append((a, (last or first).replace(".", "")))
    return found


class _Tabular:
    """chapter > section > diag > diag; an excludes1 note holds for every code below the element it stands in."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._rows: list[dict[str, object]] = []
        self._path: list[list[str]] = []  # codes of the open chapter, section and diag elements
        self._open: list[str] = []
        self._text: list[str] = []
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text.append

    def parse(self) -> list[dict[str, object]]:
        try:
            self._parser.Parse(self._member.read(), True)
        except (expat.ExpatError, ValueError):
            raise BadInput(
                f"file {self._member.part} is damaged XML; download it again", code="ARCHIVE_BROKEN"
            ) from None
        return self._rows

    @staticmethod
    def _refuse(*_: object) -> None:
        raise ValueError("document types are refused")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if not self._open and name != "ICD10CM.tabular":
            raise wrong_kind(self._member.part)
        self._open.append(name)
        self._text.clear()
        if name in ("chapter", "diag"):
            self._path.append([])
        elif name == "section":
            self._path.append(_section(attributes.get("id", "")))

    def _end(self, name: str) -> None:
        self._open.pop()
        text = "".join(self._text).strip()
        if name == "name" and self._open and self._open[-1] == "diag":
            self._path[-1] = [text.replace(".", "")]
        elif name == "note" and self._open and self._open[-1] == "excludes1" and self._path:
            line = self._parser.CurrentLineNumber
            for code in self._path[-1]:
                for first, last in referenced(text):
                    self._rows.append(
                        {"code": code, "first": first, "last": last, "part": self._member.part, "row": line}
                    )
        elif name in ("chapter", "section", "diag"):
            self._path.pop()
        self._text.clear()


def _section(name: str) -> list[str]:
    """Three-character categories of a section such as A00-A09."""
    found = re.fullmatch(r"([A-Z])(\d[0-9A-Z])-([A-Z])(\d[0-9A-Z])", name)
    if found is None or found[1] != found[3] or not (found[2] + found[4]).isdigit():
        return [name] if re.fullmatch(r"[A-Z]\d[0-9A-Z]", name) else []
    return [f"{found[1]}{n:02d}" for n in range(int(found[2]), int(found[4]) + 1)]


_PROCEDURE = re.compile(r"[A-Z]\d{4}")
_MODIFIER = re.compile(r"[A-Z0-9]{2}")


def hcpcs(files: list[GivenFile], kind: str, dated: Dated | None) -> Release:
    """Level II codes and modifiers (ANWEB). Raises BadInput: REFERENCE_WRONG_KIND, REFERENCE_MALFORMED."""
    rows: list[dict[str, object]] = []
    for member in pick(files, r"anweb.*\.xlsx$", r"anweb.*\.csv$", r"\.(xlsx|csv)$"):
        found = grid.find(
            member,
            {
                "code": "^HCPC",
                "record": r"REC(ORD )?(ID|IDENTIFICATION CODE)",
                "added": r"ADD (DT|DATE)",
                "terminated": r"TERM (DT|DATE)",
            },
            {"coverage": "COV( CODE| CD)?"},
        )
        for number, row in found.rows:
            code = found.get(row, "code").upper()
            if not code:
                continue
            is_modifier = _MODIFIER.fullmatch(code) is not None
            if not is_modifier and not _PROCEDURE.fullmatch(code):
                raise grid.malformed(member, number)
            if found.get(row, "record") not in ("3", "7", "03", "07", "3.0", "7.0"):
                continue  # 4 and 8 continue a description
            rows.append(
                {
                    "code": code,
                    "is_modifier": is_modifier,
                    "added": grid.day(found.get(row, "added"), member, number),
                    "terminated": grid.day(found.get(row, "terminated"), member, number),
                    "coverage": found.get(row, "coverage") or None,
                    "part": member.part,
                    "row": number,
                }
            )
    if dated is None:
        stated = first_match(r"hcpc(?:s)?[_-]?(20\d\d)[_-]?([a-z]+)", names(files))
        month = month_of(stated[2]) if stated else None
        if stated is None or month is None:
            raise unknown_version()
        dated = quarter(int(stated[1]), (month + 2) // 3)
    return Release(dated.version, dated.start, dated.end, {"codes": pa.Table.from_pylist(rows, schema=HCPCS)})


def nucc(files: list[GivenFile], kind: str, dated: Dated | None) -> Release:
    """Provider taxonomy codes; a version holds for half a year. Raises BadInput as the others."""
    rows: list[dict[str, object]] = []
    for member in pick(files, r"nucc.*\.csv$", r"\.csv$"):
        found = grid.find(member, {"code": "^CODE", "grouping": "GROUPING"})
        for number, row in found.rows:
            code = found.get(row, "code").upper()
            if not code:
                continue
            if not re.fullmatch(r"[0-9A-Z]{9}X", code):
                raise grid.malformed(member, number)
            rows.append({"code": code, "part": member.part, "row": number})
    if dated is None:
        stated = first_match(r"nucc_taxonomy_(\d\d)(\d)", names(files))
        if stated is None:
            raise unknown_version()
        start = date(2000 + int(stated[1]), 7 if stated[2] == "1" else 1, 1)
        after = date(start.year + (start.month == 7), 1 if start.month == 7 else 7, 1)
        dated = Dated(f"{stated[1]}.{stated[2]}", start, after - timedelta(days=1))
    return Release(dated.version, dated.start, dated.end, {"codes": pa.Table.from_pylist(rows, schema=NUCC)})
