"""What each rule of the scrubber says, branch by branch."""

from __future__ import annotations

import json
import runpy
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medbill.errors import PolicyError
from medbill.model.scrub import ISSUE_TYPES
from medbill.rules.scrub import policy, read

t = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "rules_scrub.py")))
C, VISIT, line, claim, found = t.CODES, t.VISIT, t.line, t.claim, t.found


def test_a_claim_in_order_passes() -> None:
    assert t.check(claim()) == [{"claim_id": "c1", "validation_result": "pass", "issues": [], "suggested_actions": []}]


# --- NCCI procedure to procedure


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        # indicator 0: never, whatever modifier
        ((C[0], []), (C[1], []), [("NCCI-PTP", 2, "error")]),
        ((C[0], []), (C[1], ["59"]), [("NCCI-PTP", 2, "error")]),
        ((C[0], ["XS"]), (C[1], ["XS"]), [("NCCI-PTP", 2, "error")]),
        # indicator 1: a modifier on either line says why
        ((C[0], []), (C[2], []), [("NCCI-PTP", 2, "error")]),
        *(((C[0], []), (C[2], [m]), []) for m in ("59", "XE", "XS", "XP", "XU", "58", "78", "79", "91")),
        ((C[0], ["59"]), (C[2], []), []),
        ((C[0], ["22"]), (C[2], ["51"]), [("NCCI-PTP", 2, "error")]),
        # anatomic modifiers bypass where they differ
        ((C[0], ["LT"]), (C[2], ["RT"]), []),
        ((C[0], ["F1"]), (C[2], ["F2"]), []),
        ((C[0], ["LT"]), (C[2], ["LT"]), [("NCCI-PTP", 2, "error")]),
        ((C[0], ["LT"]), (C[2], []), [("NCCI-PTP", 2, "warning")]),
        ((C[0], []), (C[2], ["RT"]), [("NCCI-PTP", 2, "warning")]),
        # indicator 9: void
        ((C[0], []), (C[3], []), []),
        # 25 and 57 on the evaluation and management code, column 1 or 2; 59 does not count there
        ((VISIT, ["25"]), (C[5], []), []),
        ((VISIT, ["57"]), (C[5], []), []),
        ((C[6], []), (VISIT, ["25"]), []),
        ((C[6], []), (VISIT, []), [("NCCI-PTP", 2, "error")]),
        # no edit of the two
        ((C[1], []), (C[2], []), []),
    ],
)  # fmt: skip
def test_ptp_truth_table(first: Any, second: Any, expected: list[Any]) -> None:
    record = claim(line(first[0], modifiers=first[1]), line(second[0], modifiers=second[1]))
    assert [f for f in found(record) if f[0].startswith("NCCI")] == expected


def test_ptp_59_on_a_visit_and_25_on_a_procedure_do_not_bypass() -> None:
    rules = found(claim(line(VISIT, modifiers=["59"]), line(C[5])))
    assert ("NCCI-PTP", 2, "error") in rules
    assert ("MODIFIER-NOT-EM", 1, "error") in rules
    rules = found(claim(line(C[0]), line(C[2], modifiers=["25"])))
    assert ("NCCI-PTP", 2, "error") in rules
    assert ("MODIFIER-EM-ONLY", 2, "error") in rules


@pytest.mark.parametrize(("day", "hits"), [("2026-08-02", 0), ("2026-08-03", 1), ("2026-08-05", 1), ("2026-08-06", 0)])
def test_ptp_and_add_on_dates_include_both_ends(day: str, hits: int) -> None:
    rules = found(claim(line(C[0], date_of_service=day), line(C[4], date_of_service=day)))
    assert [r[0] for r in rules] == ["NCCI-PTP"] * hits
    rules = found(claim(line(C[26], date_of_service=day)))
    assert [r[0] for r in rules] == ["ADD-ON-TYPE1"] * hits


def test_ptp_needs_the_same_day_and_provider() -> None:
    assert found(claim(line(C[0]), line(C[1], date_of_service="2026-08-04"))) == []
    assert found(claim(line(C[0]), line(C[1], rendering_npi="1992000012"))) == []


