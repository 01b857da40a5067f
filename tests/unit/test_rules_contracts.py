"""Contracts: what is refused as a contract, what a line should be allowed, and which lines are short."""

from __future__ import annotations

import runpy
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from medbill.errors import PolicyError
from medbill.model.results import UNDERPAYMENTS
from medbill.rules import carc, contracts, posting

make = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "rules_tables.py")))
Partition, line = make.Partition, make.line
POLICIES = Path(__file__).parents[2] / "include" / "policies"
CARCS = carc.load(POLICIES)
SHIPPED = contracts.load(POLICIES)

PLAIN: dict[str, Any] = {
    "id": "acme",
    "name": "Acme",
    "version": "1",
    "payer_ids": ["LHP01"],
    "effective": {"from": "2026-01-01", "to": None},
    "tolerance": {"absolute": "1.00", "percent": "1"},
    "lesser_of_billed": True,
    "rates": {"99213": "98.00", "20610": "82.50", "20610-26": "30.00", "J1885": "0.5525"},
    "modifier_percent": {"26": "40", "50": "150"},
}


def agreed(tmp_path: Path, *files: dict[str, Any] | str) -> contracts.Contracts:
    folder = tmp_path / "contracts"
    folder.mkdir(exist_ok=True)
    for i, content in enumerate(files):
        text = content if isinstance(content, str) else yaml.safe_dump(content)
        (folder / f"c{i}.yml").write_text(text)
    return contracts.load(tmp_path)


def short(p: Any, agreement: contracts.Contracts = SHIPPED) -> list[dict[str, Any]]:
    for claim in p.claims:
        if claim["claim_token"] not in {b["claim_token"] for b in p.billed_claims}:
            own = [x for x in p.service_lines if x["claim_key"] == claim["claim_key"]]
            billed = [
                (
                    f"{claim['claim_key']}/{x['line_number']}",
                    x["submitted_code"] or x["procedure_code"],
                    abs(x["charge"]),
                    x["submitted_modifiers"] if x["submitted_code"] else x["modifiers"],
                )
                for x in own
            ]
            p.billed(claim["claim_token"], *billed)
    matched = posting.match(p.remittance_tables(), p.claim_tables(), make.PRACTICE, CARCS, {})
    assert matched.holds.num_rows == 0
    found = contracts.underpayments(p.remittance_tables(), matched.postings, matched.lines, agreement)
    assert found.schema == UNDERPAYMENTS
    return found.to_pylist()


# --- what is short -------------------------------------------------------------------------------------------------------


def test_allowed_ten_dollars_below_the_contract() -> None:
    p = Partition()
    p.claim("C1", line("99213", "150.00", "CO-45 62.00", "PR-3 20.00", allowed="88.00"))
    (row,) = short(p)
    assert (row["expected"], row["allowed"], row["variance"]) == tuple(map(Decimal, ("98.00", "88.00", "10.00")))
    assert (row["contract_id"], row["contract_version"], row["allowed_basis"]) == ("lakeshore", "2025", "AMT_B6")
    assert row["explanation"] == (
        "contract lakeshore version 2025: 99213 x 1, 98.00 a unit, expected 98.00; payer allowed 88.00 (AMT*B6);"
        " adjusted CO-45 62.00, PR-3 20.00"
    )


def test_explanation_repeats_no_text_that_is_not_a_code() -> None:
    p = Partition()
    p.claim("C1", line("99213", "150.00", "CO-45 60.00", "CO-DOE 2.00", allowed="88.00"))
    assert short(p)[0]["explanation"].endswith("adjusted CO-45 60.00, CO-unknown 2.00")


def test_allowed_is_compared_not_paid() -> None:
    p = Partition()
    p.claim("C1", line("99213", "150.00", "CO-45 52.00", "PR-1 98.00", allowed="98.00"))  # all of it to the patient
    assert short(p) == []


def test_without_b6_allowed_is_paid_and_the_patients_share() -> None:
    p = Partition()
    p.claim("C1", line("99213", "150.00", "CO-45 52.00", "PR-2 19.60"))
    p.claim("C2", line("99213", "150.00", "CO-45 70.00", "PR-2 19.60"))
    (row,) = short(p)
    assert (row["claim_token"], row["allowed"], row["allowed_basis"]) == ("C2", Decimal("80.00"), "PAID_PLUS_PATIENT")


def test_sequestration_is_not_an_underpayment() -> None:
    p = Partition().payment(payer="MCR00")
    p.claim("C1", line("99213", "150.00", "CO-45 60.60", "CO-253 1.79"))
    p.claim("C2", line("99213", "150.00", "CO-45 65.60", "CO-253 1.79"))
    assert [(r["claim_token"], str(r["variance"])) for r in short(p)] == [("C2", "5.00")]


