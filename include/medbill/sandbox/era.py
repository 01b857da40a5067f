"""Remittances of the made-up payers as 835 files (005010X221A1), with flawed inputs planted among them, and the truth.

One file per payer and payment day, except Fridays, when a clearinghouse joins two payers in one interchange. The
interchange date (ISA09) is the payment day. The bytes of a day depend on the seed, the size and that day alone.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from medbill.sandbox.adjudication import CATEGORIES, Adjustment, Decision, PaidLine, Recovery, decide
from medbill.sandbox.draw import Draw
from medbill.sandbox.practice import (
    CHARGES,
    LAKESIDE,
    PAYERS,
    REMITTANCE_DAYS,
    Line,
    Patient,
    PracticeData,
    Provider,
    Visit,
    npi,
    planted_kind,
)

#: The payee of the planted remittance that belongs to somebody else.
OTHER_PRACTICE_NPI = npi("198800001")
#: In no published list of claim adjustment reason codes.
UNKNOWN_CARC = "ZZ9"
_CLEARINGHOUSE = "CLEARSAND"
_PAYER_NUMBER = {payer: i for i, payer in enumerate(PAYERS, 1)}


@dataclass(frozen=True)
class Transaction:
    """One ST..SE. error: cents added to BPR02 so that the transaction does not balance (planted)."""

    payer: str
    day: date
    trace: str
    decisions: tuple[Decision, ...]
    recoveries: tuple[Recovery, ...] = ()
    payee: tuple[str, str, str] = (LAKESIDE.name, LAKESIDE.npi, LAKESIDE.tax_id)
    error: int = 0

    @property
    def payment(self) -> int:
        """BPR02: claim payments less provider-level adjustments."""
        return sum(d.paid for d in self.decisions) - sum(r.amount for r in self.recoveries) + self.error


@dataclass(frozen=True)
class InboxFile:
    """One file as a clearinghouse would drop it. kind: regular, or what was planted in it."""

    name: str
    day: date
    kind: str
    data: bytes


@dataclass
class Truth:
    """What is in the files, in cents, so that a test can ask whether the product found it.

    files: one entry per file. claims: every claim of every whole file. denials: one entry per denying adjustment that
    is not on a reversal; overturned_on is the payment day that paid it, if within the window. planted: what should
    become of each flawed input. totals: over all whole files, each counted once.
    """

    seed: int
    practice: str
    npi: str
    first_service_day: str
    first_day: str
    last_day: str
    practice_claims: int
    practice_charge: int
    files: list[dict[str, Any]] = field(default_factory=list)
    claims: list[dict[str, Any]] = field(default_factory=list)
    denials: list[dict[str, Any]] = field(default_factory=list)
    underpayments: list[dict[str, Any]] = field(default_factory=list)
    recoveries: list[dict[str, Any]] = field(default_factory=list)
    planted: list[dict[str, Any]] = field(default_factory=list)
    totals: dict[str, int] = field(default_factory=dict)
    denied_by_reason: dict[str, dict[str, int]] = field(default_factory=dict)
    denied_by_category: dict[str, dict[str, int]] = field(default_factory=dict)
    first_decisions: int = 0
    first_pass_paid: int = 0
    overturned: int = 0

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"


def build(data: PracticeData, days: int = REMITTANCE_DAYS) -> tuple[list[InboxFile], Truth]:
    """All files of the `days` days that end the day before data.today, and what is in them."""
    first = data.today - timedelta(days=days)
    last = data.today - timedelta(days=1)
    decisions: dict[tuple[date, str], list[Decision]] = {}
    recoveries: dict[tuple[date, str], list[Recovery]] = {}
    planted: dict[date, list[Decision]] = {}
    for visit in data.visits:
        decided, recovered = decide(data.seed, visit)
        for d in decided:
            if first <= d.day <= last:
                if visit.scenario.startswith("planted:"):
                    planted.setdefault(d.day, []).append(d)
                else:
                    decisions.setdefault((d.day, d.payer), []).append(d)
        for r in recovered:
            if first <= r.day <= last:
                recoveries.setdefault((r.day, r.payer), []).append(r)
    truth = Truth(
        seed=data.seed,
        practice=data.identity.id,
        npi=data.identity.npi,
        first_service_day=data.start.isoformat(),
        first_day=first.isoformat(),
        last_day=last.isoformat(),
        practice_claims=len(data.visits),
        practice_charge=sum(v.charge for v in data.visits),
    )
    files: list[InboxFile] = []
    for offset in range(days):
        day = first + timedelta(days=offset)
        files += _regular(data, day, decisions, recoveries, truth)
        files += _planted(data, day, planted.get(day, []), truth)
    _summarise(truth)
    return files, truth


def write(data: PracticeData, inbox: Path, days: int = REMITTANCE_DAYS, extra: Sequence[InboxFile] = ()) -> Truth:
    """Write the files into inbox/<practice>/; a file that is there with the same bytes is left alone.

    Each has its day as the time of its last change: it lay there since, nobody still writes it. extra: files that the
    truth does not speak of.
    """
    folder = inbox / data.identity.id
    folder.mkdir(parents=True, exist_ok=True)
    files, truth = build(data, days)
    for file in [*files, *extra]:
        write_once(folder / file.name, file.data)
        came = datetime.combine(file.day, datetime.min.time(), UTC).timestamp()
        os.utime(folder / file.name, (came, came))
    return truth


def write_once(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Put bytes at a path at once or not at all; same bytes are left untouched."""
    if path.is_file() and path.read_bytes() == data:
        return
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.chmod(mode)
    part.replace(path)


