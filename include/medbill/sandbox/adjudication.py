"""How the made-up payers decide on each visit: first payment, denial, later correction, recovery. All amounts in cents.

A decision depends on the seed and the visit alone, so the remittances of a day never change as the window moves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta

from medbill.sandbox.draw import Draw
from medbill.sandbox.practice import PAYERS, PLANTED_LAG, RATES, Line, Payer, Visit

#: Lines a denial falls on; a scenario that is not here denies the whole claim.
DENIED_CODES = {
    "CO-197/": "20610",
    "CO-50/N115": "80053",
    "CO-50/N386": "93000",
    "CO-97/M15": "36415",
    "CO-97/N19": "36415",
    "CO-11/": "93000",
    "CO-4/N519": "20610",
    "PR-204/N130": "G0439",
}
#: Denied at claim level, without any service line in the remittance.
CLAIM_LEVEL = frozenset({"OA-18/N522", "CO-109/N418"})
#: Denials that are paid on a later remittance, after an appeal, a corrected claim or missing information.
OVERTURNED = frozenset({"CO-16/M76+MA130", "CO-197/", "CO-50/N386", "CO-11/", "CO-22/MA04"})
#: Own grouping of the reasons this module uses.
CATEGORIES = {
    "4": "coding",
    "11": "coding",
    "16": "missing_information_data",
    "18": "duplicate",
    "22": "coordination_of_benefits",
    "27": "eligibility_coverage",
    "29": "timely_filing",
    "50": "medical_necessity",
    "97": "bundling_ncci",
    "109": "coordination_of_benefits",
    "197": "authorization_referral",
    "204": "non_covered",
    "252": "missing_documentation",
}
_VISIT_CODES = frozenset({"99213", "99214", "99203"})
_NO_COST_SHARE = frozenset({"G0439", "36415", "80053"})


@dataclass(frozen=True)
class Adjustment:
    """One CAS triplet; amount in cents, positive reduces the payment."""

    group: str
    reason: str
    amount: int


@dataclass(frozen=True)
class PaidLine:
    """One service line as the payer answers it. code differs from line.code where the payer changed it."""

    line: Line
    code: str
    charge: int
    paid: int
    allowed: int | None
    adjustments: tuple[Adjustment, ...]
    remarks: tuple[str, ...] = ()
    expected: int | None = None  # contracted allowed, where allowed is planted below it

    def reversed(self) -> PaidLine:
        return replace(
            self,
            charge=-self.charge,
            paid=-self.paid,
            allowed=None,
            expected=None,
            adjustments=tuple(replace(a, amount=-a.amount) for a in self.adjustments),
        )


@dataclass(frozen=True)
class Decision:
    """One claim on one remittance. kind: paid, denied, reversal, correction, overturn, secondary."""

    visit: Visit
    payer: str
    day: date
    kind: str
    status: str  # CLP02
    lines: tuple[PaidLine, ...]
    payer_claim_number: str
    adjustments: tuple[Adjustment, ...] = ()  # claim level
    remarks: tuple[str, ...] = ()  # claim level
    frequency: str = "1"
    original_reference: str | None = None
    crossover_to: str | None = None
    interest: int = 0

    @property
    def charge(self) -> int:
        return -self.visit.charge if self.kind == "reversal" else self.visit.charge

    @property
    def paid(self) -> int:
        return sum(line.paid for line in self.lines)

    def all_adjustments(self) -> list[Adjustment]:
        return [*self.adjustments, *(a for line in self.lines for a in line.adjustments)]

    @property
    def patient_responsibility(self) -> int:
        return sum(a.amount for a in self.all_adjustments() if a.group == "PR")


@dataclass(frozen=True)
class Recovery:
    """A provider-level (PLB) adjustment. reason WO takes back an earlier payment, L6 pays interest (negative amount)."""

    payer: str
    day: date
    reason: str
    reference: str
    amount: int


def payment_day(payer: str, day: date) -> date:
    """The payer's first payment run on or after a day."""
    while day.weekday() not in PAYERS[payer].pays_on:
        day += timedelta(days=1)
    return day


def decide(seed: int, visit: Visit) -> tuple[list[Decision], list[Recovery]]:
    """Everything the payers will ever say about a visit, in order of days."""
    draw = Draw(seed, "decide", visit.id)
    payer = PAYERS[visit.payer]
    scenario = visit.scenario
    number = f"{payer.id[:3]}{visit.service_date:%y%j}{draw.between(100_000, 999_999)}"
    if scenario.startswith("planted:"):
        day = visit.service_date + timedelta(days=PLANTED_LAG)
        return [_paid(draw, visit, payer, day, number, scenario)], []
    first = payment_day(payer.id, visit.service_date + timedelta(days=draw.between(6, 7)))
    later = payment_day(payer.id, first + timedelta(days=draw.between(7, 9)))
    if "/" in scenario:
        return _denied(draw, visit, payer, first, later, number), []
    paid = _paid(draw, visit, payer, first, number, scenario)
    if scenario == "corrected":
        reversal = _reversal(paid, later)
        correction = _paid(draw, visit, payer, later, number, "no_deductible")
        return [paid, reversal, replace(correction, kind="correction")], []
    if scenario == "recouped":
        return [paid], [Recovery(payer.id, later, "WO", number, paid.lines[0].paid)]
    if scenario == "interest":
        interest = draw.between(35, 480)
        return [replace(paid, interest=interest)], [Recovery(payer.id, first, "L6", number, -interest)]
    if visit.patient.secondary and scenario in ("plain", "underpaid"):
        follow_on = payment_day(visit.patient.secondary, first + timedelta(days=draw.between(6, 8)))
        primary = replace(paid, status="19", crossover_to=visit.patient.secondary, remarks=("MA18",))
        return [primary, _secondary(draw, visit, paid, follow_on)], []
    return [paid], []


