"""What a person may change in a proposal before approving it, and that the money still adds up afterwards."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

from medbill.errors import DecisionRefused
from medbill.proposals.content import tokens

#: How a line's charge is split, and the posting's own split.
PATIENT = ("deductible", "coinsurance", "copay", "patient_other")
LINE_SPLIT = ("paid", "contractual", *PATIENT, "denied", "other")
POSTING_SPLIT = ("paid", "contractual", "patient_responsibility", "denied", "other")

#: kind -> paths that may change; * stands for any position in a list. What was paid is the payer's word: only its
#: allocation to lines may change.
_ALLOWED: dict[str, frozenset[tuple[str, ...]]] = {
    "posting": frozenset(
        [("posting", f) for f in ("contractual", "patient_responsibility", "denied", "other", "note")]
        + [("lines", "*", f) for f in LINE_SPLIT]
    ),
    "denial_follow_up": frozenset([("note",), ("deadline",), ("denials", "*", "action"), ("denials", "*", "deadline")]),
    "underpayment_dispute": frozenset([("note",), ("lines", "*", "explanation")]),
    "coder_review": frozenset([("note",), ("suggested_actions", "*")]),
}
_NOTE_LENGTH = 500
_IDENTIFIER = re.compile(
    r"(?<!\d)\d{3}-\d{2}-\d{4}(?!\d)|(?<!\d)\(?[2-9]\d{2}\)?[-. ]\d{3}[-. ]\d{4}(?!\d)|[^\s@]+@[^\s@]+\.[^\s@]+"
    r"|(?<!\d)\d{1,2}/\d{1,2}/(?:19|20)?\d{2}(?!\d)"
)


def check(kind: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Raises DecisionRefused where an edit touches what it may not, or its amounts do not add up any more."""
    allowed = _ALLOWED.get(kind, frozenset())
    for path in _changes(before, after):
        if path not in allowed:
            raise DecisionRefused(
                f"an edit may not change {'.'.join(path) or 'the payload'}; reject the proposal instead"
            )
    if not set(tokens(after)) <= set(tokens(before)):
        raise DecisionRefused("an edit may not bring in another token")
    for text in _texts(kind, after):
        check_text(text)
    for deadline in [after.get("deadline"), *(d.get("deadline") for d in after.get("denials", []))]:
        _check_date(deadline)
    if kind == "posting":
        _check_posting(before, after)


def check_text(text: str) -> None:
    """Free text of a decision: short, and nothing in it that looks like an identifier. Raises DecisionRefused."""
    if len(text) > _NOTE_LENGTH:
        raise DecisionRefused(f"a note may not be longer than {_NOTE_LENGTH} characters")
    if _IDENTIFIER.search(text):
        raise DecisionRefused("a note may not hold an SSN, telephone number, e-mail address or birth date; use tokens")
    if "\x00" in text:
        raise DecisionRefused("a note may not hold a NUL character")


def _changes(before: Any, after: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            yield from _changes(before.get(key), after.get(key), (*path, key))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for b, a in zip(before, after, strict=True):
            yield from _changes(b, a, (*path, "*"))
    elif before != after or type(before) is not type(after):
        yield path


def _texts(kind: str, payload: dict[str, Any]) -> Iterator[str]:
    fields = [payload.get("note"), payload.get("posting", {}).get("note") if kind == "posting" else None]
    fields += [payload.get("deadline"), *payload.get("suggested_actions", [])]
    for item in [*payload.get("denials", []), *(payload.get("lines", []) if kind == "underpayment_dispute" else [])]:
        fields += [item.get(f) for f in ("action", "deadline", "explanation")]
    for text in fields:
        if text is not None and not isinstance(text, str):
            raise DecisionRefused("notes, actions and deadlines are text")
        if text is not None:
            yield text


def _check_date(text: str | None) -> None:
    try:
        if text is not None:
            date.fromisoformat(text)
    except ValueError:
        raise DecisionRefused("a deadline must be a date like 2027-01-31") from None


def _check_posting(before: dict[str, Any], after: dict[str, Any]) -> None:
    posting, lines = after["posting"], after["lines"]
    if sum(_money(posting, f) for f in POSTING_SPLIT) != _money(posting, "charge"):
        raise DecisionRefused("paid, contractual, patient responsibility, denied and other must add up to the charge")
    for old, new in zip(before["lines"], lines, strict=True):
        if _rest(old) != _rest(new):
            raise DecisionRefused(f"the amounts of line {new.get('line_number')} do not add up to its charge")
    for field in ("paid", "contractual", "denied", "other"):
        if sum(_money(line, field) for line in lines) - _money(posting, field) != sum(
            _money(line, field) for line in before["lines"]
        ) - _money(before["posting"], field):
            raise DecisionRefused(f"{field} of the lines and of the posting must agree")
    patient = sum(_money(line, f) for line in lines for f in PATIENT)
    if patient - _money(posting, "patient_responsibility") != sum(
        _money(line, f) for line in before["lines"] for f in PATIENT
    ) - _money(before["posting"], "patient_responsibility"):
        raise DecisionRefused("deductible, coinsurance, copay and other patient amounts must agree with the posting")


def _rest(line: dict[str, Any]) -> Decimal:
    """What a line's split leaves of its charge; not zero where a claim-level adjustment carries the rest."""
    return _money(line, "charge") - sum((_money(line, f) for f in LINE_SPLIT), Decimal(0))


def _money(row: dict[str, Any], field: str) -> Decimal:
    value = row.get(field)
    if not isinstance(value, str) or not re.fullmatch(r"-?\d{1,16}\.\d{2}", value):
        raise DecisionRefused(f"{field} must be an amount as text with two decimals")
    try:
        return Decimal(value)
    except InvalidOperation as error:
        raise DecisionRefused(f"{field} must be an amount as text with two decimals") from error