@pytest.mark.parametrize(
    ("allowed", "variance"), [("97.00", None), ("96.99", "1.01"), ("98.00", None), ("99.00", None)]
)
def test_tolerance_is_the_larger_of_dollars_and_percent(allowed: str, variance: str | None) -> None:
    p = Partition()
    p.claim("C1", line("99213", "150.00", f"CO-45 {Decimal(150) - Decimal(allowed)}", allowed=allowed))
    assert [str(r["variance"]) for r in short(p)] == ([variance] if variance else [])


def test_percent_tolerance_grows_with_the_amount() -> None:
    p = Partition()  # four units of 138.00: one percent is 5.52
    p.claim("C1", line("99214", "860.00", "CO-45 313.52", allowed="546.48", units=4))
    p.claim("C2", line("99214", "860.00", "CO-45 313.53", allowed="546.47", units=4))
    assert [(r["claim_token"], str(r["expected"])) for r in short(p)] == [("C2", "552.00")]


def test_lesser_of_billed_and_contract() -> None:
    p = Partition()
    p.claim("C1", line("99213", "90.00", allowed="90.00"))
    p.claim("C2", line("99213", "90.00", "CO-45 10.00", allowed="80.00"))
    (row,) = short(p)
    assert (row["claim_token"], str(row["expected"])) == ("C2", "90.00")
    assert "limited to the charge" in row["explanation"]


def test_everything_written_off_as_contractual() -> None:
    p = Partition()
    p.claim("C1", line("99213", "150.00", "CO-45 150.00"))
    assert str(short(p)[0]["variance"]) == "98.00"


def test_downcoding_is_measured_against_what_was_billed() -> None:
    p = Partition()
    p.claim("C1", line("99213", "215.00", "CO-45 117.00", submitted="99214", allowed="98.00"))
    (row,) = short(p)
    assert (row["procedure_code"], str(row["variance"])) == ("99214", "40.00")
    assert "payer changed the code to 99213" in row["explanation"]


def test_units_the_payer_did_not_count_are_expected_too() -> None:
    p = Partition()
    p.claim("C1", line("J1885", "48.00", "CO-45 43.50", allowed="4.50", units=1, submitted_units=Decimal(4)))
    assert str(short(p)[0]["expected"]) == "18.00"


@pytest.mark.parametrize(
    "claim",
    [
        {"status": "2"},
        {"status": "3"},
        {"status": "20"},
        {"status": "21"},
    ],
)
def test_secondary_payers_are_not_compared(claim: dict[str, str]) -> None:
    p = Partition()
    p.claim("C1", line("99213", "150.00", "CO-45 130.00"), **claim)
    assert short(p) == []


def test_what_is_not_comparable() -> None:
    p = Partition()
    p.claim("C1", line("99213", "150.00", "OA-23 130.00"))  # another payer was first
    p.claim("C2", line("99213", "150.00", "CO-197 150.00"))  # denied
    p.claim("C3", line("99213", "150.00", "PR-204 150.00"))  # denied, patient liable
    p.claim("C4", line("99213", "-150.00", "CO-45 -62.00"), status="22")  # reversal
    p.claim("C5", line("99215", "250.00", "CO-45 249.00"))  # no rate
    p.claim("C6", line("99213", "0.00", units=0))  # nothing billed
    p.claim("C7", line("99213", "150.00", "CO-45 62.00", year=None))  # when, is not known
    p.claim("C8", line("99213", "150.00", "CO-45 62.00"), adjustments=("CO-22 88.00",))  # denied as a whole
    p.payment("r2", payer="MCD00")
    p.claim("C9", line("99213", "150.00", "CO-45 149.00"))  # no contract
    p.payment("r3", payer=None)
    p.claim("C10", line("99213", "150.00", "CO-45 149.00"))
    p.payment("r4", payer="LHP01")
    p.claim("C11", line("99213", "150.00", "CO-45 62.00", year=2024))  # before the contract
    assert short(p) == []


def test_statement_year_serves_where_the_line_has_none() -> None:
    p = Partition()
    p.claim("C1", line("99213", "150.00", "CO-45 62.00", year=None), statement_from_year=2026)
    assert len(short(p)) == 1


# --- prices --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "modifiers", "price"),
    [
        ("99213", ["25"], "98.00"),
        ("99213", ["26"], "39.20"),
        ("20610", ["50", "RT"], "123.75"),
        ("20610", ["26"], "30.00"),  # its own rate, not forty percent
        ("20610", ["26", "50"], "45.00"),
        ("J1885", [], "0.5525"),
        ("99999", [], None),
    ],
)
def test_unit_price(tmp_path: Path, code: str, modifiers: list[str], price: str | None) -> None:
    (contract,) = agreed(tmp_path, PLAIN).versions
    found = contract.unit_price(code, modifiers)
    assert found == (None if price is None else Decimal(price))


