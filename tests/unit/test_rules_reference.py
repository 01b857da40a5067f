"""Loaders of official tables: layouts as published, and files that must not be loaded."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import zipfile
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from medbill.errors import BadInput, TamperedData
from medbill.rules.reference import archive, codes, load
from medbill.rules.reference.cli import app
from medbill.rules.reference.tables import Reference
from medbill.store.objects import ObjectStore

ROOT = Path(__file__).resolve().parents[2]
make = SimpleNamespace(**runpy.run_path(str(ROOT / "tests" / "rules_reference.py")))

EDITS = [("Y000Z", "Y001Z", "20200101", "*", "1"), ("Y000Z", "Y002Z", "20200101", "20240331", "0")]


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    return ObjectStore(str(tmp_path / "objects"))


def rows(objects: ObjectStore, version: load.Version, name: str) -> list[dict[str, Any]]:
    return load.read(objects, version, name).to_pylist()


def ptp_parts() -> list[list[tuple[str, ...]]]:
    return [
        EDITS,
        [("Y100Z", "Y001Z", "20260701", "*", "1")],
        [("Y200Z", "Y001Z", "20200101", "20200101", "9")],
        [EDITS[0]],
    ]


def test_ptp_of_four_files_is_one_release_of_its_quarter(objects: ObjectStore, tmp_path: Path) -> None:
    made, new = load.load(objects, "ncci_ptp_practitioner", make.ptp_files(tmp_path, ptp_parts()))
    assert new
    assert (made.version, made.start, made.end) == ("2026Q3 v322r0", date(2026, 7, 1), date(2026, 9, 30))
    assert [f.name[-6:] for f in made.files] == ["f1.zip", "f2.zip", "f3.zip", "f4.zip"]
    assert all(len(f.sha256) == 64 for f in made.files)
    found = rows(objects, made, "edits")
    assert len(found) == 5
    assert found[1] == {
        "column1": "Y000Z",
        "column2": "Y002Z",
        "effective": date(2020, 1, 1),
        "deletion": date(2024, 3, 31),
        "indicator": "0",
        "before_1996": False,
        "rationale": "Invented rationale",
        "part": 1,
        "row": 8,  # the preamble has six lines
    }
    assert found[3]["part"] == 3


@pytest.mark.parametrize("lines", [0, 1, 6, 8, 40])
def test_ptp_preamble_may_have_any_length(objects: ObjectStore, tmp_path: Path, lines: int) -> None:
    files = []
    for n in range(1, 5):
        data = make.ptp_text(EDITS, preamble="\xa9 notice\tx\ty\r\n" * lines, footer="\r\n\r\nlast words\r\n")
        files.append(make.zipped(tmp_path / f"q-2026q1-{n}.zip", {f"ccipra-v320r0-f{n}.txt": data}))
    made, _ = load.load(objects, "ncci_ptp_practitioner", files)
    found = rows(objects, made, "edits")
    assert len(found) == 8
    assert found[0]["row"] == lines + 1


def test_ptp_spreadsheet_reads_as_the_text_does(objects: ObjectStore, tmp_path: Path) -> None:
    text, _ = load.load(objects, "ncci_ptp_practitioner", make.ptp_files(tmp_path, ptp_parts()))
    files = []
    for n, part in enumerate(ptp_parts(), 1):
        sheet = make.xlsx(
            [
                ["notice"],
                ["Column 1", "Column 2"],
                *([a, b, "", int(s), e, m, "Invented rationale"] for a, b, s, e, m in part),
            ]
        )
        files.append(make.zipped(tmp_path / f"x-2026q3-f{n}.zip", {f"ccipra-v322r0-f{n}.xlsx": sheet}))
    sheets, _ = load.load(objects, "ncci_ptp_practitioner", files)

    def drop(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{k: v for k, v in row.items() if k != "row"} for row in found]

    assert drop(rows(objects, sheets, "edits")) == drop(rows(objects, text, "edits"))


def test_mue_reads_a_header_with_a_newline_in_a_cell(objects: ObjectStore, tmp_path: Path) -> None:
    made, _ = load.load(objects, "mue_practitioner", [make.mue_file(tmp_path, [("Y000Z", 2, 2), ("Y001Z", 0, 3)])])
    assert (made.start, made.end) == (date(2026, 7, 1), date(2026, 9, 30))
    found = rows(objects, made, "limits")
    assert [(r["code"], r["units"], r["adjudication"], r["row"]) for r in found] == [
        ("Y000Z", 2, 2, 3),
        ("Y001Z", 0, 3, 4),
    ]


def test_add_on_reads_julian_dates_and_contractor_defined_primaries(objects: ObjectStore, tmp_path: Path) -> None:
    titles = tuple(t + "_Julian" if t in ("AOC_Edit_EffDT", "AOC_Edit_DelDT") else t for t in make.AOC_TITLES)
    file = make.add_on_file(
        tmp_path, [(1, "Y000Z", "Y001Z", 2026001, 2026365), (2, "Y002Z", "CCCCC", 2013060, 0)], titles=titles
    )
    made, _ = load.load(objects, "add_on", [file])
    first, second = rows(objects, made, "edits")
    assert (first["effective"], first["deletion"]) == (date(2026, 1, 1), date(2026, 12, 31))
    assert (second["primary_code"], second["effective"], second["deletion"]) == (None, date(2013, 3, 1), None)


def test_icd10_keeps_code_billable_and_side_only(objects: ObjectStore, tmp_path: Path) -> None:
    lines = [
        ("M17", False, "Osteoarthritis of knee"),
        ("M1711", True, "Unilateral, right knee"),
        ("M1712", True, "Unilateral, left knee"),
        ("M170", True, "Bilateral, knee"),
        ("I10", True, "Hypertension"),
    ]
    made, _ = load.load(objects, "icd10cm", [make.icd10_file(tmp_path, lines)])
    assert (made.version, made.start, made.end) == ("FY2026", date(2025, 10, 1), date(2026, 9, 30))
    assert [(r["code"], r["billable"], r["side"]) for r in rows(objects, made, "codes")] == [
        ("M17", False, None),
        ("M1711", True, "right"),
        ("M1712", True, "left"),
        ("M170", True, "bilateral"),
        ("I10", True, None),
    ]


def test_tabular_notes_name_ranges_of_codes(objects: ObjectStore, tmp_path: Path) -> None:
    made, _ = load.load(
        objects,
        "icd10cm_tabular",
        [make.tabular_file(tmp_path, {"J20": ["bronchitis NOS (J40)", "a (J41.0-, J44-J45)"]})],
    )
    assert [(r["code"], r["first"], r["last"]) for r in rows(objects, made, "excludes1")] == [
        ("J20", "J40", "J40"),
        ("J20", "J410", "J410"),
        ("J20", "J44", "J45"),
    ]
    assert codes.referenced("no code here") == []


def test_hcpcs_has_codes_and_padded_modifiers(objects: ObjectStore, tmp_path: Path) -> None:
    made, _ = load.load(
        objects, "hcpcs", [make.hcpcs_file(tmp_path, [("Q0001", "20200101", ""), ("A1", "20200101", "20231231")])]
    )
    code, modifier = rows(objects, made, "codes")
    assert (code["code"], code["is_modifier"], code["terminated"]) == ("Q0001", False, None)
    assert (modifier["code"], modifier["is_modifier"], modifier["terminated"]) == ("A1", True, date(2023, 12, 31))


def test_article_export_is_a_zip_in_a_zip(objects: ObjectStore, tmp_path: Path) -> None:
    file = make.article_file(
        tmp_path,
        [("50001", "3", "2020-01-01", "")],
        [("50001", "3", "Y000Z", 1)],
        [("50001", "3", "M17.11", 1), ("50001", "3", "M17.0*", 2)],
        [("50001", "3", "Z00.00", 1)],
    )
    made, _ = load.load(objects, "mcd_article", [file])
    assert (made.version, made.start, made.end) == ("export 2026-09-14", date(2020, 1, 1), None)
    assert rows(objects, made, "articles")[0]["lcds"] == ["350001"]
    found = rows(objects, made, "diagnoses")
    assert [(r["diagnosis"], r["diagnosis_group"], r["covered"], r["asterisk"]) for r in found] == [
        ("M1711", "1", True, False),
        ("M170", "2", True, True),
        ("Z0000", "1", False, False),
    ]
    assert rows(objects, made, "contractors") == [
        {"article_id": "50001", "article_version": "3", "contractor": "05901", "state": "IL"}
    ]


def test_pprrvu_title_wrapped_over_rows(objects: ObjectStore, tmp_path: Path) -> None:
    made, _ = load.load(
        objects, "pprrvu", [make.pprrvu_file(tmp_path, [("Y000Z", "", "A", "1.25", "0", "090", "1", "2", "1", "0")])]
    )
    (found,) = rows(objects, made, "codes")
    assert (made.start, made.end) == (date(2026, 7, 1), date(2026, 9, 30))
    assert (found["work"], found["practice_nonfacility"], found["practice_facility"], found["malpractice"]) == (
        Decimal("1.2500"),
        Decimal("1.0000"),
        Decimal("0.5000"),
        Decimal("0.1000"),
    )
    assert (found["global_days"], found["bilateral"], found["assistant"], found["co_surgeon"], found["team"]) == (
        "090",
        "1",
        "2",
        "1",
        "0",
    )
    assert found["conversion_factor"] == Decimal("33.4009")
    assert not found["qualifying_participant"]


def test_gpci_locality_clfs_nucc_lcd_ncd(objects: ObjectStore, tmp_path: Path) -> None:
    gpci = make.zipped(
        tmp_path / "a.zip",
        {
            "GPCI2026.csv": make.csv_bytes(
                [
                    ["ADDENDUM E"],
                    ["note"],
                    [
                        "Medicare Administrative Contractor (MAC)",
                        "State",
                        "Locality Number",
                        "Locality Name",
                        "2026 PW GPCI (with 1.0 Floor)***",
                        "2026 PE GPCI",
                        "2026 MP GPCI",
                    ],
                    ["10112", "AL", "0", "ALABAMA", "1.000", "0.869", "0.575"],
                    ["*** a footnote"],
                ]
            )
        },
    )
    made, _ = load.load(objects, "gpci", [gpci])
    assert [(r["contractor"], r["locality"], r["work"]) for r in rows(objects, made, "localities")] == [
        ("10112", "00", Decimal("1.0000"))
    ]
    county = make.zipped(
        tmp_path / "b.zip",
        {
            "26LOCCO.csv": make.csv_bytes(
                [
                    ["note"],
                    ["Medicare Administrative Contractor", "Locality Number", "State", "Fee Schedule Area", "Counties"],
                    ["10112", "0", "ALABAMA", "STATEWIDE", "ALL COUNTIES"],
                    ["", "1", "", "x", "y"],
                ]
            )
        },
    )
    made, _ = load.load(objects, "locality", [county])
    assert [(r["contractor"], r["locality"]) for r in rows(objects, made, "localities")] == [
        ("10112", "00"),
        ("10112", "01"),
    ]
    lab = make.zipped(
        tmp_path / "c.zip",
        {
            "PUF_CLFS_CY2026_Q4V1.csv": make.csv_bytes(
                [
                    ["a"],
                    ["b"],
                    ["c"],
                    ["d"],
                    [
                        "YEAR",
                        "HCPCS",
                        "MOD",
                        "EFF_DATE",
                        "INDICATOR",
                        "RATE",
                        "SHORTDESC",
                        "LONGDESC",
                        "EXTENDEDLONGDESC",
                    ],
                    ["2026", "Q0001", "", "20261001", "N", "8.10", "dropped", "dropped", "dropped"],
                ]
            )
        },
    )
    made, _ = load.load(objects, "clfs", [lab])
    assert (made.start, rows(objects, made, "rates")[0]["rate"]) == (date(2026, 10, 1), Decimal("8.10"))
    taxonomy = tmp_path / "nucc_taxonomy_261.csv"
    taxonomy.write_bytes(make.csv_bytes([["Code", "Grouping", "Classification"], ["207Q00000X", "g", "c"]]))
    made, _ = load.load(objects, "nucc", [taxonomy])
    assert (made.version, made.start, made.end) == ("26.1", date(2026, 7, 1), date(2026, 12, 31))
    lcd = make.zipped(
        tmp_path / "d.zip",
        {
            "lcd.csv": make.csv_bytes(
                [
                    ["lcd_id", "lcd_version", "title", "status", "orig_det_eff_date", "rev_eff_date", "rev_end_date"],
                    ["33000", "9", "t", "A", "2015-10-01 00:00:00", "", ""],
                ]
            ),
            "lcd_x_hcpc_code.csv": make.csv_bytes([["lcd_id", "lcd_version", "hcpc_code_id"], ["33000", "9", "Q0001"]]),
        },
    )
    made, _ = load.load(objects, "mcd_lcd", [lcd])
    assert rows(objects, made, "lcds")[0]["effective"] == date(2015, 10, 1)
    ncd = make.zipped(
        tmp_path / "e.zip",
        {
            "ncd_trkg.csv": make.csv_bytes(
                [
                    ["NCD_id", "NCD_vrsn_num", "NCD_mnl_sect", "NCD_mnl_sect_title", "NCD_efctv_dt", "NCD_trmntn_dt"],
                    ["1", "2", "220.6.17", "t", "2021-01-01 00:00:00", ""],
                ]
            )
        },
    )
    made, _ = load.load(objects, "ncd", [ncd])
    assert rows(objects, made, "ncds")[0]["section"] == "220.6.17"


def test_the_same_files_again_change_nothing(objects: ObjectStore, tmp_path: Path) -> None:
    files = make.ptp_files(tmp_path, ptp_parts())
    first, _ = load.load(objects, "ncci_ptp_practitioner", files)
    before = {k: objects.get(k) for k in objects.list("reference/")}
    renamed = [p.rename(p.with_name(f"again-{p.name}")) for p in reversed(files)]
    again, new = load.load(objects, "ncci_ptp_practitioner", renamed)
    assert not new
    assert again == first
    assert {k: objects.get(k) for k in objects.list("reference/")} == before


def test_a_corrected_release_wins_over_what_it_corrects(objects: ObjectStore, tmp_path: Path) -> None:
    for label in ("v322r0", "v322r1"):
        (tmp_path / label).mkdir()
        parts = ptp_parts()
        parts[0] = parts[0] if label == "v322r0" else parts[0][:1]
        load.load(objects, "ncci_ptp_practitioner", make.ptp_files(tmp_path / label, parts, label=label))
    reference = Reference.open(objects)
    number = reference.in_force("ncci_ptp_practitioner", date(2026, 8, 1))
    assert number is not None
    assert reference.versions[number].version == "2026Q3 v322r1"
    assert reference.in_force("ncci_ptp_practitioner", date(2026, 6, 30)) is None
    assert reference.in_force("ncci_ptp_practitioner", date(2026, 10, 1)) is None


def refused(objects: ObjectStore, kind: str, files: list[Path], code: str, **more: Any) -> None:
    with pytest.raises(BadInput) as caught:
        load.load(objects, kind, files, **more)
    assert caught.value.code == code
    assert load.versions(objects) == []


def test_wrong_kinds_are_refused(objects: ObjectStore, tmp_path: Path) -> None:
    ptp = make.ptp_files(tmp_path, ptp_parts())
    mue = [make.mue_file(tmp_path, [("Y000Z", 1, 1)])]
    refused(objects, "ncci_ptp_hospital", ptp, "REFERENCE_WRONG_KIND")
    refused(objects, "mue_dme", mue, "REFERENCE_WRONG_KIND")
    refused(objects, "mue_practitioner", ptp, "REFERENCE_WRONG_KIND")
    refused(objects, "ncci_ptp_practitioner", mue, "REFERENCE_WRONG_KIND")
    refused(objects, "icd10cm", ptp, "REFERENCE_WRONG_KIND")
    refused(objects, "mcd_article", mue, "REFERENCE_WRONG_KIND")
    refused(objects, "pprrvu", mue, "REFERENCE_WRONG_KIND")
    refused(objects, "no_such_kind", mue, "REFERENCE_KIND_UNKNOWN")
    refused(objects, "add_on", [make.add_on_file(tmp_path, [])], "REFERENCE_WRONG_KIND")


def test_parts_of_a_quarter_are_refused(objects: ObjectStore, tmp_path: Path) -> None:
    files = make.ptp_files(tmp_path, ptp_parts())
    refused(objects, "ncci_ptp_practitioner", files[:3], "REFERENCE_INCOMPLETE")
    refused(objects, "ncci_ptp_practitioner", [*files[:3], files[0]], "REFERENCE_INCOMPLETE")
    (tmp_path / "other").mkdir()
    other = make.ptp_files(tmp_path / "other", ptp_parts(), label="v321r0", quarter="2026q2")
    refused(objects, "ncci_ptp_practitioner", [*files[:3], other[3]], "REFERENCE_INCOMPLETE")


@pytest.mark.parametrize(
    "line",
    [
        "Y00Z\tY001Z\t \t20200101\t*\t1\tx",
        "Y000Z\tY001Z\t \t20200101\t*\t7\tx",
        "Y000Z\tY001Z\t \t20201301\t*\t1\tx",
        "Y000Z\tY001Z",
        "Y000Z\tY001Z\t \t20200101\tsoon\t1\tx",
    ],
)
def test_a_malformed_row_between_good_ones_is_refused(objects: ObjectStore, tmp_path: Path, line: str) -> None:
    good = make.ptp_text(EDITS)
    bad = good + f"{line}\r\n".encode() + b"Y100Z\tY001Z\t \t20200101\t*\t1\tx\r\n"
    files = [
        make.zipped(tmp_path / f"{n}.zip", {f"ccipra-v322r0-f{n}.txt": bad if n == 2 else good}) for n in range(1, 5)
    ]
    refused(objects, "ncci_ptp_practitioner", files, "REFERENCE_MALFORMED")


def test_damaged_and_truncated_zips_are_refused(objects: ObjectStore, tmp_path: Path) -> None:
    files = make.ptp_files(tmp_path, ptp_parts())
    whole = files[2].read_bytes()
    for data in (whole[: len(whole) // 2], whole[:-30], b"PK\x03\x04", b""):
        files[2].write_bytes(data)
        refused(objects, "ncci_ptp_practitioner", files, "ARCHIVE_BROKEN")
    flipped = bytearray(whole)
    flipped[120] ^= 0xFF
    files[2].write_bytes(flipped)
    refused(objects, "ncci_ptp_practitioner", files, "ARCHIVE_BROKEN")
    refused(objects, "mue_practitioner", [tmp_path / "absent.zip"], "FILE_UNREADABLE")


def test_zip_bombs_are_refused_before_they_inflate(objects: ObjectStore, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as out, out.open("ccipra-v322r0-f1.txt", "w") as member:
        for _ in range(48):
            member.write(bytes(1 << 20))
    refused(objects, "ncci_ptp_practitioner", [bomb], "ARCHIVE_TOO_LARGE")
    nested = bomb
    for depth in range(4):
        nested = make.zipped(
            tmp_path / f"n{depth}.zip",
            {
                "inner.zip": nested.read_bytes()
                if depth
                else make.zipped(tmp_path / "x.zip", {"a.txt": b"a"}).read_bytes()
            },
        )
    refused(objects, "ncci_ptp_practitioner", [nested], "ARCHIVE_TOO_LARGE")
    many = make.zipped(tmp_path / "many.zip", {f"{n}.txt": b"" for n in range(archive.MAX_MEMBERS + 1)})
    refused(objects, "mue_practitioner", [many], "ARCHIVE_TOO_LARGE")


def test_a_table_that_does_not_say_its_date_needs_one_given(objects: ObjectStore, tmp_path: Path) -> None:
    file = make.zipped(
        tmp_path / "x.zip",
        {
            "mue.csv": make.csv_bytes(
                [
                    [
                        "HCPCS/CPT Code",
                        "Practitioner Services MUE Values",
                        "MUE Adjudication Indicator",
                        "MUE Rationale",
                    ],
                    ["Y000Z", "1", "1 Line Edit", "r"],
                ]
            )
        },
    )
    refused(objects, "mue_practitioner", [file], "REFERENCE_VERSION_UNKNOWN")
    refused(objects, "mue_practitioner", [file], "REFERENCE_VERSION_UNKNOWN", version="2026Q3")
    made, _ = load.load(
        objects, "mue_practitioner", [file], version="2026Q3", start=date(2026, 7, 1), end=date(2026, 9, 30)
    )
    assert (made.version, made.end) == ("2026Q3", date(2026, 9, 30))


def test_a_load_killed_before_its_last_write_has_loaded_nothing(objects: ObjectStore, tmp_path: Path) -> None:
    file = make.article_file(
        tmp_path, [("50001", "3", "2020-01-01", "")], [("50001", "3", "Y000Z", 1)], [("50001", "3", "M17.11", 1)]
    )
    program = f"""
