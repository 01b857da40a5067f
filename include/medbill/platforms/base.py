"""What every billing platform adapter offers, and how sure we are of each of its operations."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import pyarrow as pa

from medbill.errors import PlatformError
from medbill.model.claims import CLAIM_LINES, CLAIMS, NOTES

if TYPE_CHECKING:
    from medbill.platforms.budget import Calls
    from medbill.platforms.circuit import Circuit
    from medbill.platforms.extraction import ExtractionPolicy
    from medbill.platforms.oauth import TokenStore


class Certainty(StrEnum):
    """Where our knowledge of an operation comes from. Nothing here was checked by us against a live vendor service."""

    SPEC = "spec"  # the vendor's own specification or guide
    SEEN = "seen"  # somebody else says it was checked against the live service
    CODE = "code"  # integration code of others
    GUESS = "guess"  # inference; configurable where it matters


@dataclass(frozen=True)
class Operation:
    """One thing an adapter can do on its platform: the request it makes and how certain its shape is."""

    request: str
    certainty: Certainty
    note: str = ""


@dataclass(frozen=True)
class WriteBack:
    """One approved thing a platform is to keep, whatever form the platform gives it.

    action: one of the adapter's actions. claim_id: as extracted. title: one line without an identifier. text: the body; it
    may name the claim, its lines and the payment. priority: 10 low, 20 medium, 30 high, 40 urgent. owed_since: no record of
    it can be older than this day.
    """

    idempotency_key: str
    action: str
    claim_id: str
    title: str
    text: str = field(repr=False)
    priority: int = 20
    due_on: date | None = None
    owed_since: date | None = None


@dataclass(frozen=True)
class Receipt:
    """What the platform answered to a write: ids only, safe to store and log."""

    platform: str
    action: str
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
    theirs is unreadable, counted by reason code. unknown: codes of the vendor we have no name for, counted by field; their
    claims are in tables, with the field empty."""

    tables: dict[str, pa.Table]
    notes: pa.Table = field(default_factory=NOTES.empty_table)
    refused: Mapping[str, int] = field(default_factory=dict)
    unknown: Mapping[str, int] = field(default_factory=dict)

    @staticmethod
    def of(
        claims: list[dict[str, Any]],
        lines: list[dict[str, Any]],
        notes: list[dict[str, Any]],
        refused: Mapping[str, int],
        unknown: Mapping[str, int] = MappingProxyType({}),
    ) -> Extraction:
        """From rows of CLAIMS, CLAIM_LINES and NOTES."""
        return Extraction(
            {
                "claims": pa.Table.from_pylist(claims, schema=CLAIMS),
                "claim_lines": pa.Table.from_pylist(lines, schema=CLAIM_LINES),
            },
            pa.Table.from_pylist(notes, schema=NOTES),
            dict(refused),
            {name: count for name, count in unknown.items() if count},
        )


class ClaimSource(Protocol):
    """A platform that can be asked for the claims a practice billed."""

    @property
    def name(self) -> str: ...

    @property
    def scope(self) -> Mapping[str, tuple[str, ...]]:
        """Object -> the fields an extraction keeps of it, as the policy says: for the ledger."""
        ...

    def extract(self, start: date, end: date) -> Extraction:
        """The claims of service dates start..end, both included, and how many were left out for what reason.

        Raises PlatformError where the platform does not answer or answers nonsense.
        """
        ...


class Writer(Protocol):
    """A platform that keeps what people approved.

    write() raises PlatformError where the platform surely did not take it, and PlatformUnknownOutcome where it may have:
    then find() tells, because every record carries `medbill:<idempotency key>`. Nothing is sent twice by an adapter.
    find() gives None where there is no such record, and raises PlatformError where that cannot be told.
    """

    @property
    def name(self) -> str: ...

    def write(self, write_back: WriteBack) -> Receipt: ...

    def find(self, write_back: WriteBack) -> Receipt | None: ...


class Platform(ClaimSource, Writer, Protocol):
    """A whole adapter over one practice's account; to be closed, or used in a with statement."""

    def check(self) -> None:
        """The smallest read that needs network, credentials and rights; raises PlatformError where one of them fails."""
        ...

    def close(self) -> None: ...


class Client(ABC):
    """What the adapters' clients have in common. platform: its name; extracted: the objects an extraction reads."""

    platform: ClassVar[str]
    extracted: ClassVar[tuple[str, ...]]
    _policy: ExtractionPolicy

    @property
    def name(self) -> str:
        return self.platform

    @property
    def scope(self) -> Mapping[str, tuple[str, ...]]:
        """As ClaimSource says."""
        return {name: tuple(sorted(self._policy.fields.get(name, ()))) for name in self.extracted}

    @abstractmethod
    def close(self) -> None:
        """Give up connections and what is remembered of records."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Setup:
    """What an adapter is opened with.

    connection: host (base URL), login, password and the platform's own entries. policies: folder of extraction.yml.
    tokens, calls, circuit: state shared by all workers that use this account.
    """

    connection: Mapping[str, Any] = field(repr=False)
    policies: Path
    tokens: TokenStore
    calls: Calls
    circuit: Circuit

    def needs(self, *names: str) -> list[str]:
        """Entries of the connection. Raises PlatformError PLATFORM_CREDENTIALS where one is missing."""
        missing = [name for name in names if not self.connection.get(name)]
        if missing:
            raise PlatformError(f"the connection lacks {', '.join(missing)}", code="PLATFORM_CREDENTIALS")
        return [str(self.connection[name]) for name in names]

    @property
    def base_url(self) -> str:
        """scheme://host[:port]; https unless the connection says otherwise."""
        (url,) = self.needs("host")
        if self.connection.get("port"):
            url = f"{url}:{self.connection['port']}"
        return url if "://" in url else f"{self.connection.get('schema') or 'https'}://{url}"


@dataclass(frozen=True)
class Adapter:
    """A platform as medbill knows it, without an account. actions: proposal kind -> what it becomes there, in the order in
    which it is sent; "*" stands for every kind not named. capabilities: anything absent it cannot."""

    name: str
    open: Callable[[Setup], Platform]
    capabilities: Mapping[str, Operation]
    actions: Mapping[str, tuple[str, ...]]

    def actions_for(self, kind: str) -> tuple[str, ...]:
        return self.actions.get(kind, self.actions["*"])


_REFERENCE = "medbill:"
_KEY = re.compile(r"[A-Za-z0-9._-]{8,100}")


def reference(idempotency_key: str) -> str:
    """The line every written record carries, so that it can be found again on a platform without idempotency keys.

    Raises ValueError for a key a platform might not keep as it is.
    """
    if not _KEY.fullmatch(idempotency_key):
        raise ValueError("an idempotency key has 8 to 100 letters, digits, dots, dashes or underscores")
    return f"{_REFERENCE}{idempotency_key}"


def is_reference(line: str) -> bool:
    """Whether a line of a text is such a line: medbill wrote that text."""
    return line.strip().startswith(_REFERENCE)


def carries(text: str, ref: str) -> bool:
    """Whether a text has the reference as a line of its own."""
    return any(line.strip() == ref for line in text.splitlines())
