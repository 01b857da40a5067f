"""What a biller reads: title and text of a write-back, short, amounts in dollars.

Texts are made from the hashed payload alone, so what is written is what was approved. names maps tokens to their values;
a token that is not in it stays a token, which is how a proposal is shown to people before it is applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

Names = Mapping[str, str]


def dollars(amount: str | Decimal | None) -> str:
    """-1234.5 -> -$1,234.50; a missing amount is a dash."""
    if amount is None:
        return "-"
    value = Decimal(amount)
    return f"-${-value:,.2f}" if value < 0 else f"${value:,.2f}"


def tokens(kind: str, claim_token: str, payload: Mapping[str, Any]) -> set[str]:
    """The tokens a write-back shows in clear: the claim's, its lines', and the payment's trace. No others are revealed."""
    lines = payload.get("denials" if kind == "denial_follow_up" else "lines") or []
    trace = payload["posting"].get("trace_token") if kind == "posting" else None
    return {t for t in (claim_token, trace, *(line.get("line_token") for line in lines)) if t}


def title(kind: str, payload: Mapping[str, Any]) -> str:
    """One line for a task list; no identifier in it."""
    if kind == "posting":
        p = payload["posting"]
        verb = "Reverse" if p["is_reversal"] else "Post"
        return f"{verb} insurance payment {dollars(p['paid'])}: {p.get('payer_name') or 'payer'}"
    if kind == "underpayment_dispute":
        lines = payload["lines"]
        short = sum((Decimal(line["variance"]) for line in lines), Decimal(0))
        return f"Dispute underpayment {dollars(short)}: {_first(lines, 'payer_name') or 'payer'}"
    if kind == "coder_review":
        return f"Coder review {dollars(payload['charge'])}: {payload.get('payer_name') or 'payer'}"
    denials = payload["denials"]
    return (
        f"Follow up denial, {dollars(payload['recoverable'])} recoverable: {_first(denials, 'payer_name') or 'payer'}"
    )


def text(kind: str, claim_token: str, payload: Mapping[str, Any], names: Names | None = None) -> str:
    """The body of the task and of the claim's billing note."""
    return "\n".join([f"Claim {_named(claim_token, names or {})}", *_BODIES[kind](payload, names or {})])


def due_on(kind: str, payload: Mapping[str, Any]) -> date | None:
    """The day by which a denial must be answered; other kinds have none."""
    deadline = payload.get("deadline") if kind == "denial_follow_up" else None
    return date.fromisoformat(deadline) if deadline else None


def _posting(payload: Mapping[str, Any], names: Names) -> list[str]:
    p = payload["posting"]
    from_ = f"{p.get('payer_name') or 'payer'}, dated {p.get('payment_date') or 'unknown'}"
    trace = f", check/EFT {_named(p['trace_token'], names)}" if p.get("trace_token") else ""
    out = [
        f"{'REVERSAL of payment' if p['is_reversal'] else 'Payment'} from {from_}{trace}",
        f"Charge {dollars(p['charge'])}: " + _split(p, _POSTING_WORDS),
    ]
    for line in payload["lines"]:
        out.append(f"{_line(line, names)}: " + _split(line, _LINE_WORDS))
    if p.get("note"):
        out.append(f"Note: {p['note']}")
    return out


def _dispute(payload: Mapping[str, Any], names: Names) -> list[str]:
    lines = payload["lines"]
    out = [
        f"Paid below contract by {_first(lines, 'payer_name') or 'payer'}, dated {_first(lines, 'payment_date') or 'unknown'}"
    ]
    for line in lines:
        contract = f"{line['contract_id']} {line['contract_version']}"
        out.append(
            f"{_line(line, names)}: allowed {dollars(line['allowed'])}, contract {contract} says "
            f"{dollars(line['expected'])}, short {dollars(line['variance'])}"
        )
    return out + ([f"Note: {payload['note']}"] if payload.get("note") else [])


def _denial(payload: Mapping[str, Any], names: Names) -> list[str]:
    denials = payload["denials"]
    due = f", answer by {payload['deadline']}" if payload.get("deadline") else ""
    out = [
        f"Denied by {_first(denials, 'payer_name') or 'payer'}, dated {_first(denials, 'payment_date') or 'unknown'}; "
        f"{dollars(payload['recoverable'])} recoverable{due}"
    ]
    for d in denials:
        remarks = f" ({', '.join(d['remark_codes'])})" if d.get("remark_codes") else ""
        out.append(
            f"{_line(d, names)}: {dollars(d['denied'])} denied {d['group_code']}-{d['reason_code']}{remarks}, "
            f"{_words(d['category'])}: {_words(d['action'])}"
        )
    return out + ([f"Note: {payload['note']}"] if payload.get("note") else [])


def _review(payload: Mapping[str, Any], names: Names) -> list[str]:
    issues = payload["issues"]
    out = [f"Check before it is sent, {dollars(payload['charge'])}: {_words(payload['validation_result'])}"]
    for issue in issues[:_MOST_ISSUES]:
        where = f"Line {issue['line_item']}" if issue.get("line_item") is not None else "Claim"
        code = f" {issue['code']}" if issue.get("code") else ""
        out.append(f"{where}{code}: {issue['message']} ({issue['rule_id']}, {issue['rule_version']})")
    if len(issues) > _MOST_ISSUES:
        out.append(f"and {len(issues) - _MOST_ISSUES} more")
    out += [f"To do: {action}" for action in payload["suggested_actions"][:_MOST_ISSUES]]
    return out + ([f"Note: {payload['note']}"] if payload.get("note") else [])


_BODIES = {"posting": _posting, "underpayment_dispute": _dispute, "denial_follow_up": _denial, "coder_review": _review}
#: Findings and actions a text names; the proposal has them all.
_MOST_ISSUES = 20

_POSTING_WORDS = {
    "paid": "paid",
    "contractual": "write off",
    "patient_responsibility": "patient",
    "denied": "denied (do not write off)",
    "other": "other",
}
_LINE_WORDS = {
    "paid": "paid",
    "contractual": "write off",
    "deductible": "deductible",
    "coinsurance": "coinsurance",
    "copay": "copay",
    "patient_other": "patient other",
    "denied": "denied",
    "other": "other",
}


def _split(row: Mapping[str, Any], words: Mapping[str, str]) -> str:
    """What is paid always, the rest where it is not zero."""
    return ", ".join(
        f"{word} {dollars(row[field])}" for field, word in words.items() if field == "paid" or Decimal(row[field]) != 0
    )


def _line(line: Mapping[str, Any], names: Names) -> str:
    if not line.get("line_number"):
        return "Claim level"
    item = f" (item {_named(line['line_token'], names)})" if line.get("line_token") else ""
    code = " ".join(filter(None, [line.get("procedure_code"), *(line.get("modifiers") or [])]))
    return f"Line {line['line_number']} {code}{item}".replace("  ", " ")


def _named(token: str, names: Names) -> str:
    return names.get(token, token)


def _first(rows: list[Mapping[str, Any]], field: str) -> Any:
    return next((row[field] for row in rows if row.get(field)), None)


def _words(code: str) -> str:
    return code.replace("_", " ")
