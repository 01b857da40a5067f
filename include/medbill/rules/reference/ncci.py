"""NCCI procedure-to-procedure edits, medically unlikely edits and add-on code edits, as CMS publishes them each quarter.

Source: CMS, National Correct Coding Initiative, Medicare NCCI PTP, MUE and AOC files (layouts: docs/rules/reference.md).
"""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from medbill.errors import BadInput
from medbill.model.reference import ADD_ON, MUE, NCCI_PTP
from medbill.rules.reference import grid
from medbill.rules.reference.archive import GivenFile, Member
from medbill.rules.reference.release import (
    Dated,
    Release,
    first_match,
    names,
    pick,
    quarter,
    unknown_version,
    wrong_kind,
)

_CODE = re.compile(r"[0-9A-Z]{5}")
_FIRST_EDIT = re.compile(rb"^[0-9A-Z]{5}\t[0-9A-Z]{5}\t[^\t\n]*\t[0-9]{8}\t", re.MULTILINE)
_PTP_PARTS = 4
_FOOTNOTES = 1 << 20
_PTP_COLUMNS = ["column1", "column2", "before_1996", "effective", "deletion", "indicator", "rationale"]


# --- procedure to procedure ---------------------------------------------------------------------------------------


def ptp(files: list[GivenFile], kind: str, dated: Dated | None) -> Release:
    """All files f1 to f4 of a quarter. The quarter is that of the newest edit, unless a name states it.

    Raises BadInput: REFERENCE_WRONG_KIND (the other setting's files too), REFERENCE_INCOMPLETE, REFERENCE_MALFORMED.
    """
    other = "ccioph" if kind == "ncci_ptp_practitioner" else "ccipra"
    members = pick(files, r"cci(pra|oph).*\.txt$", r"cci(pra|oph).*\.xlsx$", r"\.txt$", r"\.xlsx$")
    if found := next((m for m in members if other in m.name.lower()), None):
        raise wrong_kind(found.part)
    _complete(members)
    table = pa.concat_tables([_ptp_part(m) for m in members])
    return _dated_ptp(table, names(files), dated)


def _complete(members: list[Member]) -> None:
    """A quarter is published in parts by code range; half of it would pass what the other half forbids."""
    parts = [m and int(m[1]) for m in (re.search(r"-?f(\d)\.\w+$", x.name, re.IGNORECASE) for x in members)]
    if any(parts) and sorted(p or 0 for p in parts) != list(range(1, max(_PTP_PARTS, len(parts)) + 1)):
        raise BadInput(
            f"a PTP release is f1 to f{_PTP_PARTS}: give all of them in one command, each once",
            code="REFERENCE_INCOMPLETE",
        )
    versions = {v[1].lower() for v in (re.search(r"-(v\d+)r\d", m.name, re.IGNORECASE) for m in members) if v}
    if len(versions) > 1:
        raise BadInput("the files are of different quarters; give those of one", code="REFERENCE_INCOMPLETE")


def _ptp_part(member: Member) -> pa.Table:
    if not member.name.lower().endswith(".txt"):
        return _ptp_sheet(member)
    data = member.read()
    first = _FIRST_EDIT.search(data)
    if first is None:
        raise wrong_kind(member.part)
    preamble = data[: first.start()].count(b"\n")
    tail = len(data) - min(len(data) - first.start(), _FOOTNOTES)  # what follows the last edit is left out
    last = [*_FIRST_EDIT.finditer(data, tail)][-1].start()
    after = data.find(b"\n", last)
    end = len(data) if after < 0 else after + 1
    body = pa.py_buffer(data).slice(first.start(), end - first.start())
    try:
        raw = arrow_csv.read_csv(
            pa.BufferReader(body),
            read_options=arrow_csv.ReadOptions(column_names=_PTP_COLUMNS, encoding="latin1", block_size=8 << 20),
            parse_options=arrow_csv.ParseOptions(delimiter="\t", quote_char=False, ignore_empty_lines=False),
            convert_options=arrow_csv.ConvertOptions(column_types=dict.fromkeys(_PTP_COLUMNS, pa.string())),
        )
    except pa.ArrowInvalid as error:
        row = re.search(r"[Rr]ow #(\d+)", str(error))
        raise grid.malformed(member, preamble + int(row[1]) if row else 0) from None
    numbers = pa.array(np.arange(preamble + 1, preamble + 1 + raw.num_rows, dtype=np.int32))
    return _ptp_table(member, raw, numbers)