import os, signal
from pathlib import Path
from medbill.rules.reference import load
from medbill.store.objects import ObjectStore
class Dies(ObjectStore):
    writes = 0
    def put(self, key, data):
        Dies.writes += 1
        if Dies.writes == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().put(key, data)
load.load(Dies({str(tmp_path / "objects")!r}), "mcd_article", [Path({str(file)!r})])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(ROOT / "include")}, check=False
    )
    assert done.returncode == -9
    assert len(objects.list("reference/")) == 2
    assert load.versions(objects) == []
    made, new = load.load(objects, "mcd_article", [file])
    assert new
    assert load.versions(objects) == [made]
    assert rows(objects, made, "diagnoses")[0]["diagnosis"] == "M1711"


def test_a_table_that_was_tampered_with_is_not_used(objects: ObjectStore, tmp_path: Path) -> None:
    made, _ = load.load(objects, "mue_practitioner", [make.mue_file(tmp_path, [("Y000Z", 1, 1)])])
    data = objects.get(made.tables[0].key)
    objects.put(made.tables[0].key, data + b"x")
    with pytest.raises(TamperedData):
        load.read(objects, made, "limits")


def test_spreadsheets_with_document_types_are_refused(objects: ObjectStore, tmp_path: Path) -> None:
    book = tmp_path / "AOC_V2026Q3-MCR.xlsx"
    make.zipped(book, {"xl/worksheets/sheet1.xml": b'<!DOCTYPE a [<!ENTITY b "c">]><worksheet/>'})
    refused(objects, "add_on", [book], "ARCHIVE_BROKEN")


def test_command_loads_and_says_what_is_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDBILL_OBJECTS", str(tmp_path / "objects"))
    file = make.mue_file(tmp_path, [("Y000Z", 1, 1)])
    run = CliRunner()
    first = run.invoke(app, ["load", "--kind", "mue_practitioner", str(file)])
    assert first.stdout.startswith("loaded: mue_practitioner 2026Q3: 2026-07-01 to 2026-09-30, 1 limits")
    assert run.invoke(app, ["load", "--kind", "mue_practitioner", str(file)]).stdout.startswith("already loaded")
    status = run.invoke(app, ["status", "--on", "2026-08-01"]).stdout
    assert "* mue_practitioner 2026Q3" in status
    assert "! icd10cm: none in force on 2026-08-01" in status
    assert "! mue_practitioner: none in force on 2027-08-01" in run.invoke(app, ["status", "--on", "2027-08-01"]).stdout
