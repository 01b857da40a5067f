"""Files in CMS's layouts with invented codes: small ones row by row for tests, full-size ones from a seed for benchmarks.

Loaded with runpy, since test folders are no packages. Preambles stand where the official ones stand, in own words.
"""

from __future__ import annotations

import csv
import io
import random
import zipfile
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from xml.sax.saxutils import escape

Row = Sequence[object]


# --- containers ---------------------------------------------------------------------------------------------------


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def xlsx(rows: Iterable[Row]) -> bytes:
    """A spreadsheet of one sheet, strings shared as Excel does, numbers as numbers, empty cells left out."""
    shared: dict[str, int] = {}
    lines = []
    for r, row in enumerate(rows, 1):
        cells = []
        for c, value in enumerate(row):
            if value in (None, ""):
                continue
            at = f"{_letters(c)}{r}"
            if isinstance(value, int):
                cells.append(f'<c r="{at}"><v>{value}</v></c>')
            else:
                cells.append(f'<c r="{at}" t="s"><v>{shared.setdefault(str(value), len(shared))}</v></c>')
        lines.append(f'<row r="{r}">{"".join(cells)}</row>')
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as book:
        strings = "".join(f"<si><t>{escape(s)}</t></si>" for s in shared)
        book.writestr("xl/sharedStrings.xml", f"<sst {main}>{strings}</sst>")
        book.writestr(
            "xl/worksheets/sheet1.xml", f"<worksheet {main}><sheetData>{''.join(lines)}</sheetData></worksheet>"
        )
    return out.getvalue()


def _letters(index: int) -> str:
    letters = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        letters = chr(65 + rest) + letters
    return letters


def csv_bytes(rows: Iterable[Row], encoding: str = "cp1252") -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out).writerows(rows)
    return out.getvalue().encode(encoding)


# --- one release each, in the layout of its publisher ---------------------------------------------------------------

PTP_PREAMBLE = (
    "Notice of the owner of the code set \xa9 and its terms\r\nColumn 1/Column 2 Edits\t\t*=in existence\t\t\tModifier\t\r\n"
    "\t\tprior to 1996\t\t\t0=not allowed\t\r\nColumn 1\tColumn 2\t\tEffective\tDeletion\t1=allowed\tPTP Edit Rationale\r\n"
    "\t\t\tDate\tDate\t9=not applicable\t\r\n\t\t\t\t*=no data\t\t\r\n"
)


def ptp_text(rows: Iterable[Row], preamble: str = PTP_PREAMBLE, footer: str = "") -> bytes:
    """rows: column 1, column 2, effective YYYYMMDD, deletion or *, indicator."""
    lines = [f"{a}\t{b}\t \t{start}\t{end}\t{mark}\tInvented rationale" for a, b, start, end, mark in rows]
    return (preamble + "".join(f"{line}\r\n" for line in lines) + footer).encode("latin-1")


def ptp_files(
    folder: Path, parts: Sequence[Iterable[Row]], setting: str = "pra", label: str = "v322r0", quarter: str = "2026q3"
) -> list[Path]:
    """f1 to f4 of a quarter; the case of the members' extensions varies as published."""
    word = {"pra": "practitioner", "oph": "hospital"}[setting]
    found = []
    for number, rows in enumerate(parts, 1):
        member = f"cci{setting}-{label}-f{number}.{'TXT' if number == 1 else 'txt'}"
        path = folder / f"medicare-ncci-{quarter}-{word}-ptp-edits-cci{setting}-{label}-f{number}.zip"
        found.append(zipped(path, {member: ptp_text(rows)}))
    return found


_SETTINGS = {
    "mue_practitioner": ("PractitionerServices", "Practitioner Services"),
    "mue_outpatient_hospital": ("OutpatientHospitalServices", "Outpatient Hospital Services"),
    "mue_dme": ("DMESupplierServices", "DME Supplier Services"),
}
_MAI = {1: "1 Line Edit", 2: "2 Date of Service Edit: Policy", 3: "3 Date of Service Edit: Clinical"}


def mue_file(folder: Path, rows: Iterable[Row], kind: str = "mue_practitioner", effective: str = "07-01-2026") -> Path:
    """rows: code, units, adjudication 1 to 3."""
    name, title = _SETTINGS[kind]
    table: list[Row] = [
        ("Notice of the owner of the code set \xae\nover several\nlines, in one cell", "", "", ""),
        ("HCPCS/\nCPT Code", f"{title} MUE Values", "MUE Adjudication Indicator", "MUE Rationale"),
        *((code, units, _MAI[int(str(mai))], "Invented rationale") for code, units, mai in rows),
    ]
    member = f"MCR_MUE_{name}_Eff_{effective}.csv"
    return zipped(folder / f"medicare-ncci-{name.lower()}-mue-table.zip", {member: csv_bytes(table)})