def _ptp_sheet(member: Member) -> pa.Table:
    kept: list[list[str]] = []
    numbers: list[int] = []
    for number, row in grid.rows(member):
        cells = [*(c.strip() for c in row), *[""] * 7][:7]
        if _CODE.fullmatch(cells[0]) and _CODE.fullmatch(cells[1]) and re.fullmatch(r"\d{8}", cells[3]):
            kept.append(cells)
            numbers.append(number)
        elif kept and any(cells):
            raise grid.malformed(member, number)
    if not kept:
        raise wrong_kind(member.part)
    columns = [pa.array(c, pa.string()) for c in zip(*kept, strict=True)]
    return _ptp_table(member, pa.table(columns, names=_PTP_COLUMNS), pa.array(numbers, pa.int32()))


def _ptp_table(member: Member, raw: pa.Table, numbers: pa.Array) -> pa.Table:
    """Every row between the first edit and the last is an edit, or blank."""
    raw = raw.append_column("row", numbers)
    good = pc.and_(
        pc.and_(
            pc.match_substring_regex(raw["column1"], r"^[0-9A-Z]{5}$"),
            pc.match_substring_regex(raw["column2"], r"^[0-9A-Z]{5}$"),
        ),
        pc.match_substring_regex(raw["effective"], r"^\d{8}$"),
    )
    if not pc.all(good).as_py():
        mask = good.to_numpy()
        blank = pc.equal(raw["column1"], "").to_numpy()
        wrong = np.flatnonzero(~mask & ~blank)
        if len(wrong):
            raise grid.malformed(member, int(raw["row"][int(wrong[0])].as_py()))
        raw = raw.filter(pa.array(mask))
    indicator = pc.utf8_trim_whitespace(raw["indicator"])
    bad = pc.invert(pc.is_in(indicator, pa.array(["0", "1", "9"])))
    if pc.any(bad).as_py():
        at = pc.index(bad, True).as_py()
        raise grid.malformed(member, raw["row"][at].as_py(), "has a modifier indicator other than 0, 1 and 9")
    return pa.table(
        {
            "column1": raw["column1"],
            "column2": raw["column2"],
            "effective": _days(raw, "effective", member),
            "deletion": _days(raw, "deletion", member),
            "indicator": indicator,
            "before_1996": pc.equal(pc.utf8_trim_whitespace(raw["before_1996"]), "*"),
            "rationale": pc.utf8_trim_whitespace(raw["rationale"]),
            "part": pa.repeat(pa.scalar(member.part, pa.int16()), raw.num_rows),
            "row": raw["row"],
        },
        schema=NCCI_PTP,
    )


def _days(raw: pa.Table, name: str, member: Member) -> pa.ChunkedArray:
    """Few distinct dates in millions of rows: each is read once."""
    codes = pc.dictionary_encode(raw[name]).combine_chunks()
    chunks = codes.chunks if isinstance(codes, pa.ChunkedArray) else [codes]
    out = []
    for chunk in chunks:
        found = [grid.day(v.as_py() or "", member, 0) for v in chunk.dictionary]
        out.append(pa.array(found, pa.date32()).take(chunk.indices))
    return pa.chunked_array(out, pa.date32())


