"""What payers agreed to allow, and lines on which they allowed less.

A contract is a YAML file in include/policies/contracts: a fee schedule by code. The comparison is of allowed amounts, not
of payments, because the patient's share is part of the price. See docs/rules/contracts.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from medbill.errors import PolicyError
from medbill.model.results import UNDERPAYMENTS
from medbill.rules import sql
from medbill.rules.policy_file import Policy, load_yaml

if TYPE_CHECKING:
    import duckdb

_RATE_KEY = re.compile(r"[0-9A-Z]{5}(-[0-9A-Z]{2})?")
_MODIFIER = re.compile(r"[0-9A-Z]{2}")
_CENT = Decimal("0.01")
#: Price per unit or percent of charge; six decimals hold a four-decimal rate times one percentage exactly.
_PRICE = pa.decimal128(18, 6)


class Effective(Policy):
    """Service dates a version covers, both included; `to` is empty while it is in force."""

    start: date = Field(alias="from")
    end: date | None = Field(alias="to")

    @model_validator(mode="after")
    def _ordered(self) -> Effective:
        if self.end is not None and self.end < self.start:
            raise ValueError("ends before it begins")
        return self

    def touches(self, other: Effective) -> bool:
        return self.start <= (other.end or date.max) and other.start <= (self.end or date.max)


class Tolerance(Policy):
    """A line may be short by the larger of absolute dollars and percent of the expected amount."""

    absolute: Decimal = Field(ge=0)
    percent: Decimal = Field(ge=0, le=100)


class Contract(Policy):
    """One version of one contract. rates: dollars per unit by code, or by code-modifier where a modifier has its own rate.

    modifier_percent: percent of the code's rate by modifier (26, TC, 50, ...). percent_of_charge: for codes without a
    rate; without it such lines are not compared. lesser_of_billed: never more than the charge.
    """

    id: str = Field(min_length=1)
    name: str = Field(min_length=1)
    version: str = Field(min_length=1)
    payer_ids: list[str] = Field(min_length=1)
    effective: Effective
    tolerance: Tolerance
    lesser_of_billed: bool
    rates: dict[str, Decimal]
    modifier_percent: dict[str, Decimal] = Field(default_factory=dict)
    percent_of_charge: Decimal | None = Field(default=None, gt=0, le=100)

    @field_validator("rates")
    @classmethod
    def _rates(cls, rates: dict[str, Decimal]) -> dict[str, Decimal]:
        for key, rate in rates.items():
            if not _RATE_KEY.fullmatch(key):
                raise ValueError(f"{key} is not a code, or a code and a modifier joined by -")
            if not rate.is_finite() or rate <= 0 or rate >= 10**9 or rate != rate.quantize(Decimal("0.0001")):
                raise ValueError(f"the rate of {key} must be above zero, with at most four decimals")
        return rates

    @field_validator("modifier_percent")
    @classmethod
    def _modifiers(cls, percents: dict[str, Decimal]) -> dict[str, Decimal]:
        for modifier, percent in percents.items():
            if not _MODIFIER.fullmatch(modifier):
                raise ValueError("a modifier has two characters")
            if not percent.is_finite() or not 0 < percent <= 300 or percent != percent.quantize(_CENT):
                raise ValueError(
                    f"the percent of {modifier} must be above zero and at most 300, with at most two decimals"
                )
        return percents

    def unit_price(self, code: str, modifiers: Iterable[str]) -> Decimal | None:
        """Agreed dollars for one unit, exact; None where the contract has no rate for the code."""
        left = set(modifiers)
        own = sorted(m for m in left if f"{code}-{m}" in self.rates)
        if own:
            price = self.rates[f"{code}-{own[0]}"]
            left.discard(own[0])
        elif code in self.rates:
            price = self.rates[code]
        else:
            return None
        for modifier in sorted(left & self.modifier_percent.keys()):
            price = price * self.modifier_percent[modifier] / 100
        return price.quantize(Decimal("0.000001"))


@dataclass(frozen=True)
class Contracts:
    """All versions of all contracts, sorted by id and first day."""

    versions: tuple[Contract, ...]

    @cached_property
    def _by_payer(self) -> dict[str, list[Contract]]:
        found: dict[str, list[Contract]] = {}
        for contract in self.versions:
            for payer in contract.payer_ids:
                found.setdefault(payer, []).append(contract)
        return found

    def in_force(self, payer_id: str, year: int) -> list[Contract]:
        """Versions that cover any day of a year; of a service only the year is published."""
        first, last = date(year, 1, 1), date(year, 12, 31)
        return [
            c
            for c in self._by_payer.get(payer_id, [])
            if c.effective.start <= last and (c.effective.end or date.max) >= first
        ]

    def covers_year(self, payer_id: str, year: int) -> bool:
        """Whether every day of the year is covered; versions never overlap, so days can be counted."""
        first, last = date(year, 1, 1), date(year, 12, 31)
        days = sum(
            (min(c.effective.end or date.max, last) - max(c.effective.start, first)).days + 1
            for c in self.in_force(payer_id, year)
        )
        return days == (last - first).days + 1


def load(policies: Path) -> Contracts:
    """The contracts of include/policies/contracts/*.yml, from the folder of policies.

    Raises PolicyError where the folder is missing, a file is malformed, or two files contradict each other: versions of one
    contract that overlap, or two contracts for one payer on one day.
    """
    folder = policies / "contracts"
    if not folder.is_dir():
        raise PolicyError("the folder contracts is missing from the policies; leave it empty where there are none")
    files = {path.name: load_yaml(path, Contract) for path in sorted(folder.glob("*.yml"))}
    names = list(files)
    for i, name in enumerate(names):
        for other in names[i + 1 :]:
            a, b = files[name], files[other]
            if a.id == b.id and a.version == b.version:
                raise PolicyError(f"contracts/{name} and {other}: the same version of the same contract")
            if a.effective.touches(b.effective) and a.id == b.id:
                raise PolicyError(f"contracts/{name} and {other}: two versions of one contract overlap")
            if a.effective.touches(b.effective) and set(a.payer_ids) & set(b.payer_ids):
                raise PolicyError(f"contracts/{name} and {other}: two contracts for one payer overlap")
    return Contracts(tuple(sorted(files.values(), key=lambda c: (c.id, c.effective.start))))


_PRICES = {
    "payer_id": pa.string(),
    "year": pa.int16(),
    "code": pa.string(),
    "modifiers": pa.string(),
    "contract_id": pa.string(),
    "contract_version": pa.string(),
    "unit_price": _PRICE,
    "charge_percent": _PRICE,
    "lesser_of_billed": pa.bool_(),
    "tolerance_absolute": _PRICE,
    "tolerance_percent": _PRICE,
    "whole_year": pa.bool_(),
}


def expect(connection: duckdb.DuckDBPyConnection, agreed: Contracts) -> None:
    """Create the tables `billing`, `expected` and `secondary` from the views remittances, claims, service_lines, adjustments.

    billing: what was billed on each line, as the payer says it: claim_key, line_number, payer_id, year, code, modifiers,
    units, charge, allowed_amount. expected: for each line with a contract rate the lowest amount any version in force
    in the service year allows: claim_key, line_number, contract_id, contract_version, expected, unit_price, versions
    (how many of them differ in price), whole_year, tolerance. secondary: claims another payer decided first (CLP02 2, 3,
    and 20, 21 when forwarded; or an earlier payer's amounts, reason 23, on the claim).
    """
    connection.execute("""
        CREATE TEMP TABLE secondary AS
        SELECT claim_key FROM claims WHERE claim_status IN ('2', '3', '20', '21')
        UNION
        SELECT claim_key FROM adjustments WHERE trim(reason_code) = '23'
    """)
    connection.execute("""
        CREATE TEMP TABLE billing AS
        SELECT l.claim_key, l.line_number, r.payer_id, coalesce(l.service_year, c.statement_from_year) AS year,
               coalesce(upper(trim(l.submitted_code)), upper(trim(l.procedure_code))) AS code,
               upper(trim(l.procedure_code)) AS adjudicated,
               CASE WHEN l.submitted_code IS NULL THEN l.modifiers ELSE l.submitted_modifiers END AS modifiers,
               coalesce(l.submitted_units, l.paid_units) AS units, l.charge, l.allowed_amount
        FROM service_lines l JOIN claims c USING (claim_key) JOIN remittances r USING (remittance_key)
    """)
    combinations = connection.sql("""
        SELECT DISTINCT payer_id, year, code, array_to_string(list_sort(modifiers), ':') AS modifiers FROM billing
        WHERE payer_id IS NOT NULL AND year IS NOT NULL AND code IS NOT NULL
        ORDER BY ALL
    """).fetchall()
    connection.register("prices", sql.rows(_PRICES, _prices(agreed, combinations)))
    connection.execute("""
        CREATE TEMP TABLE expected AS
        WITH priced AS (
            SELECT b.claim_key, b.line_number, p.*,
                   coalesce(round(p.unit_price * b.units, 2), round(p.charge_percent * b.charge * 0.01, 2)) AS full_price,
                   b.charge
            FROM billing b JOIN prices p ON p.payer_id = b.payer_id AND p.year = b.year AND p.code = b.code
                 AND p.modifiers = array_to_string(list_sort(b.modifiers), ':')
            WHERE b.units > 0 AND b.charge > 0
        ), capped AS (
            SELECT *, (CASE WHEN lesser_of_billed THEN least(full_price, charge) ELSE full_price END)::DECIMAL(18, 2)
                   AS expected
            FROM priced
        ), ranked AS (
            SELECT *, row_number() OVER (PARTITION BY claim_key, line_number
                                         ORDER BY expected, contract_id, contract_version) AS rank,
                   count(DISTINCT coalesce(unit_price, -charge_percent))
                       OVER (PARTITION BY claim_key, line_number) AS versions
            FROM capped
        )
        SELECT claim_key, line_number, contract_id, contract_version, expected, unit_price, versions, whole_year,
               greatest(tolerance_absolute, round(expected * tolerance_percent * 0.01, 2))::DECIMAL(18, 2) AS tolerance
        FROM ranked WHERE rank = 1
    """)


def _prices(agreed: Contracts, combinations: Iterable[tuple[str, int, str, str]]) -> Iterable[tuple[Any, ...]]:
    for payer, year, code, modifiers in combinations:
        whole_year = agreed.covers_year(payer, year)
        for c in agreed.in_force(payer, year):
            price = c.unit_price(code, modifiers.split(":"))
            percent = c.percent_of_charge if price is None else None
            if price is None and percent is None:
                continue
            tolerance = (c.tolerance.absolute, c.tolerance.percent)
            yield (
                payer,
                year,
                code,
                modifiers,
                c.id,
                c.version,
                price,
                percent,
                c.lesser_of_billed,
                *tolerance,
                whole_year,
            )


def underpayments(
    remittance: Mapping[str, pa.Table], postings: pa.Table, lines: pa.Table, agreed: Contracts
) -> pa.Table:
    """Posted lines on which the payer allowed less than the contract, beyond its tolerance. Schema UNDERPAYMENTS.

    Allowed is AMT*B6 where the payer sent it, else paid plus deductible, coinsurance, copay and sequestration (253 reduces the
    payment, not the price). Not compared: reversals, secondary claims (CLP02 2, 3, 20, 21, or reason 23 anywhere on
    the claim), lines with a denied amount or with dollars left to the patient for another reason than those three,
    claims denied as a whole, lines without a contract rate, service year, units or positive charge.
    """
    connection = sql.connect(
        remittances=remittance["remittances"],
        claims=remittance["claims"],
        service_lines=remittance["service_lines"],
        adjustments=remittance["adjustments"],
        postings=postings,
        lines=lines,
    )
    with connection:
        expect(connection, agreed)
        found = connection.sql(_SHORT).to_arrow_table()
    rows = [{**row, "explanation": _explain(row)} for row in found.to_pylist()]
    return pa.Table.from_pylist(rows, schema=UNDERPAYMENTS).combine_chunks()


_SHORT = """
    WITH comparable AS (
        SELECT p.* FROM postings p
        WHERE NOT p.is_reversal AND p.claim_key NOT IN (SELECT claim_key FROM secondary)
              AND p.claim_key NOT IN (SELECT claim_key FROM lines WHERE line_number = 0 AND denied <> 0)
    ), sequestered AS (
        SELECT claim_key, line_number, sum(amount) AS amount FROM adjustments
        WHERE trim(reason_code) = '253' AND coalesce(group_code, '') <> 'PR' AND line_number IS NOT NULL
        GROUP BY ALL
    ), reasons AS (
        SELECT claim_key, line_number,
               string_agg(coalesce(group_code, '') || '-' || CASE WHEN regexp_full_match(reason_code, '[A-Z]{0,2}[0-9]{1,3}')
                                                               THEN reason_code ELSE 'unknown' END || ' ' || amount, ', '
                          ORDER BY sequence) AS reasons
        FROM adjustments GROUP BY ALL
    ), compared AS (
        SELECT p.claim_key, p.remittance_key, p.claim_token, l.line_number, l.line_token, p.payer_id, p.payer_name,
               p.payment_date, e.contract_id, e.contract_version, b.code AS procedure_code, b.modifiers, b.units,
               b.charge,
               coalesce(b.allowed_amount, l.paid + l.deductible + l.coinsurance + l.copay + coalesce(s.amount, 0))
                   ::DECIMAL(18, 2) AS allowed,
               CASE WHEN b.allowed_amount IS NULL THEN 'PAID_PLUS_PATIENT' ELSE 'AMT_B6' END AS allowed_basis,
               e.expected, e.unit_price, e.versions, e.whole_year, e.tolerance, b.year, b.adjudicated, a.reasons
        FROM comparable p
        JOIN lines l ON l.claim_key = p.claim_key AND l.line_number > 0 AND l.denied = 0 AND l.patient_other = 0
        JOIN billing b ON b.claim_key = l.claim_key AND b.line_number = l.line_number
        JOIN expected e ON e.claim_key = l.claim_key AND e.line_number = l.line_number
        LEFT JOIN sequestered s ON s.claim_key = l.claim_key AND s.line_number = l.line_number
        LEFT JOIN reasons a ON a.claim_key = l.claim_key AND a.line_number = l.line_number
    )
    SELECT *, expected - allowed AS variance FROM compared
    WHERE expected - allowed > tolerance
    ORDER BY claim_key, line_number
"""


def _explain(row: Mapping[str, Any]) -> str:
    """Codes and amounts only: it goes into a proposal that people and payers read."""
    code = "-".join([row["procedure_code"], *row["modifiers"]])
    price = "percent of charge" if row["unit_price"] is None else f"{_dollars(row['unit_price'])} a unit"
    parts = [
        f"contract {row['contract_id']} version {row['contract_version']}: {code} x {_plain(row['units'])}, {price},"
        f" expected {row['expected']}",
        f"payer allowed {row['allowed']} "
        + ("(AMT*B6)" if row["allowed_basis"] == "AMT_B6" else "(paid plus patient's share)"),
    ]
    if row["expected"] == row["charge"]:
        parts.append("limited to the charge")
    if row["adjudicated"] != row["procedure_code"]:
        parts.append(f"payer changed the code to {row['adjudicated'] or 'none'}")
    if row["versions"] > 1:
        parts.append(f"{row['versions']} prices in force in {row['year']}, the lowest is used")
    if not row["whole_year"]:
        parts.append(f"contract in force for a part of {row['year']} only: check the service date")
    if row["reasons"]:
        parts.append(f"adjusted {row['reasons']}")
    return "; ".join(parts)


def _plain(number: Decimal) -> str:
    """Without trailing zeros."""
    return f"{number.normalize():f}"


def _dollars(number: Decimal) -> str:
    """With cents, and with more decimals only where a rate has them."""
    return max(_plain(number), f"{number:.2f}", key=len)