def test_ptp_across_claims_of_a_patient() -> None:
    one, two = claim(line(C[0])), claim(line(C[1]), claim_id="c2")
    assert found(one, two) == [("NCCI-PTP-ACROSS-CLAIMS", 1, "error")]
    stranger = claim(line(C[1]), claim_id="c2", patient={"id": "p2", "age_years": 45, "sex": "F"})
    assert found(one, stranger) == []
    unknown = [{**c, "patient": {"age_years": 45, "sex": "F"}} for c in (one, two)]
    assert found(*unknown) == []


def test_ptp_evidence_names_the_official_row() -> None:
    (record,) = t.check(claim(line(C[0]), line(C[1])))
    (issue,) = record["issues"]
    assert record["validation_result"] == "fail"
    assert (issue["issue_type"], issue["code"], issue["rule_version"]) == ("NCCI_edit", C[1], "2026Q3 v322r0")
    evidence = issue["evidence"]
    assert (evidence["column1"], evidence["column2"], evidence["modifier_indicator"]) == (C[0], C[1], "0")
    assert (evidence["file"], evidence["row"], evidence["date_of_service"]) == (1, 7, t.DAY)
    assert (evidence["other_claim_id"], evidence["other_line_item"]) == ("c1", 1)
    assert record["suggested_actions"] == [f"Remove {C[1]}, or {C[0]} if that was not done"]


# --- medically unlikely edits


@pytest.mark.parametrize(
    ("code", "units", "expected"),
    [
        (C[10], [2], []),
        (C[10], [3], [("MUE-MAI1", 1, "error")]),
        (C[10], [2, 2], []),  # each line by itself
        (C[10], [3, 2], [("MUE-MAI1", 1, "error")]),
        (C[11], [2], []),
        (C[11], [1, 1], []),
        (C[11], [1, 2], [("MUE-MAI2", 2, "error")]),
        (C[12], [1, 2], [("MUE-MAI3", 2, "warning")]),
        (C[12], [2], []),
        (C[13], [1], [("MUE-MAI2", 1, "error")]),
        (C[11], [9999], [("MUE-MAI2", 1, "error"), ("UNITS-HIGH", 1, "warning")]),
    ],
)  # fmt: skip
def test_mue_truth_table(code: str, units: list[int], expected: list[Any]) -> None:
    record = claim(*(line(code, units=u, modifiers=["76"] if n else []) for n, u in enumerate(units)))
    assert found(record) == expected


def test_mue_sums_over_the_claims_of_a_day() -> None:
    claims = [claim(line(C[11]), claim_id=f"c{n}") for n in range(3)]
    claims = [{**c, "lines": [{**c["lines"][0], "modifiers": ["76"]}]} for c in claims]
    assert found(*claims) == [("MUE-MAI2", 1, "error")] * 3
    assert found(*claims[:2]) == []


def test_mue_of_another_setting_is_not_used() -> None:
    rules = found(claim(line(C[11], units=3), claim_type="institutional"))
    assert {r for r in rules if r[0].startswith("MUE")} == set()
    assert [r[0] for r in rules] == ["NO-TABLE-IN-FORCE"] * 2


# --- add-on codes


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([C[20]], [("ADD-ON-TYPE1", 1, "error")]),
        ([C[20], C[21]], []),
        ([C[20], C[22]], []),
        ([C[20], C[25]], [("ADD-ON-TYPE1", 1, "error")]),
        ([C[23]], [("ADD-ON-TYPE2", 1, "error")]),
        ([C[23], C[39]], []),
        ([C[23], C[20]], [("ADD-ON-TYPE2", 1, "error"), ("ADD-ON-TYPE1", 2, "error")]),
        ([C[24]], [("ADD-ON-TYPE3", 1, "error")]),
        ([C[24], C[25]], []),
        ([C[24], C[39]], [("ADD-ON-TYPE3", 1, "warning")]),
    ],
)
def test_add_on_truth_table(codes: list[str], expected: list[Any]) -> None:
    assert found(claim(*(line(c) for c in codes))) == expected


def test_add_on_primary_may_stand_on_another_claim_of_the_day() -> None:
    assert found(claim(line(C[20])), claim(line(C[21]), claim_id="c2")) == []
    assert found(claim(line(C[20])), claim(line(C[21], date_of_service="2026-08-04"), claim_id="c2")) == [("ADD-ON-TYPE1", 1, "error")]  # fmt: skip