AOC_TITLES = (
    "AOC_Edit_Type",
    "Add-On_Code",
    "AOC_DelDT",
    "Primary_Code",
    "Primary_Code_DelDT",
    "AOC_Edit_EffDT",
    "AOC_Edit_DelDT",
    "Special_Instruction_Notes",
)


def add_on_file(folder: Path, rows: Iterable[Row], quarter: str = "2026Q3", titles: Row = AOC_TITLES) -> Path:
    """rows: type, add-on, primary or CCCCC, effective YYYYDDD, deletion YYYYDDD or 0."""
    table: list[Row] = [
        ("Notice of the owner of the code set",),
        titles,
        *((int(str(t)), a, "", p, "", int(str(start)), int(str(end)) or "", "") for t, a, p, start, end in rows),
    ]
    return zipped(folder / f"aoc-{quarter}.zip", {f"AOC_V{quarter}-MCR.xlsx": xlsx(table)})


def icd10_file(folder: Path, rows: Iterable[Row], year: int = 2026) -> Path:
    """rows: code, billable, text. The fixed-width order file."""
    lines = [
        f"{n:05d} {code!s:<7} {int(bool(billable))} {str(text)[:60]:<60} {text}\r\n"
        for n, (code, billable, text) in enumerate(rows, 1)
    ]
    return zipped(
        folder / f"{year}-code-descriptions.zip", {f"icd10cm_order_{year}.txt": "".join(lines).encode("latin-1")}
    )


def tabular_file(folder: Path, notes: dict[str, list[str]], year: int = 2026) -> Path:
    """notes: code -> texts of its excludes1 notes."""
    diags = "".join(
        f"<diag><name>{code}</name><desc>invented</desc><excludes1>"
        + "".join(f"<note>{escape(text)}</note>" for text in texts)
        + "</excludes1></diag>"
        for code, texts in notes.items()
    )
    xml = f"<?xml version='1.0'?><ICD10CM.tabular><chapter><name>1</name><section id='A00-A09'>{diags}</section></chapter></ICD10CM.tabular>"
    return zipped(folder / f"{year}-tabular.zip", {f"icd10cm_tabular_{year}.xml": xml.encode()})


def hcpcs_file(folder: Path, rows: Iterable[Row], name: str = "HCPC2026_JUL_ANWEB") -> Path:
    """rows: code (2 characters: a modifier), added, terminated (YYYYMMDD or empty)."""
    titles = ["HCPC", "SEQNUM", "RECID", "LONG DESCRIPTION", "SHORT DESCRIPTION", "PRICE CD1", "COV", "ADD DT"]
    titles += ["ACT EFF DT", "TERM DT", "ACTION CD"]
    table: list[Row] = [titles]
    for code, added, ended in rows:
        modifier = len(str(code)) == 2
        table.append(
            [
                f"   {code}" if modifier else code,
                100,
                "7" if modifier else "3",
                "x",
                "x",
                "00",
                "C",
                added,
                added,
                ended,
                "N",
            ]
        )
    return zipped(folder / f"{name.lower()}.zip", {f"{name}.xlsx": xlsx(table)})


def pprrvu_file(folder: Path, rows: Iterable[Row], name: str = "PPRRVU2026_Jul_nonQPP") -> Path:
    """rows: code, modifier, status, work RVU, PCTC, global days, BILAT, ASST, CO-, TEAM. The title is wrapped over four rows."""
    wrapped = [
        (("HCPCS",), "HCPCS"),
        (("MOD",), "MOD"),
        (("DESCRIPTION",), ""),
        (("STATUS", "CODE"), ""),
        (("NOT USED", "FOR MEDICARE", "PAYMENT"), ""),
        (("WORK", "RVU"), ""),
        (("NON-FAC", "PE", "RVU"), ""),
        (("NON-FAC", "NA", "INDICATOR"), ""),
        (("FACILITY", "PE", "RVU"), ""),
        (("FACILITY", "NA", "INDICATOR"), ""),
        (("MP", "RVU"), ""),
        (("NON-FACILITY", "TOTAL"), ""),
        (("FACILITY", "TOTAL"), ""),
        (("PCTC", "IND"), ""),
        (("GLOB", "DAYS"), ""),
        (("PRE", "OP"), ""),
        (("INTRA", "OP"), ""),
        (("POST", "OP"), ""),
        (("MULT", "PROC"), ""),
        (("BILAT", "SURG"), ""),
        (("ASST", "SURG"), ""),
        (("CO-", "SURG"), ""),
        (("TEAM", "SURG"), ""),
        (("ENDO", "BASE"), ""),
        (("CONV", "FACTOR"), ""),
    ]
    preamble = [[f"2026 invented preamble {n}", *[""] * (len(wrapped) - 1)] for n in range(6)]
    header = [[(("",) * (4 - len(words)) + words)[i] for words, _ in wrapped] for i in range(4)]
    body = []
    for code, modifier, status, work, pctc, days, bilateral, assistant, co, team in rows:
        body.append(
            [
                code,
                modifier,
                "dropped",
                status,
                "",
                work,
                "1.00",
                "",
                "0.50",
                "",
                "0.10",
                "0",
                "0",
                pctc,
                days,
                "0.00",
                "0.00",
                "0.00",
                "2",
                bilateral,
                assistant,
                co,
                team,
                "",
                "33.4009",
            ]
        )
    return zipped(folder / "rvu26c.zip", {f"{name}.csv": csv_bytes([*preamble, *header, *body])})