# --- the files of a day ---------------------------------------------------------------------------------------------


def _payee(data: PracticeData) -> tuple[str, str, str]:
    return data.identity.name, data.identity.npi, data.identity.tax_id


def _regular(
    data: PracticeData,
    day: date,
    decisions: dict[tuple[date, str], list[Decision]],
    recoveries: dict[tuple[date, str], list[Recovery]],
    truth: Truth,
) -> list[InboxFile]:
    transactions = {}
    for payer in PAYERS:
        decided = decisions.get((day, payer), [])
        if decided:
            taken = _affordable(decided, recoveries.get((day, payer), []))
            transactions[payer] = Transaction(
                payer, day, _trace(data.seed, payer, day, 0), tuple(decided), taken, payee=_payee(data)
            )
    groups = [[t] for t in transactions.values()]
    if "LHP01" in transactions and "UNW03" in transactions:
        joined = [transactions.pop("LHP01"), transactions.pop("UNW03")]
        groups = [joined, *([t] for t in transactions.values())]
    files = []
    for group in groups:
        sender = group[0].payer if len(group) == 1 else _CLEARINGHOUSE
        name = f"{sender}_{day:%Y%m%d}.835"
        content = interchange(sender, day, _PAYER_NUMBER.get(sender, 9), group)
        files.append(InboxFile(name, day, "regular", content))
        _note(truth, files[-1], group)
    return files


def _affordable(decided: Sequence[Decision], wanted: Sequence[Recovery]) -> tuple[Recovery, ...]:
    """Recoveries of a payment run; none may make the payment negative, since a payer cannot pay less than nothing."""
    left = sum(d.paid for d in decided) - sum(r.amount for r in wanted if r.amount < 0)
    taken = []
    for recovery in wanted:
        if recovery.amount <= left:
            taken.append(recovery)
            left -= max(0, recovery.amount)
    return tuple(taken)


