"""Small published tables for the tests of the rules, written the way a remittance reads: claims with lines with adjustments.

Loaded with runpy, since test folders are no packages. An adjustment is text: "CO-45 52.00".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa

from medbill.model.published import PUBLISHED_CLAIM_TABLES, PUBLISHED_REMITTANCE_TABLES
from medbill.settings import Practice

PRACTICE = Practice("lakeside", "Lakeside", frozenset({"1992000004"}), frozenset({"990001234"}), "drchrono")


def money(text: str | int | Decimal) -> Decimal:
    return Decimal(text).quantize(Decimal("0.01"))


def triplet(text: str) -> tuple[str, str, Decimal]:
    """("CO", "45", 52.00) of "CO-45 52.00"."""
    code, amount = text.split()
    group, _, reason = code.partition("-")
    return group, reason, money(amount)


def line(code: str | None, charge: str, *adjustments: str, **more: Any) -> dict[str, Any]:
    """A service line; paid is what the adjustments leave, unless given."""
    return {"code": code, "charge": money(charge), "adjustments": [triplet(a) for a in adjustments], **more}


def table(schema: pa.Schema, rows: list[dict[str, Any]]) -> pa.Table:
    """Rows under a schema; what is not given is null, an empty list or zero."""
    empty = {f.name: [] if pa.types.is_list(f.type) else None for f in schema}
    return pa.Table.from_pylist([{**empty, **row} for row in rows], schema=schema)


@dataclass
class Partition:
    """The published remittances of a day, and what the practice billed."""

    remittances: list[dict[str, Any]] = field(default_factory=list)
    claims: list[dict[str, Any]] = field(default_factory=list)
    service_lines: list[dict[str, Any]] = field(default_factory=list)
    adjustments: list[dict[str, Any]] = field(default_factory=list)
    billed_claims: list[dict[str, Any]] = field(default_factory=list)
    billed_lines: list[dict[str, Any]] = field(default_factory=list)

    def payment(self, key: str = "r1", payer: str | None = "LHP01", **more: Any) -> Partition:
        self.remittances.append(
            {
                "remittance_key": key,
                "payer_id": payer,
                "payer_name": f"payer {payer}",
                "payee_npi": "1992000004",
                "payment_date": date(2026, 3, 2),
                "trace_token": "[TRACE_1]",
                "claim_count": 0,
                "service_line_count": 0,
                "adjustment_count": 0,
                "charge": money(0),
                "paid": money(0),
                "provider_adjustment_amount": money(0),
                "balanced": True,
                **more,
            }
        )
        return self

    def claim(self, token: str | None, *lines: dict[str, Any], adjustments: tuple[str, ...] = (), **more: Any) -> str:
        """A remittance claim; charge and paid follow from its lines and adjustments unless given. Returns its key."""
        if not self.remittances:
            self.payment()
        payment = more.pop("payment", self.remittances[-1]["remittance_key"])
        key = f"{payment}-{sum(c['remittance_key'] == payment for c in self.claims)}"
        status = more.pop("status", "1")
        sequence = 0
        claim_level = [triplet(a) for a in adjustments]
        charge = money(more.pop("charge", sum((x["charge"] for x in lines), Decimal(0))))
        everything = claim_level + [a for x in lines for a in x["adjustments"]]
        paid = money(more.pop("paid", charge - sum((a[2] for a in everything), Decimal(0))))
        for number, triplets in enumerate([claim_level, *(x["adjustments"] for x in lines)]):
            for group, reason, amount in triplets:
                sequence += 1
                self.adjustments.append(
                    {
                        "claim_key": key,
                        "line_number": number or None,
                        "sequence": sequence,
                        "group_code": group,
                        "reason_code": reason,
                        "amount": amount,
                    }
                )
        for number, x in enumerate(lines, 1):
            x = dict(x)
            taken = sum((a[2] for a in x.pop("adjustments")), Decimal(0))
            self.service_lines.append(
                {
                    "claim_key": key,
                    "line_number": number,
                    "procedure_qualifier": "HC",
                    "procedure_code": x.pop("code"),
                    "modifiers": x.pop("modifiers", []),
                    "submitted_code": x.pop("submitted", None),
                    "submitted_modifiers": x.pop("submitted_modifiers", []),
                    "line_token": x.pop("token", None),
                    "allowed_amount": money(allowed) if (allowed := x.pop("allowed", None)) is not None else None,
                    "paid_units": Decimal(x.pop("units", 1)),
                    "service_year": x.pop("year", 2026),
                    "remark_codes": x.pop("remarks", []),
                    "paid": money(x.pop("paid", x["charge"] - taken)),
                    "adjustment_total": taken,
                    "balanced": True,
                    **x,
                }
            )
        self.claims.append(
            {
                "claim_key": key,
                "remittance_key": payment,
                "claim_token": token,
                "claim_status": status,
                "charge": charge,
                "paid": paid,
                "is_reversal": status == "22",
                "line_count": len(lines),
                "remark_codes": more.pop("remarks", []),
                "adjustment_total": charge - paid,
                "balanced": True,
                **more,
            }
        )
        return key

    def billed(self, token: str, *lines: tuple[str, str, str] | tuple[str, str, str, list[str]]) -> Partition:
        """A claim of the practice: (line token, code, charge, modifiers)."""
        self.billed_claims.append(
            {"claim_token": token, "platform": "drchrono", "charge": sum((money(x[2]) for x in lines), Decimal(0))}
        )
        for number, (line_token, code, charge, *modifiers) in enumerate(lines, 1):
            self.billed_lines.append(
                {
                    "claim_token": token,
                    "line_token": line_token,
                    "line_number": number,
                    "procedure_code": code,
                    "modifiers": modifiers[0] if modifiers else [],
                    "charge": money(charge),
                }
            )
        return self

    def remittance_tables(self) -> dict[str, pa.Table]:
        rows = {
            "remittances": self.remittances,
            "claims": self.claims,
            "service_lines": self.service_lines,
            "adjustments": self.adjustments,
            "provider_adjustments": [],
        }
        return {name: table(schema, rows[name]) for name, schema in PUBLISHED_REMITTANCE_TABLES.items()}

    def claim_tables(self) -> dict[str, pa.Table]:
        rows = {"claims": self.billed_claims, "claim_lines": self.billed_lines}
        return {name: table(schema, rows[name]) for name, schema in PUBLISHED_CLAIM_TABLES.items()}