# --- codes


def of(record: dict[str, Any], **more: Any) -> list[tuple[str, str]]:
    return [(rule, severity) for rule, _, severity in found(record, **more)]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("Q0001", []),
        ("q0001 ", []),
        ("Q9999", [("HCPCS-UNKNOWN", "error")]),
        ("Q0002", [("HCPCS-RETIRED", "error")]),
        ("Q0003", [("HCPCS-RETIRED", "error")]),
        ("Y999Z", [("CODE-UNKNOWN", "warning")]),
        (C[43], [("CODE-UNKNOWN", "warning")]),
        ("9921", [("CODE-FORM", "error")]),
        ("D0120", []),
        (None, [("MISSING-FIELD", "error")]),
    ],
)
def test_procedure_codes(code: str | None, expected: list[Any]) -> None:
    assert of(claim(line(code))) == expected


@pytest.mark.parametrize(
    ("diagnoses", "expected"),
    [
        (["I10"], []),
        (["i10"], []),
        (["M17.11"], []),
        (["M17.1"], [("ICD10-NOT-BILLABLE", "error")]),
        (["X99.9"], [("ICD10-EXTERNAL-FIRST", "error"), ("ICD10-UNKNOWN", "error")]),
        (["B99"], [("ICD10-UNKNOWN", "error")]),
        (["W01.0", "S80.0"], [("ICD10-EXTERNAL-FIRST", "error")]),
        (["S80.0", "W01.0"], []),
        (["J20.0", "J40"], [("ICD10-EXCLUDES1", "warning")]),
        (["J40", "J20.0"], [("ICD10-EXCLUDES1", "warning")]),
        (["J20.0", "I10"], []),
        ([], [("MISSING-FIELD", "error")]),
        (["I10"] * 13, [("ICD10-TOO-MANY", "warning")]),
    ],
)
def test_diagnoses(diagnoses: list[str], expected: list[Any]) -> None:
    assert sorted(of(claim(line(diagnoses=diagnoses), diagnoses=diagnoses))) == expected


def test_a_retired_diagnosis_is_told_from_an_unknown_one(tmp_path: Path) -> None:
    from medbill.rules.reference import load
    from medbill.rules.reference.tables import Reference
    from medbill.rules.scrub.engine import Scrubber
    from medbill.store.objects import ObjectStore

    objects = ObjectStore(str(tmp_path / "objects"))
    for year, code in ((2025, "I11"), (2026, "I10")):
        load.load(objects, "icd10cm", [t.make.icd10_file(tmp_path, [(code, True, "Invented")], year)])
    reference = Reference.open(objects)
    reference.need(range(len(reference.versions)))
    scrubber = Scrubber(reference, policy.load_policy(t.INCLUDE / "policies"), [], t.INCLUDE / "sql")
    record = claim(line(diagnoses=["I11"]), line(diagnoses=["I11"], date_of_service="2025-09-30"), diagnoses=["I11"])
    (out,) = scrubber.scrub(*t.tables([record]), t.AS_OF).records()
    hits = [(i["rule_id"], i["evidence"]["date_of_service"]) for i in out["issues"] if i["rule_id"].startswith("ICD10")]
    assert hits == [("ICD10-RETIRED", t.DAY)]


@pytest.mark.parametrize(
    ("modifiers", "diagnoses", "expected"),
    [
        (["LT"], ["M1711"], [("ICD10-LATERALITY", "warning")]),
        (["RT"], ["M1711"], []),
        (["RT"], ["M1712"], [("ICD10-LATERALITY", "warning")]),
        (["LT"], ["M170"], []),
        (["LT"], ["M1711", "M1712"], []),
        (["LT"], ["I10"], []),
        ([], ["M1711"], []),
    ],
)
def test_laterality(modifiers: list[str], diagnoses: list[str], expected: list[Any]) -> None:
    assert of(claim(line(modifiers=modifiers, diagnoses=diagnoses))) == expected


# --- modifiers