def _planted(practice: PracticeData, day: date, reserved: list[Decision], truth: Truth) -> list[InboxFile]:
    """The flawed input of a day, if its turn has come and the visits kept back for it are in the window."""
    seed, own_payee = practice.seed, _payee(practice)
    kind = planted_kind(day)
    if kind is None:
        return []
    if kind == "pdf":
        file = InboxFile(f"EOB_{day:%Y%m%d}.835", day, kind, _pdf(day))
        _note(truth, file, None)
        _expect(truth, file, "file", "quarantined", "NOT_X12", ())
        return [file]
    strangers = tuple(
        _stranger(seed, day, kind, k) for k in range({"other_practice": 2, "unknown_claim": 1}.get(kind, 0))
    )
    if kind == "other_practice":
        payee = ("Harbor Point Clinic", OTHER_PRACTICE_NPI, "990009999")
        transactions = [Transaction("LHP01", day, _trace(seed, "LHP01", day, 5), strangers, payee=payee)]
    elif not reserved:
        return []
    elif kind == "two_payers":
        transactions = [
            Transaction(d.payer, day, _trace(seed, d.payer, day, 5), (d,), payee=own_payee)
            for d in sorted(reserved, key=lambda d: _PAYER_NUMBER[d.payer])
        ]
    else:
        changed = {"unbalanced_claim": _unbalance, "unknown_carc": _unknown_carc}.get(kind)
        own = [changed(reserved[0]), *reserved[1:]] if changed else reserved
        error = 1000 if kind == "unbalanced_transaction" else 0
        payer = reserved[0].payer
        transactions = [
            Transaction(payer, day, _trace(seed, payer, day, 5), (*own, *strangers), payee=own_payee, error=error),
        ]
    sender = transactions[0].payer if len(transactions) == 1 else _CLEARINGHOUSE
    data = interchange(sender, day, 50 + _PAYER_NUMBER.get(sender, 9), transactions)
    if kind == "truncated":
        data = _cut(data)
    file = InboxFile(f"{sender}_{day:%Y%m%d}_b.835", day, kind, data)
    files = [file]
    _note(truth, file, None if kind == "truncated" else transactions)
    everything = tuple(d for t in transactions for d in t.decisions)
    if kind == "unbalanced_claim":
        _expect(truth, file, "claim", "quarantined", "CLAIM_UNBALANCED", everything[:1])
    elif kind == "unbalanced_transaction":
        _expect(truth, file, "transaction", "quarantined", "TRANSACTION_UNBALANCED", everything)
    elif kind == "duplicate":
        files.append(InboxFile(f"{sender}_{day:%Y%m%d}_b_resent.835", day, kind, data))
        _note(truth, files[-1], None)
        _expect(truth, files[-1], "file", "duplicate", "DUPLICATE_FILE", ())
    elif kind == "other_practice":
        _expect(truth, file, "claim", "held", "OTHER_PRACTICE", everything)
    elif kind == "unknown_claim":
        _expect(truth, file, "claim", "held", "UNMATCHED_CLAIM", strangers)
    elif kind == "truncated":
        _expect(truth, file, "transaction", "quarantined", "TRUNCATED", everything)
    elif kind == "unknown_carc":
        _expect(truth, file, "claim", "accepted", "UNKNOWN_CARC", everything)
    else:
        _expect(truth, file, "transaction", "accepted", "TWO_PAYERS", everything)
    return files


def _stranger(seed: int, day: date, kind: str, k: int) -> Decision:
    """A paid claim that the practice never billed."""
    draw = Draw(seed, "stranger", day, kind, k)
    number = day.toordinal() - 730_000
    patient = Patient(
        id=95_000_000 + draw.below(100_000),
        first_name=draw.choice(("Strelka", "Obrin", "Wistan")),
        last_name=draw.choice(("Foreignham", "Elsewick", "Outerby")),
        birth_date=date(draw.between(1950, 2000), draw.between(1, 12), draw.between(1, 28)),
        gender="Other",
        payer="LHP01",
        member_id=f"LX{draw.between(100_000_000, 999_999_999)}",
        secondary=None,
        secondary_member_id=None,
        deductible_open=False,
    )
    line = Line(7_000_000_000 + number * 100_000 + 99_900 + k, "99213", (), 1, CHARGES["99213"], (1,))
    visit = Visit(
        id=300_000_000 + number * 10_000 + 9_990 + k,
        patient=patient,
        provider=Provider(0, npi(f"19880001{k + 2}"), "Ander", "Elsewhere"),
        payer="BRM02" if kind == "unknown_claim" else "LHP01",
        service_date=day - timedelta(days=14),
        minute=480,
        billed_date=None,
        diagnoses=("I10",),
        lines=(line,),
        scenario=f"planted:{kind}",
    )
    return decide(seed, visit)[0][0]


def _unbalance(decision: Decision) -> Decision:
    """A claim whose adjustments fall ten dollars short of what it was not paid."""
    first = decision.lines[0]
    adjustments = tuple(
        Adjustment(a.group, a.reason, a.amount - 1000) if i == 0 else a for i, a in enumerate(first.adjustments)
    )
    return _with_first_line(decision, adjustments)


