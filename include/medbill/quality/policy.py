"""The gates' settings, include/policies/quality.yml."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path

import yaml

from medbill.errors import PolicyError
from medbill.settings import Settings


@dataclass(frozen=True)
class GatePolicy:
    """earliest, days_ahead: bounds of a plausible date. stop_share, stop_at_least: when a whole file is refused."""

    earliest: date
    days_ahead: int
    stop_share: Decimal
    stop_at_least: int


def load(path: Path | None = None) -> GatePolicy:
    """The policy of a file, by default quality.yml of the deployment. Raises PolicyError where it is missing or malformed."""
    path = path or Settings.from_env().policies / "quality.yml"
    try:
        read = yaml.safe_load(path.read_text())
        policy = GatePolicy(
            earliest=date.fromisoformat(str(read["dates"]["earliest"])),
            days_ahead=int(read["dates"]["days_ahead"]),
            stop_share=Decimal(str(read["stop_the_line"]["share"])),
            stop_at_least=int(read["stop_the_line"]["at_least"]),
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise PolicyError("quality.yml is missing or malformed; see include/policies/quality.yml") from error
    if not 0 < policy.stop_share <= 1 or policy.stop_at_least < 1 or policy.days_ahead < 0:
        raise PolicyError("quality.yml: share must be in (0, 1], at_least at least 1, days_ahead not negative")
    return policy