def test_expected_amount_is_rounded_half_up_after_the_units(tmp_path: Path) -> None:
    p = Partition()
    p.claim("C1", line("J1885", "20.00", "CO-45 20.00", units=10))  # 10 x 0.5525 = 5.525
    assert str(short(p, agreed(tmp_path, PLAIN))[0]["expected"]) == "5.53"


def test_percent_of_charge_where_there_is_no_rate(tmp_path: Path) -> None:
    p = Partition()
    p.claim("C1", line("99215", "250.00", "CO-45 150.00"))
    (row,) = short(p, agreed(tmp_path, {**PLAIN, "percent_of_charge": "60"}))
    assert str(row["expected"]) == "150.00"
    assert "percent of charge" in row["explanation"]


def two_versions(second: str) -> list[dict[str, Any]]:
    return [
        {**PLAIN, "effective": {"from": "2025-01-01", "to": "2026-06-30"}},
        {**PLAIN, "version": "2", "effective": {"from": "2026-07-01", "to": None}, "rates": {"99213": second}},
    ]


def test_two_versions_in_the_service_year_use_the_lowest_and_say_so(tmp_path: Path) -> None:
    p = Partition()
    p.claim("C1", line("99213", "150.00", "CO-45 62.00", allowed="88.00"))
    (row,) = short(p, agreed(tmp_path, *two_versions("104.00")))
    assert (str(row["expected"]), row["contract_version"]) == ("98.00", "1")
    assert "2 prices in force in 2026, the lowest is used" in row["explanation"]


def test_two_versions_of_the_same_price_say_nothing(tmp_path: Path) -> None:
    p = Partition()
    p.claim("C1", line("99213", "150.00", "CO-45 62.00", allowed="88.00"))
    assert "prices in force" not in short(p, agreed(tmp_path, *two_versions("98.00")))[0]["explanation"]


def test_contract_that_begins_within_the_year_says_so(tmp_path: Path) -> None:
    p = Partition()
    p.claim("C1", line("99213", "150.00", "CO-45 62.00", allowed="88.00"))
    later = {**PLAIN, "effective": {"from": "2026-07-01", "to": None}}
    assert "for a part of 2026 only" in short(p, agreed(tmp_path, later))[0]["explanation"]


def test_shipped_contracts() -> None:
    assert {(c.payer_ids[0], c.name) for c in SHIPPED.versions} == {
        ("LHP01", "Lakeshore Health Plan"),
        ("BRM02", "Birchmont Mutual"),
        ("MCR00", "Medicare"),
    }
    assert all(len(c.rates) == 9 and c.effective.start == date(2025, 1, 1) for c in SHIPPED.versions)
    assert SHIPPED.in_force("MCR00", 2026)[0].unit_price("J1885", ()) == Decimal("0.55")
    assert SHIPPED.in_force("MCD00", 2026) == []


# --- contracts that are refused ------------------------------------------------------------------------------------------


def changed(**more: Any) -> dict[str, Any]:
    return {**PLAIN, **more}


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (["id: [unclosed"], "line 1"),
        (["- a list"], "valid dictionary"),
        (["id: a\nid: b\n"], "given twice"),
        ([""], "the file"),
        ([{k: v for k, v in PLAIN.items() if k != "payer_ids"}], "payer_ids: Field required"),
        ([changed(discount="5")], "discount: Extra inputs"),
        ([changed(rates={"99213": "about 98"})], "rates.99213"),
        ([changed(rates={"99213": "-1"})], "above zero"),
        ([changed(rates={"99213": "98.12345"})], "four decimals"),
        ([changed(rates={"office visit": "98"})], "not a code"),
        ([changed(modifier_percent={"bilateral": "150"})], "two characters"),
        ([changed(modifier_percent={"50": "1500"})], "at most 300"),
        ([changed(effective={"from": "2026-13-01", "to": None})], "effective.from"),
        ([changed(effective={"from": "2026-02-01", "to": "2026-01-01"})], "ends before it begins"),
        ([changed(tolerance={"absolute": "1"})], "tolerance.percent"),
        ([changed(payer_ids=[])], "payer_ids"),
        ([PLAIN, PLAIN], "same version"),
        ([PLAIN, changed(version="2")], "two versions of one contract overlap"),
        ([PLAIN, changed(id="other")], "two contracts for one payer"),
    ],
)
def test_bad_contract_is_refused_with_its_reason(tmp_path: Path, files: list[Any], reason: str) -> None:
    with pytest.raises(PolicyError, match=r"c0\.yml") as caught:
        agreed(tmp_path, *files)
    assert reason in str(caught.value)


def test_binary_file_and_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="missing"):
        contracts.load(tmp_path)
    (tmp_path / "contracts").mkdir()
    assert contracts.load(tmp_path).versions == ()
    (tmp_path / "contracts" / "x.yml").write_bytes(b"\xff\xfe\x00id")
    with pytest.raises(PolicyError, match=r"x\.yml"):
        contracts.load(tmp_path)