@pytest.mark.parametrize(
    ("code", "modifiers", "more", "expected"),
    [
        (C[39], ["26"], {}, []),
        (C[39], ["26", "TC"], {}, [("MODIFIER-EXCLUSIVE", "error")]),
        (C[39], ["LT", "LT"], {}, [("MODIFIER-TWICE", "error")]),
        (C[39], ["XX"], {}, [("MODIFIER-UNKNOWN", "warning")]),
        (C[39], ["ABC"], {}, [("MODIFIER-FORM", "error")]),
        (C[39], ["22", "51", "52", "53", "99"], {}, [("MODIFIER-TOO-MANY", "error")]),
        (C[39], ["25"], {}, [("MODIFIER-EM-ONLY", "error")]),
        (VISIT, ["25"], {}, []),
        (VISIT, ["59"], {}, [("MODIFIER-NOT-EM", "error")]),
        (C[39], ["50"], {"units": 2}, [("MODIFIER-BILATERAL-UNITS", "warning")]),
        (VISIT, ["26"], {}, [("PFS-PCTC", "error")]),
        (VISIT, ["50"], {}, [("PFS-BILATERAL", "error")]),
        (C[40], ["AS"], {}, [("PFS-ASSISTANT", "error")]),
        (C[41], ["80"], {}, [("PFS-ASSISTANT", "warning")]),
        (C[39], ["80"], {}, []),
        (C[40], ["62"], {}, [("PFS-COSURGEON", "error")]),
        (C[41], ["62"], {}, [("PFS-COSURGEON", "warning")]),
        (C[40], ["66"], {}, [("PFS-TEAM", "error")]),
        (C[41], ["66"], {}, [("PFS-TEAM", "warning")]),
    ],
)  # fmt: skip
def test_modifiers(code: str, modifiers: list[str], more: dict[str, Any], expected: list[Any]) -> None:
    assert of(claim(line(code, modifiers=modifiers, **more))) == expected


# --- patient, identity, dates


@pytest.mark.parametrize(
    ("age", "sex", "diagnosis", "modifiers", "expected"),
    [
        (45, "F", "O0900", [], []),
        (45, "M", "O0900", [], ["DEMO-MATERNITY-SEX"]),
        (8, "F", "O0900", [], ["DEMO-MATERNITY-AGE"]),
        (9, "F", "O0900", [], []),
        (64, "F", "O0900", [], []),
        (65, "F", "O0900", [], ["DEMO-MATERNITY-AGE"]),
        (45, "F", "N400", [], ["DEMO-MALE-DX"]),
        (45, "F", "N400", ["KX"], []),
        (45, "male", "N400", [], []),
        (0, "F", "P0700", [], []),
        (1, "F", "P0700", [], ["DEMO-NEWBORN"]),
        (45, "U", "N400", [], ["MISSING-FIELD"]),
        (None, "F", "P0700", [], ["MISSING-FIELD"]),
        (130, "F", "I10", [], ["MISSING-FIELD"]),
    ],
)
def test_demographics(age: int | None, sex: str, diagnosis: str, modifiers: list[str], expected: list[str]) -> None:
    record = claim(line(diagnoses=[diagnosis], modifiers=modifiers), patient={"age_years": age, "sex": sex})
    assert [rule for rule, *_ in found(record)] == expected


def test_procedures_that_imply_a_sex() -> None:
    assert found(claim(line("G0102"))) == [("DEMO-MALE-CODE", None, "error")]
    assert found(claim(line("G0101"))) == []


@pytest.mark.parametrize(("npi", "good"), [("1992000004", True), ("1234567893", True), ("1234567890", False), ("199200000", False), ("3992000004", False), ("19920000O4", False)])  # fmt: skip
def test_npi_check_digit(npi: str, good: bool) -> None:
    assert found(claim(line(rendering_npi=npi))) == ([] if good else [("NPI-CHECK", 1, "error")])
    assert found(claim(referring_npi=npi)) == ([] if good else [("NPI-CHECK", None, "error")])