def _unknown_carc(decision: Decision) -> Decision:
    first = decision.lines[0]
    head, *rest = first.adjustments
    split = (Adjustment(head.group, head.reason, head.amount - 700), Adjustment(head.group, UNKNOWN_CARC, 700), *rest)
    return _with_first_line(decision, split)


def _with_first_line(decision: Decision, adjustments: tuple[Adjustment, ...]) -> Decision:
    return replace(decision, lines=(replace(decision.lines[0], adjustments=adjustments), *decision.lines[1:]))


def _cut(data: bytes) -> bytes:
    """The file as a broken transfer leaves it: in the middle of a service line of its second claim."""
    second = data.index(b"CLP*", data.index(b"CLP*") + 4)
    return data[: data.index(b"SVC*", second) + 9]


def _pdf(day: date) -> bytes:
    return (
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\n"
        b"trailer<</Root 1 0 R>>\n% explanation of benefits " + f"{day:%Y%m%d}".encode() + b"\n%%EOF\n"
    )


def _trace(seed: int, payer: str, day: date, series: int) -> str:
    return f"{_PAYER_NUMBER[payer]}{series}{day:%y%m%d}{Draw(seed, 'trace', payer, day, series).between(1000, 9999)}"


# --- X12 --------------------------------------------------------------------------------------------------------------


def amount(cents: int) -> str:
    """An X12 R element: no trailing zeros, no plus sign."""
    whole, fraction = divmod(abs(cents), 100)
    text = f"{whole}.{fraction:02d}".rstrip("0").rstrip(".")
    return f"-{text}" if cents < 0 else text


def interchange(sender: str, day: date, number: int, transactions: Sequence[Transaction]) -> bytes:
    """One ISA..IEA with one functional group of transactions. number: makes the control number unique within the day."""
    control = f"{day.toordinal() % 100_000 * 100 + number:09d}"
    group = str(int(control))
    segments = [
        f"ISA*00*          *00*          *ZZ*{sender:<15}*ZZ*{'LAKESIDE':<15}*{day:%y%m%d}*0415*^*00501*{control}*0*P*:",
        f"GS*HP*{sender}*LAKESIDE*{day:%Y%m%d}*0415*{group}*X*005010X221A1",
    ]
    for ordinal, transaction in enumerate(transactions, 1):
        segments += _transaction(transaction, f"{ordinal:04d}")
    segments += [f"GE*{len(transactions)}*{group}", f"IEA*1*{control}"]
    return "".join(s + "~\n" for s in segments).encode("ascii")


def _transaction(t: Transaction, control: str) -> list[str]:
    payer = PAYERS[t.payer]
    payee_name, payee_npi, payee_tax_id = t.payee
    if t.payment > 0:
        accounts = f"ACH*CCP*01*999999992*DA*4410{_PAYER_NUMBER[t.payer]:04d}*1{payer.tax_id}**01*999988880*DA*98765"
        bpr = f"BPR*I*{amount(t.payment)}*C*{accounts}*{t.day:%Y%m%d}"
    else:
        bpr = f"BPR*H*{amount(t.payment)}*C*NON************{t.day:%Y%m%d}"
    segments = [
        f"ST*835*{control}",
        bpr,
        f"TRN*1*{t.trace}*1{payer.tax_id}",
        f"DTM*405*{t.day:%Y%m%d}",
        f"N1*PR*{payer.name.upper()}",
        f"N3*{_PAYER_NUMBER[t.payer]}00 SANDBOX PLAZA",
        "N4*SPRINGFIELD*IL*62701",
        f"REF*2U*{payer.id}",
        "PER*BL*PROVIDER SERVICES*TE*8005550100",
        f"N1*PE*{payee_name.upper()}*XX*{payee_npi}",
        "N3*12 SHORE ROAD",
        "N4*SPRINGFIELD*IL*62702",
        f"REF*TJ*{payee_tax_id}",
        "LX*1",
    ]
    for decision in t.decisions:
        segments += _claim(decision)
    if t.recoveries:
        pairs = [f"{r.reason}:{r.reference}*{amount(r.amount)}" for r in t.recoveries]
        for i in range(0, len(pairs), 6):
            segments.append(f"PLB*{payee_npi}*{t.day.year}1231*{'*'.join(pairs[i : i + 6])}")
    segments.append(f"SE*{len(segments) + 1}*{control}")
    return segments


