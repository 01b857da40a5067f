"""Rows for the report tests: single denials and remittance claims by hand, and a whole made-up practice from a seed."""

from __future__ import annotations

import random
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from medbill.model.published import PUBLISHED_REMITTANCE_CLAIMS, PUBLISHED_SERVICE_LINES
from medbill.model.results import DENIALS
from medbill.settings import Practice

PRACTICE = Practice(
    "lakeside", "Lakeside Family Medicine", frozenset({"1992000004"}), frozenset({"990001234"}), "drchrono"
)
CLAIMS = PUBLISHED_REMITTANCE_CLAIMS
for _name, _kind in (("payment_date", pa.date32()), ("payer_id", pa.string()), ("payer_name", pa.string())):
    CLAIMS = CLAIMS.append(pa.field(_name, _kind))


def money(value: Any) -> Decimal:
    return Decimal(value).quantize(Decimal("0.01"))


def claim(key: str, paid_on: date | None, charge: Any = "100", paid: Any = "0", **more: Any) -> dict[str, Any]:
    """One remittance claim; its token is T<part of the key before the dot>, so that a.1 and a.2 answer the same claim."""
    row: dict[str, Any] = dict.fromkeys(CLAIMS.names)
    row |= {
        "claim_key": key,
        "remittance_key": f"r{key}",
        "claim_token": f"[CLAIM_{key.split('.')[0]}]",
        "claim_status": "1",
        "charge": money(charge),
        "paid": money(paid),
        "remark_codes": [],
        "is_reversal": False,
        "line_count": 1,
        "adjustment_total": money(0),
        "balanced": True,
        "payment_date": paid_on,
        "payer_id": "P1",
        "payer_name": "Payer One",
    }
    return row | more


def denial(key: str, paid_on: date | None, denied: Any = "100", recoverable: Any = None, **more: Any) -> dict[str, Any]:
    """One denial on line 1 of the remittance claim of that key."""
    row: dict[str, Any] = dict.fromkeys(DENIALS.names)
    line = more.get("line_number", 1)
    row |= {
        "denial_key": f"{key}/{line}/{more.pop('sequence', 1)}",
        "claim_key": key,
        "remittance_key": f"r{key}",
        "claim_token": f"[CLAIM_{key.split('.')[0]}]",
        "line_number": 1,
        "payer_id": "P1",
        "payer_name": "Payer One",
        "rendering_npi": "1992000004",
        "procedure_code": "T1001",
        "modifiers": [],
        "payment_date": paid_on,
        "group_code": "CO",
        "reason_code": "197",
        "remark_codes": [],
        "category": "authorization_referral",
        "stage": "front_end",
        "action": "attach_auth_or_appeal",
        "appealable": True,
        "denied": money(denied),
        "recoverable": money(denied if recoverable is None else recoverable),
        "deadline": None,
        "deadline_basis": "test",
        "priority": 1,
    }
    return row | more


def line(key: str, token: str | None, paid: Any, code: str = "T1001", number: int = 1) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(PUBLISHED_SERVICE_LINES.names)
    row |= {
        "claim_key": key,
        "line_number": number,
        "procedure_code": code,
        "modifiers": [],
        "submitted_modifiers": [],
        "remark_codes": [],
        "paid": money(paid),
        "line_token": token,
        "adjustment_total": money(0),
        "balanced": True,
    }
    return row


def denials_table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=DENIALS)


def claims_table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=CLAIMS)


def lines_table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=PUBLISHED_SERVICE_LINES)