def _dated_ptp(table: pa.Table, found: list[str], dated: Dated | None) -> Release:
    if dated is None:
        label = first_match(r"-(v\d+r\d+)", found)
        stated = first_match(r"(20\d\d)-?q([1-4])", found)
        newest = pc.max(table["effective"]).as_py()
        year, number = (int(stated[1]), int(stated[2])) if stated else (newest.year, (newest.month + 2) // 3)
        dated = quarter(year, number)
        if label:
            dated = Dated(f"{dated.version} {label[1].lower()}", dated.start, dated.end)
        if newest > (dated.end or newest):
            raise BadInput(
                "an edit begins after the quarter the name states; the files are of different quarters",
                code="REFERENCE_INCOMPLETE",
            )
    return Release(dated.version, dated.start, dated.end, {"edits": table})


# --- medically unlikely edits -------------------------------------------------------------------------------------

_MUE_TITLES = {
    "mue_practitioner": "PRACTITIONER SERVICES MUE VALUES?",
    "mue_outpatient_hospital": "OUTPATIENT HOSPITAL SERVICES MUE VALUES?",
    "mue_dme": "DME SUPPLIER SERVICES MUE VALUES?",
}


def mue(files: list[GivenFile], kind: str, dated: Dated | None) -> Release:
    """One table of one setting. Its quarter stands in its name only (Eff_MM-DD-YYYY).

    Raises BadInput: REFERENCE_WRONG_KIND (another setting's table too), REFERENCE_MALFORMED, REFERENCE_VERSION_UNKNOWN.
    """
    out: list[dict[str, object]] = []
    for member in pick(files, r"mue.*\.csv$", r"mue.*\.xlsx$", r"\.csv$", r"\.xlsx$"):
        found = grid.find(
            member,
            {"code": r"HCPCS ?/ ?CPT CODE", "units": _MUE_TITLES[kind], "adjudication": "MUE ADJUDICATION INDICATOR"},
            {"rationale": "MUE RATIONALE"},
        )
        for number, row in found.rows:
            code = found.get(row, "code").upper()
            if not any(row):
                continue
            units, indicator = found.get(row, "units"), found.get(row, "adjudication")[:1]
            if not _CODE.fullmatch(code) or not re.fullmatch(r"\d+(\.0)?", units) or indicator not in ("1", "2", "3"):
                raise grid.malformed(member, number)
            out.append(
                {
                    "code": code,
                    "units": int(units.removesuffix(".0")),
                    "adjudication": int(indicator),
                    "rationale": found.get(row, "rationale") or None,
                    "part": member.part,
                    "row": number,
                }
            )
    table = pa.Table.from_pylist(out, schema=MUE)
    if dated is None:
        when = first_match(r"Eff[_-]?(\d\d)-(\d\d)-(\d{4})", names(files))
        stated = first_match(r"(20\d\d)-?q([1-4])", names(files))
        if when:
            dated = quarter(int(when[3]), (int(when[1]) + 2) // 3)
        elif stated:
            dated = quarter(int(stated[1]), int(stated[2]))
        else:
            raise unknown_version()
    return Release(dated.version, dated.start, dated.end, {"limits": table})


# --- add-on codes -------------------------------------------------------------------------------------------------

_ADD_ON = {
    "edit_type": r"AOC EDIT TYPE",
    "add_on": r"ADD-ON CODE",
    "primary_code": r"PRIMARY CODE",
    "effective": r"AOC EDIT EFFDT( JULIAN)?",
    "deletion": r"AOC EDIT DELDT( JULIAN)?",
}
_ADD_ON_MORE = {
    "add_on_deletion": r"^AOC DELDT( JULIAN)?",
    "primary_deletion": r"^PRIMARY CODE DELDT( JULIAN)?",
}
#: What the official table writes where the contractor decides which code is a primary.
_CONTRACTOR_DEFINED = "CCCCC"


def add_on(files: list[GivenFile], kind: str, dated: Dated | None) -> Release:
    """Types 1, 2 and 3. Raises BadInput: REFERENCE_WRONG_KIND, REFERENCE_MALFORMED, REFERENCE_VERSION_UNKNOWN."""
    out: list[dict[str, object]] = []
    for member in pick(files, r"aoc.*\.xlsx$", r"aoc.*\.(csv|txt)$", r"\.(xlsx|csv|txt)$"):
        found = grid.find(member, _ADD_ON, _ADD_ON_MORE)
        for number, row in found.rows:
            if not any(c.strip() for c in row):
                continue
            code, primary = found.get(row, "add_on").upper(), found.get(row, "primary_code").upper()
            edit_type = found.get(row, "edit_type")[:1]
            contractor = primary in ("", _CONTRACTOR_DEFINED)
            if not _CODE.fullmatch(code) or edit_type not in ("1", "2", "3"):
                raise grid.malformed(member, number)
            if not contractor and not _CODE.fullmatch(primary):
                raise grid.malformed(member, number)
            out.append(
                {
                    "edit_type": int(edit_type),
                    "add_on": code,
                    "primary_code": None if contractor else primary,
                    **{
                        name: grid.day(found.get(row, name), member, number)
                        for name in ("add_on_deletion", "primary_deletion", "effective", "deletion")
                    },
                    "part": member.part,
                    "row": number,
                }
            )
    table = pa.Table.from_pylist(out, schema=ADD_ON)
    if dated is None:
        stated = first_match(r"(20\d\d)-?q([1-4])", names(files))
        if stated is None:
            raise unknown_version()
        dated = quarter(int(stated[1]), int(stated[2]))
    return Release(dated.version, dated.start, dated.end, {"edits": table})