def test_duplicates() -> None:
    assert found(claim(line(), line())) == [("DUPLICATE-LINE", 2, "error")]
    assert found(claim(line(), line(charge="90.00"))) == [("DUPLICATE-LINE", 2, "warning")]
    assert found(claim(line(), line(modifiers=["76"]))) == []
    assert found(claim(line(), line(date_of_service="2026-08-04"))) == []
    assert found(claim(), claim(claim_id="c2")) == [("DUPLICATE-ACROSS-CLAIMS", 1, "error")]
    assert found(claim(), claim(claim_id="c2", patient={"id": "p2", "age_years": 4, "sex": "M"})) == []
    assert found(claim(), claim(line(C[38]))) == [("DUPLICATE-CLAIM-ID", None, "error")]


@pytest.mark.parametrize(
    ("visit", "modifiers", "surgery", "expected"),
    [
        ("2026-08-03", [], C[42], ["GLOBAL-VISIT"]),
        ("2026-08-03", ["25"], C[42], []),
        ("2026-08-03", ["57"], C[40], []),
        ("2026-08-02", [], C[40], ["GLOBAL-VISIT"]),
        ("2026-08-02", [], C[41], []),
        ("2026-08-04", [], C[42], []),
        ("2026-08-13", [], C[41], ["GLOBAL-VISIT"]),
        ("2026-08-13", ["24"], C[41], []),
        ("2026-08-14", [], C[41], []),
        ("2026-08-31", [], C[40], ["GLOBAL-VISIT"]),
    ],
)
def test_global_periods(visit: str, modifiers: list[str], surgery: str, expected: list[str]) -> None:
    after = claim(line(VISIT, date_of_service=visit, modifiers=modifiers), claim_id="c2")
    assert [rule for rule, *_ in found(claim(line(surgery)), after)] == expected


def test_a_procedure_in_a_global_period_needs_a_modifier() -> None:
    later = claim(line(C[42], date_of_service="2026-08-10"), claim_id="c2")
    assert found(claim(line(C[40])), later) == [("GLOBAL-PROCEDURE", 1, "warning")]
    staged = claim(line(C[42], date_of_service="2026-08-10", modifiers=["58"]), claim_id="c2")
    assert found(claim(line(C[40])), staged) == []


def test_timely_filing_by_policy_and_by_payer() -> None:
    assert of(claim(), as_of=date(2027, 8, 3)) == []
    assert of(claim(), as_of=date(2027, 8, 4)) == [("TIMELY-FILING", "error")]
    payer = claim(payer_id="TST01")
    assert of(payer, as_of=date(2026, 8, 23)) == []
    assert of(payer, as_of=date(2026, 8, 24)) == [("TIMELY-FILING", "error")]
    assert of(claim(), as_of=date(2026, 8, 2)) == [("DATE-FUTURE", "error")]


# --- coverage


@pytest.mark.parametrize(
    ("code", "diagnoses", "more", "expected"),
    [
        (C[30], ["M1711"], {}, []),
        (C[30], ["M1712"], {}, [("LCD-GROUP", "warning")]),
        (C[31], ["M1712"], {}, []),
        (C[30], ["M1712", "M1711"], {}, []),
        (C[30], ["E119"], {}, [("LCD-CONDITION", "warning")]),
        (C[30], ["J40"], {}, [("LCD-NONCOVERED", "error")]),
        (C[30], ["I10"], {}, [("LCD-NOT-COVERED", "error")]),
        (C[33], ["I10"], {}, []),
        (C[30], ["I10"], {"mac": None}, []),
        (C[30], ["I10"], {"mac": "09999"}, [("MCD-CONTRACTOR", "warning")]),
        (C[30], ["M1711"], {"state": "WI"}, [("MCD-CONTRACTOR", "warning")]),
        (C[32], ["J40"], {}, [("LCD-REVISED", "info")]),
    ],
)
def test_local_coverage(code: str, diagnoses: list[str], more: dict[str, Any], expected: list[Any]) -> None:
    assert of(claim(line(code, diagnoses=diagnoses), **{"mac": "05901", **more})) == expected


def test_an_info_is_said_and_decides_nothing() -> None:
    (record,) = t.check(claim(line(C[32], diagnoses=["J40"]), mac="05901"))
    assert record["validation_result"] == "pass"
    assert record["suggested_actions"] == []