def article_file(
    folder: Path,
    articles: Iterable[Row],
    codes: Iterable[Row],
    covered: Iterable[Row],
    noncovered: Iterable[Row] = (),
    contractors: Iterable[Row] = (("10", "05901", "IL"),),
    links: Iterable[Row] | None = None,
    begin: str = "2026-09-14",
) -> Path:
    """articles: id, version, effective, end. codes: id, version, code, group. covered and noncovered: id, version,
    diagnosis, group. contractors: id, number, state. links: article id, version, contractor id (all where None)."""
    articles, contractors = list(articles), list(contractors)
    states = sorted({str(s) for _, _, s in contractors})
    links = links if links is not None else [(a, v, c) for a, v, *_ in articles for c in {c for c, _, _ in contractors}]
    stamp = "2026-07-01 00:00:00"
    tables: dict[str, list[Row]] = {
        "article": [
            ("article_id", "article_version", "title", "status", "description", "article_eff_date", "article_end_date"),
            *(
                (a, v, "t", "A", '<p>caf\xe9,\n"quoted"</p>', f"{start} 00:00:00", f"{end} 00:00:00" if end else "")
                for a, v, start, end in articles
            ),
        ],
        "article_x_hcpc_code": [
            (
                "article_id",
                "article_version",
                "hcpc_code_id",
                "hcpc_code_version",
                "hcpc_code_group",
                "range",
                "last_updated",
                "long_description",
                "short_description",
            ),
            *((a, v, code, "1", group, "", stamp, "dropped", "dropped") for a, v, code, group in codes),
        ],
        "article_related_documents": [
            ("article_id", "article_version", "r_lcd_id", "r_lcd_version"),
            *((a, v, f"3{a}", "1") for a, v, *_ in articles),
        ],
        "contractor": [
            ("contractor_id", "contractor_type_id", "contractor_version", "contractor_bus_name", "contractor_number"),
            *((c, "12", "1", "invented", n) for c, n in {(c, n) for c, n, _ in contractors}),
        ],
        "contractor_jurisdiction": [
            ("contractor_id", "contractor_type_id", "contractor_version", "state_id", "active_date", "term_date"),
            *((c, "12", "1", states.index(str(s)) + 1, stamp, "") for c, _, s in contractors),
        ],
        "state_lookup": [("state_id", "state_abbrev", "description"), *((i, s, s) for i, s in enumerate(states, 1))],
        "article_x_contractor": [
            (
                "article_id",
                "article_version",
                "article_type",
                "contractor_id",
                "contractor_type_id",
                "contractor_version",
            ),
            *((a, v, "6", c, "12", "1") for a, v, c in links),
        ],
        "update_period": [("period_id", "begin_date", "end_date"), ("1", f"{begin} 00:00:00", f"{begin} 00:00:00")],
    }
    for name, rows in (("covered", covered), ("noncovered", noncovered)):
        tables[f"article_x_icd10_{name}"] = [
            (
                "article_id",
                "article_version",
                "icd10_code_id",
                "icd10_code_version",
                f"icd10_{name}_group",
                "range",
                "last_updated",
                "sort_order",
                "description",
                "asterisk",
            ),
            *(
                (a, v, dx, "1", group, "", stamp, i, "dropped", "Y" if str(dx).endswith("*") else "")
                for i, (a, v, dx, group) in enumerate(((a, v, d, g) for a, v, d, g in rows), 1)
            ),
        ]
    for name in ("article_x_icd10_covered", "article_x_icd10_noncovered"):
        tables[name] = [tuple(str(x).rstrip("*") if i == 2 else x for i, x in enumerate(r)) for r in tables[name]]
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, rows in tables.items():
            archive.writestr(f"{name}.csv", csv_bytes(rows))
    return zipped(
        folder / "current_article.zip",
        {"current_article_csv.zip": inner.getvalue(), "current_article_data_dictionary.pdf": b"%PDF"},
    )