_PAYERS = [
    ("LHP01", "Lakeshore Health Plan", 34),
    ("BRM02", "Birchmont Mutual", 24),
    ("MCR00", "Medicare", 24),
    ("MCD00", "Medicaid", 10),
    ("UNW03", "Unwin Casualty & Surety Company of the Upper Lakes", 5),
    (None, "Harbor Trust", 3),
]
#: group, reason, remarks, category, action, appealable, chance to win (below a quarter: not recoverable), days to the deadline, weight
_REASONS = [
    ("CO", "197", [], "authorization_referral", "attach_auth_or_appeal", True, "0.80", 60, 20),
    ("CO", "16", ["M76", "MA130"], "missing_information_data", "corrected_claim", False, "0.95", 180, 14),
    ("CO", "16", ["N290"], "provider_enrollment", "fix_enrollment", True, "0.90", 120, 4),
    ("CO", "50", ["N115"], "medical_necessity", "appeal_with_records", True, "0.55", 60, 13),
    ("CO", "97", ["M15"], "bundling_ncci", "review_modifier_or_writeoff", True, "0.25", 120, 12),
    ("CO", "22", ["MA04"], "coordination_of_benefits", "bill_other_payer", True, "0.85", 180, 9),
    ("CO", "29", [], "timely_filing", "proof_of_timely_filing", True, "0.20", 60, 6),
    ("CO", "27", [], "eligibility_coverage", "correct_member_or_rebill", True, "0.50", 45, 10),
    ("OA", "18", ["N522"], "duplicate", "confirm_original_then_close", False, "0", None, 9),
    ("PR", "204", ["N130"], "non_covered", "benefit_review_or_bill_patient", True, "0.10", 90, 6),
    ("CO", "252", ["N706"], "missing_documentation", "supply_documentation", True, "0.90", 30, 8),
    ("CO", "151", [], "medical_necessity", "appeal_with_records", True, "0.45", 120, 4),
    ("CO", "4", ["N519"], "coding", "corrected_claim", True, "0.90", 180, 7),
    ("CO", "11", [], "coding", "corrected_claim", True, "0.85", 180, 4),
    ("CO", "119", ["N362"], "benefit_limit_frequency", "review_units_or_appeal", True, "0.40", 90, 3),
]
_CODES = [("T1001", 150), ("T1002", 215), ("T1003", 190), ("G0439", 185), ("J1885", 12), ("A4253", 32), ("20610", 140)]
_NPIS = ["1992000103", "1992000202", "1992000301", "1992000400"]


def practice_days(seed: int, first: date, days: int, a_day: int = 14) -> tuple[pa.Table, pa.Table, pa.Table]:
    """(denials, claims, service lines) of a practice that gets about a_day claims answered on each weekday.

    One claim in seven is denied in part or whole; of those many are paid, some denied again, a few reversed later.
    """
    draw = random.Random(seed)
    last = first + timedelta(days=days - 1)
    denials: list[dict[str, Any]] = []
    claims: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []

    def token(kind: str) -> str:
        return f"[{kind}_{''.join(draw.choices('ABCDEFGHJKMNPQRSTVWXYZ23456789', k=16))}]"

    for number in range(days):
        day = first + timedelta(days=number)
        for _ in range(0 if day.weekday() >= 5 else draw.randint(a_day - 4, a_day + 4)):
            payer_id, payer_name, _ = draw.choices(_PAYERS, [p[2] for p in _PAYERS])[0]
            npi = draw.choices(_NPIS, [5, 4, 3, 1])[0]
            own = {"claim_token": token("CLAIM"), "payer_id": payer_id, "payer_name": payer_name, "rendering_npi": npi}
            billed = [(token("LINE"), *draw.choice(_CODES)) for _ in range(draw.randint(1, 4))]
            charge = sum(price for *_, price in billed)
            key = f"{len(claims):016x}-0"
            reason = draw.choices(_REASONS, [r[-1] for r in _REASONS])[0] if draw.random() < 0.15 else None
            on = [] if reason is None else billed if draw.random() < 0.4 else [draw.choice(billed)]
            lost = sum(price for *_, price in on)
            claims.append(claim(key, day, charge, (charge - lost) * 6 // 10, **own, line_count=len(billed)))
            for i, (line_token, code, price) in enumerate(billed, 1):
                hit = any(line_token == t for t, *_ in on)
                lines.append(line(key, line_token, 0 if hit else price * 6 // 10, code, i))
                if hit and reason:
                    group, carc, remarks, category, action, appealable, part, term, _ = reason
                    denials.append(
                        denial(
                            key,
                            day,
                            price,
                            money(Decimal(price) * Decimal("0.62") if Decimal(part) >= Decimal("0.25") else 0),
                            **own,
                            line_number=i,
                            line_token=line_token,
                            procedure_code=code,
                            group_code=group,
                            reason_code=carc,
                            remark_codes=remarks,
                            category=category,
                            action=action,
                            appealable=appealable,
                            deadline=day + timedelta(days=term) if term else None,
                            priority=draw.randint(1, 9),
                        )
                    )
            if reason is None or draw.random() > 0.36 * (float(reason[6]) + 0.2):
                continue
            again = day + timedelta(days=draw.randint(12, 40))
            if again > last:
                continue
            key = f"{len(claims):016x}-0"
            claims.append(claim(key, again, lost, lost * 6 // 10, **own, line_count=len(on)))
            lines += [line(key, t, price * 6 // 10, code, i) for i, (t, code, price) in enumerate(on, 1)]
    return denials_table(denials), claims_table(claims), lines_table(lines)