# --- payer rules


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (claim(line(C[35])), [("T-PA", "error")]),
        (claim(line(C[35]), authorization="A1"), []),
        (claim(line(C[36])), [("T-REF", "error")]),
        (claim(line(C[36]), referring_npi=t.NPI), []),
        (claim(line(C[37])), []),
        (claim(line(C[37]), place_of_service="10"), [("T-MOD", "error")]),
        (claim(line(C[37], modifiers=["95"]), place_of_service="10"), []),
        (claim(line(modifiers=["59"])), [("T-PRE", "error")]),
        (claim(line(modifiers=["XS"])), []),
        (claim(line(C[38], units=2)), []),
        (claim(line(C[38], units=3)), [("T-FRQ", "error")]),
        (claim(line(C[38], units=2), line(C[38], date_of_service="2026-08-31")), [("T-FRQ", "error")]),
        (claim(line(C[35], date_of_service="2026-07-31")), [("TIMELY-FILING", "error")][:0]),
    ],
)
def test_payer_rules(made: dict[str, Any], expected: list[Any]) -> None:
    rules = [r for r in of({**made, "payer_id": "TST01"}, as_of=date(2026, 8, 20)) if r[0] != "DATE-FUTURE"]
    assert rules == expected


@pytest.mark.parametrize(
    "text",
    [
        "rules: [{id: A, kind: prior_authorization}]",
        "rules: [{id: A, kind: no_such_kind, codes: [J0897]}]",
        "rules: [{id: A, kind: referral, codes: [J0897-J0100]}]",
        "rules: [{id: A, kind: referral, kodes: [J0897]}]",
        "rules: [{id: A, kind: frequency, codes: [J0897], most_units: 0, days: 3}]",
        "rules: [{id: A, kind: referral}, {id: A, kind: referral}]",
        "timely_filing_days: -1",
    ],
)
def test_payer_rules_that_do_not_fit_are_refused(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "payer_rules"
    folder.mkdir()
    head = "payer_ids: [A]\nname: a\nversion: '1'\neffective: {from: 2026-01-01, to: null}\n"
    (folder / "a.yml").write_text(head)
    assert len(policy.load_payer_rules(tmp_path)) == 1
    (folder / "a.yml").write_text(head + text)
    with pytest.raises(PolicyError):
        policy.load_payer_rules(tmp_path)


def test_overlapping_versions_of_a_payer_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "payer_rules"
    folder.mkdir()
    head = "payer_ids: [A]\nname: a\nversion: '{}'\neffective: {{from: {}, to: {}}}\n"
    (folder / "a.yml").write_text(head.format(1, "2026-01-01", "2026-06-30"))
    (folder / "b.yml").write_text(head.format(2, "2026-07-01", "null"))
    assert len(policy.load_payer_rules(tmp_path)) == 2
    (folder / "b.yml").write_text(head.format(2, "2026-06-30", "null"))
    with pytest.raises(PolicyError):
        policy.load_payer_rules(tmp_path)


# --- tables and bad input


def test_no_table_in_force_is_said() -> None:
    (record,) = t.check(claim(line(date_of_service="2026-06-30")))
    assert record["validation_result"] == "needs_review"
    said = {(i["evidence"]["needs"], i["severity"]) for i in record["issues"] if i["rule_id"] == "NO-TABLE-IN-FORCE"}
    assert said == {("ncci_ptp", "warning"), ("mue", "warning"), ("add_on", "warning"), ("hcpcs", "warning"), ("pprrvu", "info")}  # fmt: skip
    (record,) = t.check(claim(mac="05901"), without=("mcd_article",))
    assert [i["evidence"]["needs"] for i in record["issues"]] == ["mcd_article"]


def test_lines_of_different_years_are_judged_each_by_its_own_tables() -> None:
    record = claim(line(C[0]), line(C[1], date_of_service="2024-02-01"), line(C[1], modifiers=["59"]))
    (out,) = t.check(record, as_of=date(2026, 9, 1))
    assert ("NCCI-PTP", 3) in [(i["rule_id"], i["line_item"]) for i in out["issues"]]
    assert ("NCCI-PTP", 2) not in [(i["rule_id"], i["line_item"]) for i in out["issues"]]
    (said,) = [i for i in out["issues"] if i["evidence"].get("needs") == "mue"]
    assert (said["evidence"]["first_date"], said["evidence"]["last_date"]) == ("2024-02-01", "2024-02-01")


@pytest.mark.parametrize(("units", "rule"), [(0, "UNITS-ZERO"), (-1, "UNITS-ZERO"), ("0.000", "UNITS-ZERO"), (9999, "UNITS-HIGH"), ("many", "MISSING-FIELD"), (None, "MISSING-FIELD"), (1e30, "MISSING-FIELD"), ("NaN", "MISSING-FIELD")])  # fmt: skip
def test_impossible_units(units: Any, rule: str) -> None:
    assert [r for r, *_ in found(claim(line(units=units)))] == [rule]


def test_a_claim_with_999_lines() -> None:
    lines = [line(C[n % 40], modifiers=["76"], date_of_service=t.DAY) for n in range(999)]
    (record,) = t.check(claim(*lines))
    hits = [i for i in record["issues"] if i["rule_id"] == "NCCI-PTP"]
    assert {i["evidence"]["column2"] for i in hits} == {C[1], C[2], C[4]}
    assert len(hits) == 75  # 25 lines of each of the three codes


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "1",
        "{",
        '"text"',
        "{}",
        '{"claim_id": 1, "lines": 3}',
        '{"claim_id": "\\u0000", "lines": [null, 1]}',
        "[" * 100_000,
    ],
)
def test_a_bad_record_stops_itself_only(text: str) -> None:
    good = json.dumps(claim())
    claims, lines = next(read.batches([good, text or "{}", good.replace("c1", "c2").replace("p1", "p2")]))
    records = list(t.scrubber().scrub(claims, lines, t.AS_OF).records())
    assert [r["validation_result"] for r in records] == ["pass", "fail", "pass"]
    assert {i["issue_type"] for i in records[1]["issues"]} == {"missing_information"}


