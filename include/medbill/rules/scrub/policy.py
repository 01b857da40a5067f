"""include/policies/scrub.yml and include/policies/payer_rules/*.yml, checked, and as tables the rules join with."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date
from itertools import combinations
from pathlib import Path
from typing import Annotated, Literal

import pyarrow as pa
from pydantic import AfterValidator, Field, model_validator

from medbill.errors import PolicyError
from medbill.model.types import STRINGS
from medbill.rules import sql
from medbill.rules.contracts import Effective
from medbill.rules.policy_file import Policy, load_yaml

Severity = Literal["error", "warning", "info"]
_RANGE = re.compile(r"([0-9A-Z]{3,7})(?:-([0-9A-Z]{3,7}))?")


def _range(text: str) -> str:
    first, last = bounds(text)
    if first > last:
        raise ValueError("a range must be one code, or two with a hyphen, the first not after the last")
    return text


def bounds(text: str) -> tuple[str, str]:
    """("A00", "A09") of "A00-A09", ("A00", "A00") of "A00"."""
    found = _RANGE.fullmatch(text)
    if found is None:
        raise ValueError("a range must be one code, or two with a hyphen")
    return found[1], found[2] or found[1]


CodeRange = Annotated[str, AfterValidator(_range)]
Modifier = Annotated[str, Field(pattern="^[0-9A-Z]{2}$")]


class _Modifiers(Policy):
    distinct_service: list[Modifier]
    evaluation_and_management: list[Modifier]
    other_bypass: list[Modifier]
    anatomic: list[Modifier]
    repeat: list[Modifier]
    demographic_exception: list[Modifier]
    level_one: list[Modifier]
    exclusive: list[tuple[Modifier, Modifier]]


class Demographic(Policy):
    """What a diagnosis or a procedure says of the patient: an age from ages[0] to ages[1], a sex, or both."""

    id: str
    diagnoses: list[CodeRange] = Field(default_factory=list)
    codes: list[CodeRange] = Field(default_factory=list)
    ages: tuple[int, int] | None = None
    sex: Literal["M", "F"] | None = None
    severity: Severity

    @model_validator(mode="after")
    def _says_something(self) -> Demographic:
        if (self.ages is None) == (self.sex is None):
            raise ValueError("give ages or sex, one of them")
        if not (self.diagnoses or self.codes):
            raise ValueError("give diagnoses or codes")
        return self


class _Most(Policy):
    professional: int
    institutional: int
    dme: int


class ScrubPolicy(Policy):
    """What the scrubber takes for granted apart from official tables."""

    version: str
    missing_tables: dict[str, Severity]
    modifiers: _Modifiers
    evaluation_and_management_codes: list[CodeRange]
    units_review_above: int = Field(gt=0)
    diagnoses_most: _Most
    timely_filing_days: int = Field(gt=0)
    external_cause: list[CodeRange]
    demographics: list[Demographic]

    def tables(self) -> dict[str, pa.Table]:
        """Tables named policy_*, each a few rows."""
        text, number = pa.string(), pa.int32()
        roles = [
            (modifier, role)
            for role, modifiers in self.modifiers.model_dump(exclude={"exclusive"}).items()
            for modifier in modifiers
        ]
        most = self.diagnoses_most.model_dump()
        return {
            "policy_modifier": sql.rows({"modifier": text, "role": text}, roles),
            "policy_exclusive": sql.rows({"one": text, "other": text}, self.modifiers.exclusive),
            "policy_em": sql.rows(
                {"first": text, "last": text}, [bounds(r) for r in self.evaluation_and_management_codes]
            ),
            "policy_external": sql.rows({"first": text, "last": text}, [bounds(r) for r in self.external_cause]),
            "policy_demographic": sql.rows(
                {
                    "rule_id": text,
                    "of": text,
                    "first": text,
                    "last": text,
                    "age_from": number,
                    "age_to": number,
                    "sex": text,
                    "severity": text,
                },
                [
                    (d.id, of, *bounds(r), *(d.ages or (None, None)), d.sex, d.severity)
                    for d in self.demographics
                    for of, ranges in (("diagnosis", d.diagnoses), ("code", d.codes))
                    for r in ranges
                ],
            ),
            "policy_missing": sql.rows({"needs": text, "severity": text}, list(self.missing_tables.items())),
            "policy_most": sql.rows({"setting": text, "diagnoses": number}, list(most.items())),
        }


class PayerRule(Policy):
    """One rule. codes empty: every code. place_of_service empty: everywhere. Which other fields count depends on kind."""

    id: str
    kind: Literal["prior_authorization", "referral", "required_modifier", "preferred_modifier", "frequency"]
    codes: list[CodeRange] = Field(default_factory=list)
    place_of_service: list[str] = Field(default_factory=list)
    any_of: list[Modifier] = Field(default_factory=list)  # required_modifier: one of these must be there
    modifiers: list[Modifier] = Field(default_factory=list)  # preferred_modifier: instead of these ...
    use: list[Modifier] = Field(default_factory=list)  # ... the payer wants one of these
    most_units: int | None = Field(default=None, gt=0)  # frequency: of all its codes together, per patient
    days: int | None = Field(default=None, gt=0)
    severity: Severity = "error"

    @model_validator(mode="after")
    def _complete(self) -> PayerRule:
        needs = {
            "required_modifier": ["any_of"],
            "preferred_modifier": ["modifiers", "use"],
            "frequency": ["codes", "most_units", "days"],
            "prior_authorization": ["codes"],
            "referral": [],
        }
        if missing := [name for name in needs[self.kind] if not getattr(self, name)]:
            raise ValueError(f"a {self.kind} rule needs {missing[0]}")
        return self


class PayerRules(Policy):
    """One version of the rules of one payer, in force on service dates from effective.from to effective.to."""

    payer_ids: list[str] = Field(min_length=1)
    name: str
    version: str
    effective: Effective
    timely_filing_days: int | None = Field(default=None, gt=0)
    rules: list[PayerRule] = Field(default_factory=list)


def load_policy(policies: Path) -> ScrubPolicy:
    """scrub.yml. Raises PolicyError where it is missing or does not fit."""
    return load_yaml(policies / "scrub.yml", ScrubPolicy)


def load_payer_rules(policies: Path) -> list[PayerRules]:
    """payer_rules/*.yml. Raises PolicyError where a file does not fit, a rule id comes twice in a file, or two versions of
    one payer's rules are in force on one day."""
    found = [load_yaml(path, PayerRules) for path in sorted((policies / "payer_rules").glob("*.yml"))]
    for one in found:
        ids = [r.id for r in one.rules]
        if len(ids) != len(set(ids)):
            raise PolicyError(f"payer_rules: {one.name} {one.version} gives a rule id twice")
    for a, b in combinations(found, 2):
        last = date.max
        apart = a.effective.start > (b.effective.end or last) or b.effective.start > (a.effective.end or last)
        if set(a.payer_ids) & set(b.payer_ids) and not apart:
            raise PolicyError(f"payer_rules: two versions of one payer overlap, {a.name} {a.version} and {b.version}")
    return found


def payer_tables(payers: Iterable[PayerRules]) -> dict[str, pa.Table]:
    """payer_limit and payer_rule, one row per payer id (and code range)."""
    text, day, number = pa.string(), pa.date32(), pa.int32()
    head = {"payer_id": text, "version": text, "starts": day, "ends": day}
    payers = list(payers)

    def common(p: PayerRules, payer: str) -> tuple[object, ...]:
        return payer.upper(), p.version, p.effective.start, p.effective.end

    return {
        "payer_limit": sql.rows(
            {**head, "days": number},
            [(*common(p, i), p.timely_filing_days) for p in payers if p.timely_filing_days for i in p.payer_ids],
        ),
        "payer_rule": sql.rows(
            {
                **head,
                "rule_id": text,
                "rule_kind": text,
                "first": text,
                "last": text,
                "places": STRINGS,
                "any_of": STRINGS,
                "instead_of": STRINGS,
                "use": STRINGS,
                "most_units": number,
                "days": number,
                "severity": text,
            },
            [
                (
                    *common(p, i),
                    r.id,
                    r.kind,
                    *(bounds(code) if code else ("", "~")),
                    r.place_of_service,
                    r.any_of,
                    r.modifiers,
                    r.use,
                    r.most_units,
                    r.days,
                    r.severity,
                )
                for p in payers
                for r in p.rules
                for i in p.payer_ids
                for code in (r.codes or [""])
            ],
        ),
    }
