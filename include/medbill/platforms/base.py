"""What every billing platform adapter offers, and how sure we are of each of its operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Protocol

import pyarrow as pa

from medbill.model.claims import NOTES


class Certainty(StrEnum):
    """Where our knowledge of an operation comes from. Nothing here was checked against a live vendor service."""

    SPEC = "spec"  # the vendor's own specification
    CODE = "code"  # integration code of others
    GUESS = "guess"  # inference; configurable where it matters


@dataclass(frozen=True)
class Operation:
    """One thing an adapter can do on its platform: the request it makes and how certain its shape is."""

    request: str
    certainty: Certainty
    note: str = ""


@dataclass(frozen=True)
class Receipt:
    """What the platform answered to a write: ids only, safe to store and log."""

    platform: str
    action: str  # task, claim_billing_note
    platform_id: str
    reference: str  # medbill:<idempotency key>, as found in the platform's record

    def as_dict(self) -> dict[str, str]:
        return {
            "platform": self.platform,
            "action": self.action,
            "platform_id": self.platform_id,
            "reference": self.reference,
        }


@dataclass(frozen=True)
class Extraction:
    """tables: CLAIM_TABLES. notes: NOTES, the free text of these claims. refused: claims left out because a record of
    theirs is unreadable, counted by reason code."""

    tables: dict[str, pa.Table]
    notes: pa.Table = field(default_factory=NOTES.empty_table)
    refused: Mapping[str, int] = field(default_factory=dict)


class ClaimSource(Protocol):
    """A platform that can be asked for the claims a practice billed."""

    @property
    def name(self) -> str: ...

    def extract(self, start: date, end: date) -> Extraction:
        """The claims of service dates start..end, both included, and how many were left out for what reason.

        Raises PlatformError where the platform does not answer or answers nonsense.
        """
        ...


class Writer(Protocol):
    """A platform that takes tasks and claim notes.

    A write raises PlatformError where the platform surely did not take it, and PlatformUnknownOutcome where it may
    have: then find_* tells, because every record carries `medbill:<idempotency key>`. Nothing is sent twice by an adapter.
    """

    @property
    def name(self) -> str: ...

    def write_task(
        self,
        *,
        idempotency_key: str,
        claim_id: str,
        title: str,
        text: str,
        priority: int = 20,
        due_on: date | None = None,
    ) -> Receipt: ...

    def write_claim_note(self, *, idempotency_key: str, claim_id: str, text: str) -> Receipt: ...

    def find_task(self, idempotency_key: str, *, since: date | None = None) -> Receipt | None: ...

    def find_claim_note(self, idempotency_key: str, *, claim_id: str) -> Receipt | None: ...


class Platform(ClaimSource, Writer, Protocol):
    """A whole adapter; capabilities names what it can do, anything absent it cannot."""

    @property
    def capabilities(self) -> Mapping[str, Operation]: ...


_REFERENCE = "medbill:"


def reference(idempotency_key: str) -> str:
    """The line every written record carries, so that it can be found again on a platform without idempotency keys."""
    return f"{_REFERENCE}{idempotency_key}"


def is_reference(line: str) -> bool:
    """Whether a line of a text is such a line: medbill wrote that text."""
    return line.strip().startswith(_REFERENCE)
