"""Exact numbers for people: money, percentages and shares, from Decimal and integers only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import ROUND_FLOOR, ROUND_HALF_UP, Decimal

_TENTH = Decimal("0.1")
NONE = "\u2013"
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def percent(part: Decimal | int, whole: Decimal | int) -> Decimal | None:
    """part of whole in percent, one decimal, half up; None where whole is zero."""
    if not whole:
        return None
    return (Decimal(part) * 100 / Decimal(whole)).quantize(_TENTH, ROUND_HALF_UP)


def shares(amounts: Sequence[Decimal]) -> list[Decimal | None]:
    """Share of each amount in percent, one decimal, adding up to exactly 100.0 (largest remainder method).

    Each differs from its own rounded value by at most 0.1. None for all where the amounts add up to zero.
    """
    whole = sum(amounts, Decimal(0))
    if not whole:
        return [None] * len(amounts)
    exact = [amount * 1000 / whole for amount in amounts]
    floors = [value.to_integral_value(ROUND_FLOOR) for value in exact]
    short = int(1000 - sum(floors))
    by_remainder = sorted(range(len(amounts)), key=lambda i: (floors[i] - exact[i], i))
    for i in by_remainder[:short]:
        floors[i] += 1
    return [value.scaleb(-1).quantize(_TENTH) for value in floors]


def dollars(amount: Decimal | None) -> str:
    """$1,234.56, with a minus sign in front where negative."""
    if amount is None:
        return NONE
    sign = "\u2212" if amount < 0 else ""
    return f"{sign}${abs(amount):,.2f}"


def short_dollars(amount: int) -> str:
    """Axis label of a round amount of dollars: $0, $500, $2.5k, $1M."""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if abs(amount) >= size:
            value = Decimal(amount) / size
            return f"${value.normalize():f}{letter}"
    return f"${amount}"


def count(number: int | None) -> str:
    return NONE if number is None else f"{number:,}"


def percentage(value: Decimal | None) -> str:
    return NONE if value is None else f"{value:.1f}%"


def day(value: date | None) -> str:
    """2 Jul 2026: no order of day and month to mistake."""
    return NONE if value is None else f"{short_day(value)} {value.year}"


def short_day(value: date) -> str:
    return f"{value.day} {_MONTHS[value.month - 1]}"


def plural(number: int, one: str, many: str | None = None) -> str:
    """1 claim, 2 claims."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