# --- full size ------------------------------------------------------------------------------------------------------

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def invented(count: int) -> list[str]:
    """Procedure codes in no code set: Y, three digits or letters, Z."""
    return [f"Y{_DIGITS[n // 1296]}{_DIGITS[n // 36 % 36]}{_DIGITS[n % 36]}Z" for n in range(count)]


def diagnoses(count: int) -> list[str]:
    """Codes in the form of ICD-10-CM, invented but for the form."""
    letters = "ABCDEFGHIJKLMRST"
    return [f"{letters[n % 16]}{n // 16 % 100:02d}{n // 1600:03d}"[:7] for n in range(count)]


def full_size(
    folder: Path, seed: int = 1, ptp_rows: int = 2_000_000, article_rows: int = 400_000, codes: int = 8_000
) -> dict[str, list[Path]]:
    """Every kind at official size for 2026Q3; 30,000 MUEs at most one a code, 5,000 add-on edits, 72,000 diagnoses."""
    draw = random.Random(seed)
    names = invented(codes)
    each = ptp_rows // codes
    parts: list[list[Row]] = [[], [], [], []]
    for n, code in enumerate(names):
        part = parts[n * 4 // codes]
        step = draw.randrange(1, codes // (each + 1))
        for k in range(1, each + 1):
            mark = draw.random()
            start = f"{draw.randrange(1996, 2026)}0{draw.choice('147')}01"
            end = start if mark < 0.04 else "20240331" if mark < 0.1 else "*"
            part.append(
                (code, names[(n + k * step) % codes], start, end, "9" if mark < 0.04 else "1" if mark < 0.8 else "0")
            )
    parts[3][-1] = (*parts[3][-1][:2], "20260701", "*", "1")
    billable = diagnoses(72_000)
    sides = ("right side", "left side", "", "", "")
    order = [(d, True, f"Invented {sides[n % 5]}") for n, d in enumerate(billable)]
    ids = [str(50_000 + n) for n in range(2_000)]
    per = article_rows // len(ids)
    return {
        "ncci_ptp_practitioner": ptp_files(folder, parts),
        "mue_practitioner": [mue_file(folder, ((c, 1 + n % 9, 1 + n % 3) for n, c in enumerate(names)))],
        "add_on": [
            add_on_file(
                folder,
                (
                    (
                        1 + n % 3,
                        names[n % 400],
                        "CCCCC" if n % 3 == 1 else names[400 + draw.randrange(codes - 400)],
                        2013001,
                        0,
                    )
                    for n in range(5_000)
                ),
            )
        ],
        "icd10cm": [icd10_file(folder, order)],
        "icd10cm_tabular": [
            tabular_file(folder, {billable[n][:3]: [f"other ({billable[n + 1][:3]}.-)"] for n in range(0, 1_600, 2)})
        ],
        "hcpcs": [
            hcpcs_file(
                folder,
                [(f"Q{n:04d}", "20000101", "") for n in range(8_000)]
                + [
                    (m, "20000101", "")
                    for m in ("LT", "RT", "XE", "XS", "XP", "XU", "E1", "E2", "TC", "KX", "F1", "F2")
                ],
            )
        ],
        "pprrvu": [
            pprrvu_file(
                folder,
                (
                    (
                        c,
                        "",
                        "A",
                        "1.00",
                        "0",
                        ("000", "010", "090", "XXX", "XXX", "XXX", "ZZZ")[n % 7],
                        "1",
                        "0",
                        "0",
                        "0",
                    )
                    for n, c in enumerate([*names, *(f"992{k:02d}" for k in range(2, 16))])
                ),
            )
        ],
        "mcd_article": [
            article_file(
                folder,
                [(a, "3", "2020-01-01", "") for a in ids],
                [(a, "3", names[(n * 4 + k) % codes], 1 + k % 2) for n, a in enumerate(ids) for k in range(9)],
                [
                    (a, "3", f"{d[:3]}.{d[3:]}", 1 + k % 2)
                    for a in ids
                    for k in range(per)
                    for d in (draw.choice(billable),)
                ],
                contractors=[(str(c), f"0{5000 + c}", s) for c in range(12) for s in ("IL", "WI", "MN", "NY", "CA")],
                links=[(a, "3", str(c)) for a in ids for c in range(12)],
            )
        ],
    }


def quarter_day(day: int = 0) -> date:
    """A service date in the quarter the full-size tables are in force for."""
    return date.fromordinal(date(2026, 7, 1).toordinal() + day % 92)
