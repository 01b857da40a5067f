"""How long what is kept: include/policies/retention.yml."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from medbill.errors import PolicyError

#: Rule -> the fewest days it may name. Superseded objects rest two days at least: a run may be about to point to one again.
RULES = {
    "landing": 1,
    "landing_superseded": 2,
    "quarantine": 30,
    "published_superseded": 2,
    "results_superseded": 2,
    "replay": 1,
    "reports": 1,
    "token_grants": 0,
    "task_logs": 1,
    "temp": 1,
}
#: 45 CFR 164.316(b)(2)(i).
YEARS = {"ledger": 6, "checkpoints": 6}
_MOST = 36_500


@dataclass(frozen=True)
class Hold:
    """A legal hold. None: all practices' objects, or no bound; days are included."""

    practice: str
    object: str | None
    start: date | None
    end: date | None

    def covers(self, practice: str, object_name: str | None, day: date | None) -> bool:
        """Whether something is on hold; what has no object or no day is on hold with all of its practice."""
        return (
            self.practice == practice
            and (self.object is None or object_name is None or self.object == object_name)
            and (self.start is None or day is None or day >= self.start)
            and (self.end is None or day is None or day <= self.end)
        )


@dataclass(frozen=True)
class Retention:
    """days: per rule of RULES. hash: SHA-256 of the policy file, which the ledger keeps with everything purged."""

    version: str
    hash: str
    days: dict[str, int]
    years: dict[str, int]
    holds: tuple[Hold, ...]

    def held(self, practice: str, object_name: str | None = None, day: date | None = None) -> bool:
        return any(hold.covers(practice, object_name, day) for hold in self.holds)


def load(path: Path) -> Retention:
    """Raises PolicyError where the file is missing, malformed, has a rule that is none, or keeps less than it must."""
    try:
        data = path.read_bytes()
        read = yaml.safe_load(data)
        names = set(read) - {"version", "holds"}
        if names != RULES.keys() | YEARS.keys():
            raise PolicyError(f"retention.yml needs exactly the rules {', '.join([*RULES, *YEARS])}, version and holds")
        days = {name: _whole(read[name]) for name in RULES}
        years = {name: _whole(read[name]) for name in YEARS}
        holds = tuple(_hold(entry) for entry in read["holds"] or [])
        version = str(read["version"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise PolicyError("retention.yml is missing or malformed; see include/policies/retention.yml") from error
    short = [name for name, least in RULES.items() if not least <= days[name] <= _MOST]
    short += [name for name, least in YEARS.items() if years[name] < least]
    if short:
        least = ", ".join(f"{name} {(RULES | YEARS)[name]}" for name in short)
        raise PolicyError(f"retention.yml keeps less than it must; the least is {least}")
    return Retention(version, hashlib.sha256(data).hexdigest(), days, years, holds)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value


def _hold(entry: dict[str, Any]) -> Hold:
    if set(entry) - {"practice", "object", "from", "to", "why"} or not entry.get("why"):
        raise ValueError
    start, end = entry.get("from"), entry.get("to")
    if not all(bound is None or type(bound) is date for bound in (start, end)):
        raise TypeError
    name = entry.get("object")
    return Hold(str(entry["practice"]), None if name is None else str(name), start, end)
