"""By when an appeal or a corrected claim must be filed, from include/policies/appeal_deadlines.yml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Literal

from pydantic import Field

from medbill.errors import PolicyError
from medbill.rules.policy_file import Policy, load_yaml

Kind = Literal["appeal", "corrected_claim"]


@dataclass(frozen=True)
class Limit:
    """days: from the payment date. basis: which policy row gave it, e.g. "payer LHP01 appeal 180 days"."""

    days: int
    basis: str


class _Days(Policy):
    appeal: int = Field(gt=0, le=3650)
    corrected_claim: int = Field(gt=0, le=3650)


class _PayerType(_Days):
    filing_indicators: list[str] = Field(min_length=1)


class Urgency(Policy):
    """weight: what a denial's dollars count for in the ranking when at most within_days are left."""

    within_days: int = Field(ge=0)
    weight: Decimal = Field(ge=1, le=1000, decimal_places=2)


class _File(Policy):
    version: str
    default: _Days
    payer_types: dict[str, _PayerType]
    payers: dict[str, _Days]
    urgency: list[Urgency]


@dataclass(frozen=True)
class Deadlines:
    """Filing limits by payer id, else by CLP06 claim filing indicator, else the default. urgency: nearest first."""

    payers: Mapping[str, _Days]
    types: Mapping[str, tuple[str, _Days]]  # by filing indicator: name of the type
    default: _Days
    urgency: tuple[Urgency, ...]

    def limit(self, payer_id: str | None, filing_indicator: str | None, kind: Kind) -> Limit:
        """The limit for one payer and kind of filing."""
        if payer_id is not None and payer_id in self.payers:
            days, source = self.payers[payer_id], f"payer {payer_id}"
        elif filing_indicator is not None and filing_indicator in self.types:
            name, days = self.types[filing_indicator]
            source = f"payer type {name}"
        else:
            days, source = self.default, "default"
        count = days.appeal if kind == "appeal" else days.corrected_claim
        return Limit(count, f"{source} {kind} {count} days")


def load(policies: Path) -> Deadlines:
    """The limits of appeal_deadlines.yml, from the folder of policies.

    Raises PolicyError where the file is missing or malformed, an indicator belongs to two payer types, or a nearer
    deadline weighs less than a farther one.
    """
    file = load_yaml(policies / "appeal_deadlines.yml", _File)
    types: dict[str, tuple[str, _Days]] = {}
    for name, payer_type in file.payer_types.items():
        for indicator in payer_type.filing_indicators:
            if indicator in types:
                raise PolicyError(f"appeal_deadlines.yml: filing indicator {indicator} belongs to two payer types")
            types[indicator] = (name, payer_type)
    urgency = tuple(sorted(file.urgency, key=lambda u: u.within_days))
    if any(near.weight < far.weight for near, far in pairwise(urgency)):
        raise PolicyError("appeal_deadlines.yml: urgency: a nearer deadline weighs less than a farther one")
    return Deadlines(file.payers, types, file.default, urgency)
