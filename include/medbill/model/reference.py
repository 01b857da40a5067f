"""Official reference tables as the loaders keep them: codes, dates and indicators, never a descriptor (AMA, X12, NUBC texts).

row is the line (or spreadsheet row) of the official file, part the ordinal of the file of a release in several files: with
them a coder finds the official row in a minute. A null end date is open.
"""

from __future__ import annotations

import pyarrow as pa

from medbill.model.types import MONEY, STRINGS, required

#: Relative value units, geographic indices and the conversion factor: four decimals, exact.
FACTOR = pa.decimal128(12, 4)

_ROW = [required("part", pa.int16()), required("row", pa.int32())]

#: NCCI procedure-to-procedure edits. column2 is the code denied. indicator: 0 never, 1 with a modifier, 9 the edit is void.
NCCI_PTP = pa.schema(
    [
        required("column1", pa.string()),
        required("column2", pa.string()),
        required("effective", pa.date32()),
        pa.field("deletion", pa.date32()),
        required("indicator", pa.string()),
        required("before_1996", pa.bool_()),
        pa.field("rationale", pa.string()),
        *_ROW,
    ]
)
#: Medically unlikely edits. adjudication: 1 line, 2 day by policy, 3 day clinical.
MUE = pa.schema(
    [
        required("code", pa.string()),
        required("units", pa.int32()),
        required("adjudication", pa.int8()),
        pa.field("rationale", pa.string()),
        *_ROW,
    ]
)
#: Add-on code edits. edit_type: 1 closed list of primaries, 2 contractor-defined (primary is null), 3 partial list.
ADD_ON = pa.schema(
    [
        required("edit_type", pa.int8()),
        required("add_on", pa.string()),
        pa.field("add_on_deletion", pa.date32()),
        pa.field("primary_code", pa.string()),
        pa.field("primary_deletion", pa.date32()),
        pa.field("effective", pa.date32()),
        pa.field("deletion", pa.date32()),
        *_ROW,
    ]
)
#: ICD-10-CM. code without the point. billable: valid for submission. side: left, right, bilateral or unspecified.
ICD10CM = pa.schema(
    [required("code", pa.string()), required("billable", pa.bool_()), pa.field("side", pa.string()), *_ROW]
)
#: Excludes1 notes of the tabular list: under code, codes that begin with first to last (a range of beginnings) are excluded.
ICD10CM_EXCLUDES1 = pa.schema(
    [required("code", pa.string()), required("first", pa.string()), required("last", pa.string()), *_ROW]
)
#: HCPCS level II: procedures (5 characters) and modifiers (2).
HCPCS = pa.schema(
    [
        required("code", pa.string()),
        required("is_modifier", pa.bool_()),
        pa.field("added", pa.date32()),
        pa.field("terminated", pa.date32()),
        pa.field("coverage", pa.string()),
        *_ROW,
    ]
)
#: Medicare Coverage Database.
ARTICLES = pa.schema(
    [
        required("article_id", pa.string()),
        required("article_version", pa.string()),
        pa.field("status", pa.string()),
        pa.field("effective", pa.date32()),
        pa.field("ended", pa.date32()),
        required("lcds", STRINGS),
        *_ROW,
    ]
)
ARTICLE_CODES = pa.schema(
    [
        required("article_id", pa.string()),
        required("article_version", pa.string()),
        required("code", pa.string()),
        pa.field("code_group", pa.string()),
        *_ROW,
    ]
)
#: covered: false for the list of diagnoses that do not support. asterisk: a paragraph adds a condition to the code.
ARTICLE_DIAGNOSES = pa.schema(
    [
        required("article_id", pa.string()),
        required("article_version", pa.string()),
        required("diagnosis", pa.string()),
        pa.field("diagnosis_group", pa.string()),
        required("covered", pa.bool_()),
        required("asterisk", pa.bool_()),
        *_ROW,
    ]
)
#: Where a document applies: contractor number (MAC) and state. state is null where the contractor has no jurisdiction row.
ARTICLE_CONTRACTORS = pa.schema(
    [
        required("article_id", pa.string()),
        required("article_version", pa.string()),
        pa.field("contractor", pa.string()),
        pa.field("state", pa.string()),
    ]
)
LCDS = pa.schema(
    [
        required("lcd_id", pa.string()),
        required("lcd_version", pa.string()),
        pa.field("status", pa.string()),
        pa.field("effective", pa.date32()),
        pa.field("ended", pa.date32()),
        *_ROW,
    ]
)
LCD_CODES = pa.schema(
    [required("lcd_id", pa.string()), required("lcd_version", pa.string()), required("code", pa.string()), *_ROW]
)
NCDS = pa.schema(
    [
        required("ncd_id", pa.string()),
        required("ncd_version", pa.string()),
        pa.field("section", pa.string()),
        pa.field("effective", pa.date32()),
        pa.field("ended", pa.date32()),
        *_ROW,
    ]
)
#: Medicare physician fee schedule. modifier is empty, 26, TC or 53.
PPRRVU = pa.schema(
    [
        required("code", pa.string()),
        required("modifier", pa.string()),
        required("qualifying_participant", pa.bool_()),
        required("status", pa.string()),
        pa.field("work", FACTOR),
        pa.field("practice_nonfacility", FACTOR),
        pa.field("practice_facility", FACTOR),
        pa.field("malpractice", FACTOR),
        pa.field("pctc", pa.string()),
        pa.field("global_days", pa.string()),
        pa.field("multiple", pa.string()),
        pa.field("bilateral", pa.string()),
        pa.field("assistant", pa.string()),
        pa.field("co_surgeon", pa.string()),
        pa.field("team", pa.string()),
        pa.field("endoscopic_base", pa.string()),
        pa.field("conversion_factor", FACTOR),
        *_ROW,
    ]
)
GPCI = pa.schema(
    [
        required("contractor", pa.string()),
        required("state", pa.string()),
        required("locality", pa.string()),
        required("work", FACTOR),
        required("practice", FACTOR),
        required("malpractice", FACTOR),
        *_ROW,
    ]
)
LOCALITY = pa.schema(
    [
        required("contractor", pa.string()),
        required("locality", pa.string()),
        required("state", pa.string()),
        pa.field("counties", pa.string()),
        *_ROW,
    ]
)
CLFS = pa.schema(
    [
        required("code", pa.string()),
        required("modifier", pa.string()),
        pa.field("effective", pa.date32()),
        pa.field("indicator", pa.string()),
        pa.field("rate", MONEY),
        *_ROW,
    ]
)
NUCC = pa.schema([required("code", pa.string()), *_ROW])

#: kind of reference data -> its tables.
REFERENCE_TABLES: dict[str, dict[str, pa.Schema]] = {
    "ncci_ptp_practitioner": {"edits": NCCI_PTP},
    "ncci_ptp_hospital": {"edits": NCCI_PTP},
    "mue_practitioner": {"limits": MUE},
    "mue_outpatient_hospital": {"limits": MUE},
    "mue_dme": {"limits": MUE},
    "add_on": {"edits": ADD_ON},
    "icd10cm": {"codes": ICD10CM},
    "icd10cm_tabular": {"excludes1": ICD10CM_EXCLUDES1},
    "hcpcs": {"codes": HCPCS},
    "mcd_article": {
        "articles": ARTICLES,
        "codes": ARTICLE_CODES,
        "diagnoses": ARTICLE_DIAGNOSES,
        "contractors": ARTICLE_CONTRACTORS,
    },
    "mcd_lcd": {"lcds": LCDS, "codes": LCD_CODES},
    "ncd": {"ncds": NCDS},
    "pprrvu": {"codes": PPRRVU},
    "gpci": {"localities": GPCI},
    "locality": {"localities": LOCALITY},
    "clfs": {"rates": CLFS},
    "nucc": {"codes": NUCC},
}
