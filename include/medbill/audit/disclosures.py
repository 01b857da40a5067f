"""Accounting of disclosures, 45 CFR 164.528: to whom protected data of an individual was given, of the last six years.

A row is a disclosure where it ended well and names a recipient: in its details (`recipient`, with `recipient_address` and
`what`), or by being a write to a billing platform. The rule excludes disclosures for treatment, payment and operations
(164.528(a)(1)(i)) and those to the individual (ii); they can be included.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

import sqlalchemy as sa

from medbill.audit.find import Search, stream
from medbill.audit.tables import number

#: Purposes whose disclosures need not be accounted for.
EXEMPT = frozenset({"treatment", "payment", "operations", "individual"})
#: Years an accounting goes back.
YEARS = 6
_RECIPIENTS = {"proposal.apply": "platform"}  # kind -> the detail that names who got it


@dataclass(frozen=True)
class Disclosure:
    """One line of the accounting (164.528(b)(2)): date, recipient and its address where known, what, purpose; row: the
    ledger's number of it."""

    date: str
    recipient: str
    address: str | None
    what: str
    purpose: str
    subject: str
    row: int
    exempt: bool


def disclosures(
    db: sa.Engine,
    subjects: Sequence[str],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    include_exempt: bool = False,
) -> Iterator[Disclosure]:
    """The disclosures of the tokens of one individual (the person's and their claims'), token by token, oldest first."""
    search = Search(outcome="success", since=since or _six_years_ago(datetime.now(UTC)), until=until)
    seen: set[int] = set()
    for subject in subjects:
        for row in stream(db, replace(search, token=subject)):
            found = disclosure(row, subject)
            if found is not None and found.row not in seen and (include_exempt or not found.exempt):
                seen.add(found.row)
                yield found


def disclosure(row: Mapping[Any, Any], subject: str) -> Disclosure | None:
    """What a row says as a disclosure of the subject; None where it is none."""
    details: dict[str, Any] = json.loads(bytes(row["payload"])).get("details", {})
    recipient = details.get("recipient") or details.get(_RECIPIENTS.get(row["kind"], "recipient"))
    if not recipient:
        return None
    return Disclosure(
        date=row["recorded_at"].astimezone(UTC).date().isoformat(),
        recipient=str(recipient),
        address=details.get("recipient_address"),
        what=str(details.get("what") or f"{row['kind']} {row['resource']}"),
        purpose=row["purpose"],
        subject=subject,
        row=number(row["chain"], row["seq"]),
        exempt=row["purpose"] in EXEMPT,
    )


def _six_years_ago(now: datetime) -> datetime:
    day = date(now.year - YEARS, now.month, min(now.day, 28) if now.month == 2 else now.day)
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
