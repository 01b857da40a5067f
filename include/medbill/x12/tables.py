"""What a read gives: the tables of medbill.model.remittances, and their totals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from medbill.model.remittances import ERA_TABLES
from medbill.x12 import arrays
from medbill.x12.values import cents

TABLES = tuple(ERA_TABLES)
_COUNTS = (
    "transactions", "claims", "service_lines", "adjustments", "reversals", "provider_adjustments", "unbalanced_claims",
)  # fmt: skip
_AMOUNTS = ("charge", "paid", "payment", "provider_adjustment_amount")


@dataclass(frozen=True)
class EraTables:
    """Tables of one read, or of one batch of a stream; schemas in medbill.model.remittances.ERA_TABLES."""

    remittances: pa.Table
    claims: pa.Table
    service_lines: pa.Table
    adjustments: pa.Table
    provider_adjustments: pa.Table
    problems: pa.Table

    def table(self, name: str) -> pa.Table:
        """One of TABLES by name."""
        if name not in ERA_TABLES:
            raise KeyError(name)
        table: pa.Table = getattr(self, name)
        return table

    def summary(self) -> dict[str, Any]:
        """Counts and totals as `medbill era read --json` prints them; amounts are Decimal with two decimals."""
        totals = Totals()
        totals.add(self)
        return totals.summary()


@cache
def empty() -> EraTables:
    """Tables without rows."""
    return EraTables(**{name: arrays.table(name, {}, 0) for name in ERA_TABLES})


def concat(batches: Iterable[EraTables]) -> EraTables:
    """Batches of one stream as one set of tables."""
    parts = [empty(), *batches]
    return EraTables(
        **{name: pa.concat_tables([part.table(name) for part in parts]).combine_chunks() for name in TABLES}
    )


@dataclass
class Totals:
    """Running totals over batches: integers only, so the order of batches does not matter."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTS, 0))
    amounts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_AMOUNTS, 0))
    by_reason: dict[tuple[str, str], int] = field(default_factory=dict)
    problems: list[dict[str, str]] = field(default_factory=list)

    def add(self, batch: EraTables) -> None:
        c, claims = self.counts, batch.claims
        c["transactions"] += batch.remittances.num_rows
        c["claims"] += claims.num_rows
        c["service_lines"] += batch.service_lines.num_rows
        c["adjustments"] += batch.adjustments.num_rows
        c["provider_adjustments"] += batch.provider_adjustments.num_rows
        c["reversals"] += _true(claims["is_reversal"])
        c["unbalanced_claims"] += claims.num_rows - _true(claims["balanced"])
        for name, column in (
            ("charge", claims["charge"]),
            ("paid", claims["paid"]),
            ("payment", batch.remittances["payment_amount"]),
            ("provider_adjustment_amount", batch.provider_adjustments["amount"]),
        ):
            self.amounts[name] += int(cents(column)[0].sum())
        self._reasons(batch.adjustments)
        self.problems += [
            {"code": p["code"], "severity": p["severity"], "where": p["place"], "message": p["message"]}
            for p in batch.problems.to_pylist()
        ]

    def _reasons(self, adjustments: pa.Table) -> None:
        for chunk in adjustments.select(["group_code", "reason_code", "amount"]).to_batches():
            group, reason, amount = chunk.columns
            values = cents(amount)[0]
            groups, reasons = arrays.words(group), arrays.words(reason)
            if groups is None or reasons is None:
                for g, r, value in zip(group.to_pylist(), reason.to_pylist(), values.tolist(), strict=True):
                    self._sum(g or "", r or "", value)
                continue
            order = np.lexsort((groups, reasons))
            groups, reasons = groups[order], reasons[order]
            new = np.ones(len(order), np.bool_)
            new[1:] = (groups[1:] != groups[:-1]) | (reasons[1:] != reasons[:-1])
            starts = np.flatnonzero(new)
            sums = np.add.reduceat(values[order], starts).tolist()
            for g, r, value in zip(groups[starts].tolist(), reasons[starts].tolist(), sums, strict=True):
                self._sum(_word(g), _word(r), value)

    def _sum(self, group: str, reason: str, amount: int) -> None:
        self.by_reason[group, reason] = self.by_reason.get((group, reason), 0) + amount

    def summary(self) -> dict[str, Any]:
        by_group: dict[str, int] = {}
        for (group, _), amount in self.by_reason.items():
            by_group[group] = by_group.get(group, 0) + amount
        c = self.counts
        a = {name: money(amount) for name, amount in self.amounts.items()}
        return {
            "transactions": c["transactions"],
            "claims": c["claims"],
            "service_lines": c["service_lines"],
            "adjustments": c["adjustments"],
            "charge": a["charge"],
            "paid": a["paid"],
            "patient_responsibility": money(by_group.get("PR", 0)),
            "reversals": c["reversals"],
            "provider_adjustments": c["provider_adjustments"],
            "provider_adjustment_amount": a["provider_adjustment_amount"],
            "payment": a["payment"],
            "unbalanced_claims": c["unbalanced_claims"],
            "by_group": {group: money(by_group[group]) for group in sorted(by_group)},
            "by_group_and_reason": {f"{g}-{r}": money(self.by_reason[g, r]) for g, r in sorted(self.by_reason)},
            "problems": self.problems,
        }


def money(amount: int) -> Decimal:
    """Cents as dollars with two decimals."""
    return Decimal(amount).scaleb(-2)


def _true(column: pa.ChunkedArray) -> int:
    return sum(int(chunk.true_count) for chunk in column.chunks)


def _word(number: int) -> str:
    return number.to_bytes(8, "little").rstrip(b"\0").decode("utf-8", "replace")
