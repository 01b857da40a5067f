"""What a reader makes of the files of one release, and the calendars by which CMS names and dates releases."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

import pyarrow as pa

from medbill.errors import BadInput
from medbill.rules.reference.archive import GivenFile, Member

_MONTHS = {
    m: i for i, m in enumerate(("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"), 1)
}


@dataclass(frozen=True)
class Release:
    """version: as CMS calls it. start and end: service dates it is in force for, both included; end None is open."""

    version: str
    start: date
    end: date | None
    tables: dict[str, pa.Table]


@dataclass(frozen=True)
class Dated:
    """Version and range of a release, read from its names; None where the names do not say."""

    version: str
    start: date
    end: date | None


def quarter(year: int, number: int, version: str | None = None) -> Dated:
    start = date(year, 3 * number - 2, 1)
    after = date(year + number // 4, 3 * number % 12 + 1, 1)
    return Dated(version or f"{year}Q{number}", start, after - timedelta(days=1))


def month_of(text: str) -> int | None:
    """The month whose English abbreviation stands in a name."""
    return next((number for name, number in _MONTHS.items() if re.search(rf"(?<![A-Z]){name}", text.upper())), None)


def names(files: Iterable[GivenFile]) -> list[str]:
    """Names of members and files, the members' first: an operator may have renamed the file."""
    return [m.name for f in files for m in f.members] + [f.name for f in files]


def first_match(pattern: str, found: Iterable[str]) -> re.Match[str] | None:
    return next((m for name in found if (m := re.search(pattern, name, re.IGNORECASE))), None)


def pick(files: list[GivenFile], *patterns: str) -> list[Member]:
    """Of each file the members that match the first pattern that any member of it matches, in the order of patterns.

    Raises BadInput REFERENCE_WRONG_KIND where a file has no such member.
    """
    found: list[Member] = []
    for file in files:
        for pattern in patterns:
            matching = [m for m in file.members if re.search(pattern, m.name, re.IGNORECASE)]
            if matching:
                found += matching
                break
        else:
            part = file.members[0].part if file.members else files.index(file) + 1
            raise wrong_kind(part)
    return found


def wrong_kind(part: int) -> BadInput:
    return BadInput(
        f"file {part} is no official file of this kind; check --kind, or download it again", code="REFERENCE_WRONG_KIND"
    )


def unknown_version() -> BadInput:
    return BadInput(
        "neither the names nor the contents say from when the table is in force; keep the official names, or give"
        " --version and --effective-from",
        code="REFERENCE_VERSION_UNKNOWN",
    )
