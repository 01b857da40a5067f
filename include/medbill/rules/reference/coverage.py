"""Medicare Coverage Database exports: billing and coding articles, LCDs, NCDs.

Source: CMS MCD downloads (current_article.zip and the like: a zip of CSV files in a zip, Windows-1252, HTML in the cells).
Texts and code descriptions are dropped. Codes hang on articles; LCDs rarely have any, and NCD exports have none.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from medbill.errors import BadInput
from medbill.model.reference import (
    ARTICLE_CODES,
    ARTICLE_CONTRACTORS,
    ARTICLE_DIAGNOSES,
    ARTICLES,
    LCD_CODES,
    LCDS,
    NCDS,
)
from medbill.rules.reference import grid
from medbill.rules.reference.archive import GivenFile, Member
from medbill.rules.reference.release import Dated, Release, unknown_version, wrong_kind

Key = tuple[str, str]


def article(files: list[GivenFile], kind: str, dated: Dated | None) -> Release:
    """An article export. Raises BadInput: REFERENCE_WRONG_KIND, REFERENCE_INCOMPLETE, REFERENCE_MALFORMED."""
    if not any(m.name.lower() == "article.csv" for f in files for m in f.members):
        raise wrong_kind(1)
    lcds: dict[Key, set[str]] = defaultdict(set)
    for _, row in _rows(files, "article_related_documents", "article_id", "article_version", "r_lcd_id"):
        if row["r_lcd_id"] not in ("", "0"):
            lcds[row["article_id"], row["article_version"]].add(row["r_lcd_id"])
    articles = [
        {
            **_key(row, "article"),
            "status": row["status"] or None,
            "effective": grid.day(row["article_eff_date"], at.member, at.row),
            "ended": grid.day(row["article_end_date"], at.member, at.row),
            "lcds": sorted(lcds[row["article_id"], row["article_version"]]),
            "part": at.member.part,
            "row": at.row,
        }
        for at, row in _rows(
            files, "article", "article_id", "article_version", "status", "article_eff_date", "article_end_date"
        )
    ]
    codes = [
        {
            **_key(row, "article"),
            "code": row["hcpc_code_id"].upper(),
            "code_group": row["hcpc_code_group"] or None,
            "part": at.member.part,
            "row": at.row,
        }
        for at, row in _rows(
            files, "article_x_hcpc_code", "article_id", "article_version", "hcpc_code_id", "hcpc_code_group"
        )
    ]
    tables = {
        "articles": pa.Table.from_pylist(articles, schema=ARTICLES),
        "codes": pa.Table.from_pylist(codes, schema=ARTICLE_CODES),
        "diagnoses": pa.concat_tables([_diagnoses(files, True), _diagnoses(files, False)]),
        "contractors": pa.Table.from_pylist(_contractors(files), schema=ARTICLE_CONTRACTORS),
    }
    dated = dated or _export(files, tables["articles"])
    return Release(dated.version, dated.start, dated.end, tables)


def _diagnoses(files: list[GivenFile], covered: bool) -> pa.Table:
    """Column by column: it is the one large table of the export."""
    name = "covered" if covered else "noncovered"
    group = f"icd10_{name}_group"
    columns: dict[str, list[object]] = {f.name: [] for f in ARTICLE_DIAGNOSES}
    lists = tuple(columns[c] for c in ("article_id", "article_version", "diagnosis", "diagnosis_group"))
    for at, row in _rows(files, f"article_x_icd10_{name}", "article_id", "article_version", "icd10_code_id", group):
        values = (row["article_id"], row["article_version"], row["icd10_code_id"].replace(".", "").upper(), row[group])
        for column, value in zip(lists, values, strict=True):
            column.append(value)
        columns["asterisk"].append(row.get("asterisk", "").lower() in ("y", "yes", "1", "true", "*"))
        columns["part"].append(at.member.part)
        columns["row"].append(at.row)
    columns["covered"] = [covered] * len(columns["row"])
    return pa.table(columns, schema=ARTICLE_DIAGNOSES)


def _contractors(files: list[GivenFile]) -> list[dict[str, str | None]]:
    """Contractor numbers and states of each article: contractor_jurisdiction rows that are not terminated."""
    identity = ("contractor_id", "contractor_type_id", "contractor_version")
    numbers = {
        tuple(row[c] for c in identity): row["contractor_number"]
        for _, row in _rows(files, "contractor", *identity, "contractor_number")
    }
    states = {
        row["state_id"]: row["state_abbrev"] for _, row in _rows(files, "state_lookup", "state_id", "state_abbrev")
    }
    served: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for _, row in _rows(files, "contractor_jurisdiction", *identity, "state_id", "term_date"):
        if not row["term_date"] and row["state_id"] in states:
            served[tuple(row[c] for c in identity)].add(states[row["state_id"]].upper())
    found = set()
    for _, row in _rows(files, "article_x_contractor", "article_id", "article_version", *identity):
        contractor = tuple(row[c] for c in identity)
        for state in served.get(contractor, set()) or {""}:
            found.add((row["article_id"], row["article_version"], numbers.get(contractor, ""), state))
    return [
        {"article_id": a, "article_version": v, "contractor": n or None, "state": s or None}
        for a, v, n, s in sorted(found)
    ]


def lcd(files: list[GivenFile], kind: str, dated: Dated | None) -> Release:
    """An LCD export. Raises BadInput as article() does."""
    lcds = [
        {
            **_key(row, "lcd"),
            "status": row["status"] or None,
            "effective": grid.day(row["rev_eff_date"] or row["orig_det_eff_date"], at.member, at.row),
            "ended": grid.day(row["rev_end_date"], at.member, at.row),
            "part": at.member.part,
            "row": at.row,
        }
        for at, row in _rows(
            files, "lcd", "lcd_id", "lcd_version", "status", "orig_det_eff_date", "rev_eff_date", "rev_end_date"
        )
    ]
    codes = [
        {**_key(row, "lcd"), "code": row["hcpc_code_id"].upper(), "part": at.member.part, "row": at.row}
        for at, row in _rows(files, "lcd_x_hcpc_code", "lcd_id", "lcd_version", "hcpc_code_id")
    ]
    tables = {
        "lcds": pa.Table.from_pylist(lcds, schema=LCDS),
        "codes": pa.Table.from_pylist(codes, schema=LCD_CODES),
    }
    dated = dated or _export(files, tables["lcds"])
    return Release(dated.version, dated.start, dated.end, tables)


def ncd(files: list[GivenFile], kind: str, dated: Dated | None) -> Release:
    """The NCD list: which national determinations were in force when. Raises BadInput as article() does."""
    ncds = [
        {
            "ncd_id": row["ncd_id"],
            "ncd_version": row["ncd_vrsn_num"],
            "section": row["ncd_mnl_sect"] or None,
            "effective": grid.day(row["ncd_efctv_dt"], at.member, at.row),
            "ended": grid.day(row["ncd_trmntn_dt"], at.member, at.row),
            "part": at.member.part,
            "row": at.row,
        }
        for at, row in _rows(
            files, "ncd_trkg", "ncd_id", "ncd_vrsn_num", "ncd_mnl_sect", "ncd_efctv_dt", "ncd_trmntn_dt"
        )
    ]
    table = pa.Table.from_pylist(ncds, schema=NCDS)
    dated = dated or _export(files, table)
    return Release(dated.version, dated.start, dated.end, {"ncds": table})


class _At:
    __slots__ = ("member", "row")

    def __init__(self, member: Member, row: int) -> None:
        self.member, self.row = member, row


def _rows(files: list[GivenFile], table: str, *columns: str) -> Iterator[tuple[_At, dict[str, str]]]:
    """Rows of one CSV of the export, the wanted columns (and asterisk where there is one) by name."""
    member = next((m for f in files for m in f.members if m.name.lower() == f"{table}.csv"), None)
    if member is None:
        if table in ("lcd", "ncd_trkg"):
            raise wrong_kind(1)
        raise BadInput(f"the export lacks {table}.csv; download the whole export again", code="REFERENCE_INCOMPLETE")
    source = grid.rows(member)
    _, header = next(source, (0, []))
    names = [h.strip().lower() for h in header]
    if missing := [c for c in columns if c not in names]:
        raise BadInput(f"{table}.csv has no column {missing[0]}; its layout is new", code="REFERENCE_MALFORMED")
    wanted = [(c, names.index(c)) for c in (*columns, "asterisk") if c in names]
    width = len(names)
    for number, cells in source:
        if len(cells) < width:
            if not any(cells):
                continue
            raise grid.malformed(member, number)
        yield _At(member, number), {name: cells[i].strip() for name, i in wanted}


def _key(row: dict[str, str], what: str) -> dict[str, str]:
    return {f"{what}_id": row[f"{what}_id"], f"{what}_version": row[f"{what}_version"]}


def _export(files: list[GivenFile], documents: pa.Table) -> Dated:
    """Named after the end of its update period, else after its newest document; it speaks of all dates its documents do."""
    try:
        periods = [r for _, r in _rows(files, "update_period", "begin_date", "end_date")]
    except BadInput:
        periods = []
    ends = [r["begin_date"][:10] for r in periods if re.match(r"\d{4}-\d{2}-\d{2}", r["begin_date"])]
    first, newest = pc.min(documents["effective"]).as_py(), pc.max(documents["effective"]).as_py()
    if first is None or newest is None:
        raise unknown_version()
    label = max(ends) if ends else newest.isoformat()
    return Dated(f"export {date.fromisoformat(label)}", first, None)
