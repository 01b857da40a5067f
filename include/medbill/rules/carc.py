"""What a claim adjustment reason code (CARC) means for the practice, in own words: category, stage, usual action.

include/policies/carc.csv maps codes to categories; include/policies/remark_codes.yml says where a remark code (RARC)
decides instead. The official code texts belong to X12 and are not part of it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import Field

from medbill.errors import PolicyError
from medbill.rules import sql
from medbill.rules.policy_file import Policy, load_yaml

CONTRACTUAL = "contractual"
PATIENT_RESPONSIBILITY = "patient_responsibility"
PRIOR_PAYER = "prior_payer_amount"
PRICING_REDUCTION = "pricing_reduction"
UNCLASSIFIED = "unclassified"

#: Adjustments of these categories refuse nothing: an agreed price, the patient's share, what an earlier payer did.
NOT_A_DENIAL = frozenset({CONTRACTUAL, PATIENT_RESPONSIBILITY, PRIOR_PAYER})
DENIALS = frozenset(
    {
        "appeal_process",
        "authorization_referral",
        "benefit_limit_frequency",
        "bundling_ncci",
        "clinical_documentation",
        "coding",
        "coordination_of_benefits",
        "duplicate",
        "eligibility_coverage",
        "medical_necessity",
        "missing_documentation",
        "missing_information_data",
        "non_covered",
        "provider_enrollment",
        "registration_demographic",
        "timely_filing",
    }
)
#: not_a_denial never denies; review denies by effect, only where nothing else is left of the line; the others always do.
STAGES = frozenset({"front_end", "mid_cycle", "back_end", "clinical", "coverage", "review", "not_a_denial"})
#: What an action files, which sets its deadline; actions with None file nothing.
ACTIONS: dict[str, Literal["appeal", "corrected_claim"] | None] = {
    "appeal_with_records": "appeal",
    "attach_auth_or_appeal": "appeal",
    "benefit_review_or_bill_patient": "appeal",
    "bill_other_payer": "corrected_claim",
    "confirm_original_then_close": None,
    "correct_member_or_rebill": "corrected_claim",
    "corrected_claim": "corrected_claim",
    "fix_enrollment": "corrected_claim",
    "next_level_or_close": "appeal",
    "post_adjustment": None,
    "proof_of_timely_filing": "appeal",
    "reprice_or_route": "appeal",
    "review_modifier_or_writeoff": "appeal",
    "review_reason_code": "appeal",
    "review_units_or_appeal": "appeal",
    "send_records": "appeal",
    "supply_documentation": "appeal",
    "supply_information": "corrected_claim",
    "transfer_to_patient": None,
    "verify_coverage_or_bill_patient": "corrected_claim",
}

_COLUMNS = ["carc", "category", "stage", "default_action"]
_CODE = re.compile(r"[A-Z]{0,2}[0-9]{1,3}")


@dataclass(frozen=True)
class Reason:
    """How the practice reads one reason code."""

    category: str
    stage: str
    action: str


_UNKNOWN = Reason(UNCLASSIFIED, "review", "review_reason_code")


@dataclass(frozen=True)
class Refinement:
    """What a remark code makes of a reason code that says too little."""

    codes: tuple[str, ...]
    reason: Reason


@dataclass(frozen=True)
class CarcTable:
    """reasons: by CARC. refinements: in the order they are tried. refinable: the CARCs they apply to.

    corrected_claim_only: remark codes with which only a corrected claim is possible, never an appeal.
    """

    reasons: Mapping[str, Reason]
    refinements: tuple[Refinement, ...] = ()
    refinable: frozenset[str] = frozenset()
    corrected_claim_only: frozenset[str] = field(default_factory=frozenset)

    def of(self, code: str) -> Reason:
        """The reading of a code; an unknown one is unclassified and for a person to read."""
        return self.reasons.get(code.strip().upper(), _UNKNOWN)

    def category(self, code: str) -> str:
        return self.of(code).category

    def stage(self, code: str) -> str:
        return self.of(code).stage

    def default_action(self, code: str) -> str:
        return self.of(code).action

    @cached_property
    def contractual(self) -> frozenset[str]:
        """Codes whose amounts the practice agreed to give up."""
        return frozenset(code for code, reason in self.reasons.items() if reason.category == CONTRACTUAL)

    def table(self) -> pa.Table:
        """carc, category, stage, action of every known code, for joins."""
        return sql.rows(
            {name: pa.string() for name in ("carc", "category", "stage", "action")},
            [(code, r.category, r.stage, r.action) for code, r in self.reasons.items()],
        )

    def refinement_table(self) -> pa.Table:
        """remark_code, position (1 is tried first), category, stage, action."""
        kinds = {"remark_code": pa.string(), "position": pa.int32()}
        return sql.rows(
            kinds | {name: pa.string() for name in ("category", "stage", "action")},
            [
                (code, i, r.reason.category, r.reason.stage, r.reason.action)
                for i, r in enumerate(self.refinements, 1)
                for code in r.codes
            ],
        )


class _Row(Policy):
    codes: list[str] = Field(min_length=1)
    category: str
    stage: str
    action: str


class _RemarkCodes(Policy):
    version: str
    refinable: list[str]
    corrected_claim_only: list[str]
    refinements: list[_Row]


def load(policies: Path) -> CarcTable:
    """The table of carc.csv with the refinements of remark_codes.yml, from the folder of policies.

    Raises PolicyError where a file is missing or malformed, a code is listed twice, or a category, stage or action is
    unknown.
    """
    reasons = _reasons(policies / "carc.csv")
    remark_codes = load_yaml(policies / "remark_codes.yml", _RemarkCodes)
    seen: set[str] = set()
    for row in remark_codes.refinements:
        _check("remark_codes.yml", ",".join(row.codes), row.category, row.stage, row.action)
        if seen & set(row.codes) or len(set(row.codes)) != len(row.codes):
            raise PolicyError("remark_codes.yml: a remark code is refined twice; keep one row for it")
        seen |= set(row.codes)
    unknown = sorted(set(remark_codes.refinable) - set(reasons))
    if unknown:
        raise PolicyError(f"remark_codes.yml: refinable names {unknown[0]}, which carc.csv does not have")
    return CarcTable(
        reasons=reasons,
        refinements=tuple(
            Refinement(tuple(r.codes), Reason(r.category, r.stage, r.action)) for r in remark_codes.refinements
        ),
        refinable=frozenset(remark_codes.refinable),
        corrected_claim_only=frozenset(remark_codes.corrected_claim_only),
    )


def _reasons(path: Path) -> dict[str, Reason]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PolicyError("carc.csv is missing or malformed; see include/policies/carc.csv") from error
    if not lines or lines[0] != _COLUMNS:
        raise PolicyError(f"carc.csv: the first line must be {','.join(_COLUMNS)}")
    reasons: dict[str, Reason] = {}
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(_COLUMNS):
            raise PolicyError(f"carc.csv line {number}: {len(_COLUMNS)} columns expected")
        code, category, stage, action = line
        if not _CODE.fullmatch(code):
            raise PolicyError(f"carc.csv line {number}: not the form of a reason code")
        if code in reasons:
            raise PolicyError(f"carc.csv line {number}: reason code {code} is listed twice")
        _check(f"carc.csv line {number}", code, category, stage, action)
        reasons[code] = Reason(category, stage, action)
    if not reasons:
        raise PolicyError("carc.csv lists no reason code")
    return reasons


def _check(where: str, code: str, category: str, stage: str, action: str) -> None:
    if category not in DENIALS | NOT_A_DENIAL | {PRICING_REDUCTION}:
        raise PolicyError(f"{where}: category of {code} is unknown")
    if stage not in STAGES:
        raise PolicyError(f"{where}: stage of {code} is unknown")
    if action not in ACTIONS:
        raise PolicyError(f"{where}: action of {code} is unknown")
    if (stage == "not_a_denial") != (category in NOT_A_DENIAL) or (stage == "review") != (
        category == PRICING_REDUCTION
    ):
        raise PolicyError(f"{where}: category and stage of {code} contradict each other on whether it is a denial")
