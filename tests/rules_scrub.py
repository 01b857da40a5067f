"""Claims for the tests of the scrubber, in order but for what a test changes, and the tables they are judged by.

Loaded with runpy, since test folders are no packages.
"""

from __future__ import annotations

import runpy
from collections.abc import Iterable
from datetime import date
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pyarrow as pa

from medbill.model.scrub import SCRUB_CLAIMS, SCRUB_LINES
from medbill.rules.reference import load
from medbill.rules.reference.tables import Reference
from medbill.rules.scrub import engine, read
from medbill.rules.scrub.policy import PayerRules, load_payer_rules, load_policy
from medbill.store.objects import ObjectStore

ROOT = Path(__file__).resolve().parents[1]
INCLUDE = ROOT / "include"
make = SimpleNamespace(**runpy.run_path(str(ROOT / "tests" / "rules_reference.py")))

AS_OF = date(2026, 9, 1)
DAY = "2026-08-03"
NPI = "1992000004"
CODES = make.invented(60)
VISIT = "99213"
#: Diagnoses of the small order file: code, billable, text.
DIAGNOSES = [
    ("I10", True, "Invented"),
    ("E119", True, "Invented"),
    ("M171", False, "Invented"),
    ("M1711", True, "Unilateral, right knee"),
    ("M1712", True, "Unilateral, left knee"),
    ("M170", True, "Bilateral, of knee"),
    ("J200", True, "Invented"),
    ("J40", True, "Invented"),
    ("O0900", True, "Invented"),
    ("N400", True, "Invented"),
    ("P0700", True, "Invented"),
    ("W010", True, "Invented"),
    ("S800", True, "Invented"),
]
PTP = [
    (CODES[0], CODES[1], "20200101", "*", "0"),
    (CODES[0], CODES[2], "20200101", "*", "1"),
    (CODES[0], CODES[3], "20200101", "20200101", "9"),
    (CODES[0], CODES[4], "20260803", "20260805", "0"),
    (VISIT, CODES[5], "20200101", "*", "1"),
    (CODES[6], VISIT, "20200101", "*", "1"),
]
MUES = [(CODES[10], 2, 1), (CODES[11], 2, 2), (CODES[12], 2, 3), (CODES[13], 0, 2)]
ADD_ONS = [
    (1, CODES[20], CODES[21], 2013001, 0),
    (1, CODES[20], CODES[22], 2013001, 0),
    (2, CODES[23], "CCCCC", 2013001, 0),
    (3, CODES[24], CODES[25], 2013001, 0),
    (1, CODES[26], CODES[27], 2026215, 2026217),  # 3 to 5 August 2026
]
#: Fee schedule: code, modifier, status, work, PCTC, global days, BILAT, ASST, CO-, TEAM.
FEES = [
    *((c, "", "A", "1.00", "1", "XXX", "1", "2", "2", "2") for c in CODES[:40]),
    (VISIT, "", "A", "1.00", "0", "XXX", "0", "0", "0", "0"),
    (CODES[40], "", "A", "1.00", "0", "090", "0", "1", "0", "0"),
    (CODES[41], "", "A", "1.00", "0", "010", "1", "0", "1", "1"),
    (CODES[42], "", "A", "1.00", "0", "000", "1", "2", "2", "2"),
    (CODES[43], "", "D", "1.00", "0", "XXX", "1", "2", "2", "2"),
]
LEVEL_TWO = [
    ("Q0001", "20200101", ""),
    ("Q0002", "20200101", "20260731"),
    ("Q0003", "20260901", ""),
    ("G0438", "20200101", ""),
    ("G0439", "20200101", ""),
    ("G0270", "20200101", ""),
    ("G0101", "20200101", ""),
    ("G0102", "20200101", ""),
    ("E0601", "20200101", ""),
    *((m, "20200101", "") for m in ("LT", "RT", "XE", "XS", "XP", "XU", "F1", "F2", "TC", "KX", "AS")),
]


