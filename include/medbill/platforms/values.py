"""Values of a platform's record as exact types; what cannot be read stops its claim, not the run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

_CENT = Decimal("0.01")


class Unreadable(Exception):
    """A record that cannot be read; reason is a code without any value of the record."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def text(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)


def day(value: Any, reason: str, forms: Sequence[str] = ()) -> date | None:
    """A date, or the date of a time stamp, in ISO 8601 or in one of strptime's forms; None where it is empty."""
    if value is None or value == "":
        return None
    written = str(value).strip()
    for form in forms:
        try:
            return datetime.strptime(written.partition(" ")[0], form).date()  # noqa: DTZ007
        except ValueError:
            continue
    try:
        return date.fromisoformat(written[:10])
    except ValueError:
        raise Unreadable(reason) from None


def decimal(value: Any, reason: str) -> Decimal | None:
    """An exact number below 10^12; None where it is empty."""
    if value is None or value == "":
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise Unreadable(reason) from None
    if not number.is_finite() or abs(number) >= Decimal(10) ** 12:
        raise Unreadable(reason)
    return number


def money(value: Any, reason: str) -> Decimal | None:
    """Dollars to the cent; $ and thousands' commas are read, parts of a cent are not rounded but refused."""
    written = value.strip().replace("$", "").replace(",", "") if isinstance(value, str) else value
    number = decimal(written, reason)
    if number is None:
        return None
    if number != number.quantize(_CENT):
        raise Unreadable(reason)
    return number.quantize(_CENT)