def _paid(draw: Draw, visit: Visit, payer: Payer, day: date, number: str, scenario: str) -> Decision:
    short_at = next((i for i, x in enumerate(visit.lines) if x.charge >= 10_000), 0) if scenario == "underpaid" else -1
    deductible = {"corrected": 4_000, "no_deductible": 0, "recouped": 0}.get(
        scenario, 4_000 if visit.patient.deductible_open else 0
    )
    copay = 500 * draw.between(4, 8) if payer.id == "LHP01" else 0
    lines = []
    for i, line in enumerate(visit.lines):
        code = "99213" if scenario == "changed_code" and line.code == "99214" else line.code
        contracted = _allowed(payer, line, code)
        allowed = contracted
        if i == short_at:
            allowed -= max(100, contracted * draw.between(40, 240) // 1000)
        patient: list[Adjustment] = []
        rest = allowed
        if deductible and line.code in _VISIT_CODES:
            patient.append(Adjustment("PR", "1", min(deductible, rest)))
        elif copay and line.code in _VISIT_CODES:
            patient.append(Adjustment("PR", "3", min(copay, rest)))
        rest -= sum(a.amount for a in patient)
        share = {"MCR00": 20, "BRM02": 15}.get(payer.id, 0)
        if share and line.code not in _NO_COST_SHARE and rest * share // 100:
            patient.append(Adjustment("PR", "2", rest * share // 100))
            rest -= patient[-1].amount
        contractual = [Adjustment("CO", "45", line.charge - allowed)] if line.charge > allowed else []
        if payer.id == "MCR00" and rest * 2 // 100:
            contractual.append(Adjustment("CO", "253", rest * 2 // 100))
            rest -= contractual[-1].amount
        lines.append(
            PaidLine(
                line=line,
                code=code,
                charge=line.charge,
                paid=rest,
                allowed=allowed if payer.sends_allowed else None,
                adjustments=(*contractual, *patient),
                remarks=("N22",) if code != line.code else (),
                expected=contracted if allowed < contracted else None,
            )
        )
    return Decision(visit, payer.id, day, "paid", "1", tuple(lines), number)


def _allowed(payer: Payer, line: Line, code: str) -> int:
    if payer.rates:
        rate = payer.rates[code]
    elif payer.id == "MCD00":
        rate = RATES["MCR00"][code] * 60 // 100
    else:
        rate = line.price * (70 if code != line.code else 85) // 100
    return min(rate * line.units, line.charge)


def _denied(draw: Draw, visit: Visit, payer: Payer, first: date, later: date, number: str) -> list[Decision]:
    reason, _, remark_list = visit.scenario.partition("/")
    group, carc = reason.split("-")
    remarks = tuple(r for r in remark_list.split("+") if r)
    target = DENIED_CODES.get(visit.scenario)
    paid = _paid(draw, visit, payer, first, number, "plain")
    if visit.scenario in CLAIM_LEVEL:
        whole = (Adjustment(group, carc, visit.charge),)
        denied = replace(paid, kind="denied", status="4", lines=(), adjustments=whole, remarks=remarks)
    else:
        lines = tuple(
            PaidLine(
                x.line, x.line.code, x.charge, 0, None, (Adjustment(group, carc, x.charge),), remarks if remarks else ()
            )
            if target in (None, x.line.code)
            else x
            for x in paid.lines
        )
        whole_claim = all(x.paid == 0 and x.allowed is None for x in lines)
        denied = replace(paid, kind="denied", status="4" if whole_claim else "1", lines=lines)
    if visit.scenario not in OVERTURNED or payer.id not in RATES:
        return [denied]
    again = replace(paid, day=later)
    if denied.status == "4":
        return [denied, replace(again, kind="overturn", frequency="7", original_reference=number)]
    return [denied, _reversal(denied, later), replace(again, kind="overturn")]


def _reversal(paid: Decision, day: date) -> Decision:
    return replace(
        paid,
        day=day,
        kind="reversal",
        status="22",
        lines=tuple(line.reversed() for line in paid.lines),
        adjustments=tuple(replace(a, amount=-a.amount) for a in paid.adjustments),
        interest=0,
    )


def _secondary(draw: Draw, visit: Visit, primary: Decision, day: date) -> Decision:
    """The other insurer pays what the first left to the patient; OA-23 is all the first payer did."""
    lines = []
    for line in primary.lines:
        left = sum(a.amount for a in line.adjustments if a.group == "PR")
        earlier = (Adjustment("OA", "23", line.charge - left),) if line.charge > left else ()
        lines.append(PaidLine(line.line, line.line.code, line.charge, left, None, earlier))
    secondary = str(visit.patient.secondary)
    number = f"{secondary[:3]}{day:%y%j}{draw.between(100_000, 999_999)}"
    return Decision(visit, secondary, day, "secondary", "2", tuple(lines), number, remarks=("N89",))