def _claim(d: Decision) -> list[str]:
    payer, patient, provider = PAYERS[d.payer], d.visit.patient, d.visit.provider
    responsibility = amount(d.patient_responsibility) if d.patient_responsibility else ""
    member = patient.secondary_member_id if d.kind == "secondary" else patient.member_id
    segments = [
        f"CLP*{d.visit.id}*{d.status}*{amount(d.charge)}*{amount(d.paid)}*{responsibility}*{payer.filing_indicator}"
        f"*{d.payer_claim_number}*11*{d.frequency}",
        *_cas(d.adjustments),
        f"NM1*QC*1*{patient.last_name.upper()}*{patient.first_name.upper()}****MI*{member}",
        *(s for s in patient.remitted if s.startswith("NM1")),
        f"NM1*82*1*{provider.last_name.upper()}*{provider.first_name.upper()}****XX*{provider.npi}",
    ]
    if d.crossover_to:
        segments.append(f"NM1*TT*2*{PAYERS[d.crossover_to].name.upper()}*****PI*{d.crossover_to}")
    if d.remarks:
        segments.append(f"MOA***{'*'.join(d.remarks)}")
    if d.original_reference:
        segments.append(f"REF*F8*{d.original_reference}")
    segments += [s for s in patient.remitted if s.startswith("REF")]
    segments.append(f"DTM*232*{d.visit.service_date:%Y%m%d}")
    segments.append(f"DTM*050*{d.visit.service_date + timedelta(days=3):%Y%m%d}")
    if d.interest:
        segments.append(f"AMT*I*{amount(d.interest)}")
    for line in d.lines:
        segments += _line(line, d.visit, payer.sends_line_control)
    return segments


def _line(x: PaidLine, visit: Visit, line_control: bool) -> list[str]:
    refused = x.allowed is None and x.paid == 0 and any(a.reason in CATEGORIES for a in x.adjustments)
    units = 0 if refused else x.line.units
    svc = f"SVC*{':'.join(('HC', x.code, *x.line.modifiers))}*{amount(x.charge)}*{amount(x.paid)}**{units}"
    if x.code != x.line.code:
        svc += f"*{':'.join(('HC', x.line.code, *x.line.modifiers))}"
    elif refused:
        svc += f"**{x.line.units}"
    segments = [svc, f"DTM*472*{visit.service_date:%Y%m%d}", *_cas(x.adjustments)]
    if line_control:
        segments.append(f"REF*6R*{x.line.id}")
    if x.allowed is not None:
        segments.append(f"AMT*B6*{amount(x.allowed)}")
    segments += [f"LQ*HE*{remark}" for remark in x.remarks]
    return segments


def _cas(adjustments: Iterable[Adjustment]) -> list[str]:
    """One CAS per group code; up to six triplets fit in one segment."""
    groups: dict[str, list[str]] = {}
    for a in adjustments:
        groups.setdefault(a.group, []).append(f"{a.reason}*{amount(a.amount)}")
    return [
        f"CAS*{group}*{'**'.join(triplets[i : i + 6])}"
        for group, triplets in groups.items()
        for i in range(0, len(triplets), 6)
    ]


# --- the truth --------------------------------------------------------------------------------------------------------