def files(folder: Path) -> dict[str, list[Path]]:
    """A release of every kind the scrubber reads, for the third quarter of 2026."""
    articles = [("50001", "3", "2020-01-01", ""), ("50002", "1", "2026-08-15", "")]
    return {
        "ncci_ptp_practitioner": make.ptp_files(
            folder,
            [
                PTP,
                PTP[:0] or [(CODES[50], CODES[51], "20200101", "*", "0")],
                [(CODES[50], CODES[52], "20200101", "*", "0")],
                [(CODES[50], CODES[53], "20260701", "*", "0")],
            ],
        ),
        "mue_practitioner": [make.mue_file(folder, MUES)],
        "add_on": [make.add_on_file(folder, ADD_ONS)],
        "icd10cm": [make.icd10_file(folder, DIAGNOSES)],
        "icd10cm_tabular": [make.tabular_file(folder, {"J20": ["bronchitis not specified (J40)"]})],
        "hcpcs": [make.hcpcs_file(folder, LEVEL_TWO)],
        "pprrvu": [make.pprrvu_file(folder, FEES)],
        "mcd_article": [
            make.article_file(
                folder,
                articles,
                [("50001", "3", CODES[30], 1), ("50001", "3", CODES[31], 2), ("50002", "1", CODES[32], 1)],
                [
                    ("50001", "3", "M17.11", 1),
                    ("50001", "3", "M17.12", 2),
                    ("50001", "3", "E11.9*", 1),
                    ("50002", "1", "I10", 1),
                ],
                [("50001", "3", "J40", 1)],
            )
        ],
    }


@cache
def reference(*without: str) -> Reference:
    """Tables of files(), without some kinds. Cached: a Reference does not change."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        objects = ObjectStore(str(folder / "objects"))
        for kind, paths in files(folder).items():
            if kind not in without:
                load.load(objects, kind, paths)
        found = Reference.open(objects)
        found.need(range(len(found.versions)))  # the folder goes
    return found


@cache
def scrubber(*without: str) -> engine.Scrubber:
    policies = INCLUDE / "policies"
    return engine.Scrubber(
        reference(*without), load_policy(policies), [*load_payer_rules(policies), *payers()], INCLUDE / "sql"
    )


def payers() -> list[PayerRules]:
    """A payer with one rule of each kind."""
    rules = [
        {"id": "T-PA", "kind": "prior_authorization", "codes": [CODES[35]]},
        {"id": "T-REF", "kind": "referral", "codes": [CODES[36]]},
        {
            "id": "T-MOD",
            "kind": "required_modifier",
            "codes": [CODES[37]],
            "place_of_service": ["10"],
            "any_of": ["95"],
        },
        {"id": "T-PRE", "kind": "preferred_modifier", "modifiers": ["59"], "use": ["XE", "XS"]},
        {"id": "T-FRQ", "kind": "frequency", "codes": [CODES[38]], "most_units": 2, "days": 30},
    ]
    effective = {"from": date(2026, 8, 1), "to": date(2026, 8, 31)}
    return [
        PayerRules.model_validate(
            {
                "payer_ids": ["TST01"],
                "name": "Test",
                "version": "7",
                "effective": effective,
                "timely_filing_days": 20,
                "rules": rules,
            }
        )
    ]


def line(code: str | None = CODES[39], **more: Any) -> dict[str, Any]:
    """A line in order."""
    return {
        "code": code,
        "modifiers": [],
        "units": 1,
        "charge": "100.00",
        "date_of_service": DAY,
        "diagnoses": ["I10"],
        "rendering_npi": NPI,
        **more,
    }


def claim(*lines: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A claim in order, of these lines."""
    numbered = [{"line_item": n, **one} for n, one in enumerate(lines or (line(),), 1)]
    return {
        "claim_id": "c1", "payer_id": "PAY09", "practice": "lakeside", "patient": {"id": "p1", "age_years": 45, "sex": "F"},
        "place_of_service": "11", "state": "IL", "mac": None, "lines": numbered, "diagnoses": ["I10"], "authorization": None, "referring_npi": None, **more,
    }  # fmt: skip


def tables(claims: Iterable[dict[str, Any]]) -> tuple[pa.Table, pa.Table]:
    import json

    found = read.tables([json.dumps(c) for c in claims])
    assert (found[0].schema, found[1].schema) == (SCRUB_CLAIMS, SCRUB_LINES)
    return found


def check(*claims: dict[str, Any], as_of: date = AS_OF, without: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """One record per claim."""
    return list(scrubber(*without).scrub(*tables(claims), as_of).records())


def found(*claims: dict[str, Any], **more: Any) -> list[tuple[str, int | None, str]]:
    """(rule_id, line_item, severity) of all findings of all claims."""
    return [
        (i["rule_id"], i["line_item"], i["severity"]) for record in check(*claims, **more) for i in record["issues"]
    ]