def test_pointers_name_the_claims_diagnoses() -> None:
    record = claim(line(diagnoses=["B"]), line(C[38], diagnoses=[1]), diagnoses=["I10", "M17.11"])
    _, lines = t.tables([record])
    assert lines["diagnoses"].to_pylist() == [["M17.11"], ["I10"]]


def test_every_finding_names_rule_version_and_evidence() -> None:
    bad = claim(
        line(C[0]),
        line(C[1]),
        line(C[11], units=9999),
        line("Q9999", modifiers=["25"]),
        line(None, units=0),
        mac="1",
        payer_id="",
    )
    (record,) = t.check(bad, without=("pprrvu",))
    assert len(record["issues"]) > 6
    for issue in record["issues"]:
        assert issue["issue_type"] in ISSUE_TYPES
        assert issue["severity"] in ("error", "warning", "info")
        assert issue["rule_id"]
        assert issue["rule_version"]
        assert issue["message"]
        assert issue["evidence"]
        assert "2026-08" not in issue["message"]


def test_passes_find_what_one_pass_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    from medbill.rules.scrub import engine

    claims = []
    for n in range(40):
        person = {"id": f"p{n % 11}", "age_years": 40, "sex": "F"} if n % 3 else {"age_years": 40, "sex": "F"}
        lines = line(C[n % 13]), line(C[(n + 1) % 13], units=1 + n % 4), line(C[20 + n % 5])
        claims.append(claim(*lines, claim_id=f"c{n % 37}", patient=person))
    whole = t.scrubber().scrub(*t.tables(claims), t.AS_OF)
    monkeypatch.setattr(engine, "_LINES_A_PASS", 17)
    parts = t.scrubber().scrub(*t.tables(claims), t.AS_OF)
    assert list(parts.records()) == list(whole.records())
    assert sum(i["rule_id"] == "DUPLICATE-CLAIM-ID" for r in whole.records() for i in r["issues"]) == 3


def test_line_items_that_do_not_number_the_lines_are_replaced() -> None:
    for items in ([1, 1], [None, 2], [-1, 3], ["x", "y"], [2**31, 1], [1.5, 2]):
        _, lines = t.tables([claim(*({**line(), "line_item": n} for n in items))])
        assert lines["line_item"].to_pylist() == [1, 2]
    _, lines = t.tables([claim({**line(), "line_item": 7}, {**line(), "line_item": "3"})])
    assert lines["line_item"].to_pylist() == [7, 3]