def _note(truth: Truth, file: InboxFile, transactions: Sequence[Transaction] | None) -> None:
    """Record a file; transactions is None where it is not to be counted (no X12, cut off, or a second copy)."""
    entry: dict[str, Any] = {
        "name": file.name,
        "day": file.day.isoformat(),
        "kind": file.kind,
        "sha256": hashlib.sha256(file.data).hexdigest(),
        "counted": transactions is not None,
    }
    for t_ordinal, t in enumerate(transactions or (), 1):
        adjustments = [a for d in t.decisions for a in d.all_adjustments()]
        counts = {
            "transactions": 1,
            "claims": len(t.decisions),
            "service_lines": sum(len(d.lines) for d in t.decisions),
            "adjustments": len(adjustments),
            "charge": sum(d.charge for d in t.decisions),
            "paid": sum(d.paid for d in t.decisions),
            "patient_responsibility": sum(a.amount for a in adjustments if a.group == "PR"),
            "reversals": sum(d.kind == "reversal" for d in t.decisions),
            "provider_adjustments": len(t.recoveries),
            "provider_adjustment_amount": sum(r.amount for r in t.recoveries),
            "payment": t.payment,
        }
        for key, value in counts.items():
            entry[key] = entry.get(key, 0) + value
        for r in t.recoveries:
            truth.recoveries.append(
                {
                    "file": file.name,
                    "day": file.day.isoformat(),
                    "payer": r.payer,
                    "reason": r.reason,
                    "amount": r.amount,
                }
            )
        for c_ordinal, d in enumerate(t.decisions, 1):
            _note_claim(truth, file, t_ordinal, c_ordinal, d)
    truth.files.append(entry)


def _note_claim(truth: Truth, file: InboxFile, t_ordinal: int, c_ordinal: int, d: Decision) -> None:
    where = {
        "file": file.name,
        "day": file.day.isoformat(),
        "claim_id": str(d.visit.id),
        "payer": d.payer,
        "kind": d.kind,
    }
    truth.claims.append(
        {
            **where,
            "transaction": t_ordinal,
            "claim": c_ordinal,
            "planted": file.kind,
            "status": d.status,
            "charge": d.charge,
            "paid": d.paid,
            "patient_responsibility": d.patient_responsibility,
        }
    )
    if d.kind == "reversal":
        return
    found: list[tuple[str | None, Adjustment, tuple[str, ...]]] = [(None, a, d.remarks) for a in d.adjustments]
    found += [(str(x.line.id), a, x.remarks) for x in d.lines for a in x.adjustments]
    for line_id, a, remarks in found:
        if a.reason in CATEGORIES:
            truth.denials.append(
                {
                    **where,
                    "line_id": line_id,
                    "group": a.group,
                    "reason": a.reason,
                    "remarks": list(remarks),
                    "category": CATEGORIES[a.reason],
                    "amount": a.amount,
                    "overturned_on": None,
                }
            )
    for x in d.lines:
        if x.expected is not None and x.allowed is not None:
            truth.underpayments.append(
                {
                    **where,
                    "line_id": str(x.line.id),
                    "code": x.code,
                    "units": x.line.units,
                    "expected": x.expected,
                    "allowed": x.allowed,
                    "variance": x.expected - x.allowed,
                }
            )


def _summarise(truth: Truth) -> None:
    overturned = {c["claim_id"]: c["day"] for c in truth.claims if c["kind"] == "overturn"}
    for denial in truth.denials:
        denial["overturned_on"] = overturned.get(denial["claim_id"])
        for key, table in (
            (f"{denial['group']}-{denial['reason']}", truth.denied_by_reason),
            (denial["category"], truth.denied_by_category),
        ):
            row = table.setdefault(key, {"count": 0, "amount": 0})
            row["count"] += 1
            row["amount"] += denial["amount"]
    firsts = [c for c in truth.claims if c["kind"] in ("paid", "denied") and c["planted"] == "regular"]
    truth.first_decisions = len(firsts)
    truth.first_pass_paid = sum(c["kind"] == "paid" for c in firsts)
    denied_claims = {d["claim_id"] for d in truth.denials}
    truth.overturned = len(denied_claims & set(overturned))
    for entry in truth.files:
        for key, value in entry.items():
            if isinstance(value, int) and not isinstance(value, bool):
                truth.totals[key] = truth.totals.get(key, 0) + value
    truth.totals["files"] = len(truth.files)


def _expect(
    truth: Truth, file: InboxFile, level: str, outcome: str, reason: str, decisions: Sequence[Decision]
) -> None:
    truth.planted.append(
        {
            "kind": file.kind,
            "file": file.name,
            "day": file.day.isoformat(),
            "level": level,
            "outcome": outcome,
            "reason": reason,
            "claim_ids": [str(d.visit.id) for d in decisions],
            "charge": sum(d.charge for d in decisions),
            "paid": sum(d.paid for d in decisions),
        }
    )
