"""The egress guard: every payload that leaves (to a model, a platform's free text, lineage, a report) passes it.

It reads the payload in every way a reader could (egress_text), looks for identifiers that are certain by their form
(egress_patterns), for every value the practice's vault knows (egress_values) and for damaged tokens, and refuses on any
of them. What it cannot read within bounds it refuses too. A refusal is a row in the ledger, with kinds and counts only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from medbill.audit.ledger import Event, Ledger
from medbill.deid import egress_patterns as patterns
from medbill.deid.egress_text import BARRIER, Reading, TooComplex, folded, layers, texts, words
from medbill.deid.egress_values import STRONG, Forms, KnownValues, VaultSource, counted
from medbill.deid.text.errors import TextTooHard
from medbill.deid.vault import Vault
from medbill.errors import MedbillError

PATTERN = "EGRESS_PATTERN"
KNOWN_VALUE = "EGRESS_KNOWN_VALUE"
DAMAGED = "EGRESS_TOKEN"
TOO_COMPLEX = "EGRESS_TOO_COMPLEX"

_PIECE, _SHARED = 60_000, 1_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,119}")


class EgressRefused(MedbillError):
    """A payload was not let out. findings: kinds and counts; nothing of the payload is in it."""

    code = "EGRESS_REFUSED"

    def __init__(self, message: str, *, code: str, findings: Findings) -> None:
        super().__init__(message, code=code)
        self.findings = findings


@dataclass(frozen=True)
class Findings:
    """How many of which kinds were found in a payload; known: values of the vault, by vault kind."""

    patterns: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)
    damaged_tokens: int = 0
    unreadable: bool = False

    @property
    def code(self) -> str | None:
        """The reason for which a payload with these findings is refused; None: it may go."""
        if self.known:
            return KNOWN_VALUE
        if self.patterns:
            return PATTERN
        if self.damaged_tokens:
            return DAMAGED
        return TOO_COMPLEX if self.unreadable else None


class Values(Protocol):
    """What the guard needs of KnownValues."""

    practice: str

    def current(self) -> Forms: ...

    def refresh(self) -> None: ...


class Recorder(Protocol):
    """What the guard needs of the ledger."""

    def record(self, event: Event, outcome: str = "success") -> int: ...


class Guard:
    """The guard of one practice; one per process, any number of threads.

    public: texts that are no identifiers by the practice's policy although the vault may know the like: names and
    telephone numbers of payers, the practice's own. What lies wholly inside one of them is let through.
    """

    def __init__(self, values: Values, ledger: Recorder, public: Iterable[str] = ()) -> None:
        self._values = values
        self._ledger = ledger
        self._public = Forms()
        phrases = {"".join(words(folded(text))) for text in public}
        self._public.add([("PUBLIC", [(phrase, STRONG) for phrase in sorted(phrases) if len(phrase) > 3])])

    @staticmethod
    def of(vault: Vault, ledger: Ledger, public: Iterable[str] = (), max_age: float = 5.0) -> Guard:
        """The guard of a vault's practice. max_age: seconds until values new in the vault are known at the latest."""
        return Guard(KnownValues(VaultSource(vault, ledger), max_age), ledger, public)

    def refresh(self) -> None:
        """Know at once what has just come into the vault, without waiting for max_age."""
        self._values.refresh()

    def check(self, payload: object, *, destination: str, purpose: str) -> None:
        """Return where the payload may go out; raise EgressRefused where not, after a ledger row.

        payload: text, bytes, or anything JSON can say. destination: where it goes, e.g. "model:gpt" or
        "platform:drchrono"; purpose: as in the ledger (payment, operations, ...). Both are names, never data (ValueError).
        Raises StoreUnavailable, KeyUnavailable or TamperedData where the vault cannot be asked, LedgerUnavailable where
        the ledger cannot be written: in every case the payload stays.
        """
        if not _NAME.fullmatch(destination) or not _NAME.fullmatch(purpose):
            raise ValueError("destination and purpose are names of letters, figures and ._:/@-")
        found = self.inspect(payload)
        if found.code is None:
            return
        kinds = found.known + found.patterns
        self._ledger.record(
            Event(
                action="execute",
                kind="egress.refuse",
                purpose=purpose,
                practice=self._values.practice,
                resource=destination,
                details={
                    "code": found.code,
                    "kinds": sorted(kinds),
                    "counts": [kinds[kind] for kind in sorted(kinds)],
                    "damaged_tokens": found.damaged_tokens,
                },
            ),
            "failure",
        )
        raise EgressRefused(_message(found), code=found.code, findings=found)

    def inspect(self, payload: object) -> Findings:
        """What is in a payload, without refusing or recording: for a quality gate that samples published data.

        A value found in several readings of the payload counts once per reading. Raises as check() for vault and keys.
        """
        forms = self._values.current()
        known: Counter[str] = Counter()
        certain: Counter[str] = Counter()
        damaged = 0
        try:
            for text in _grouped(texts(payload)):
                for layer, bad in layers(text):
                    damaged += bad
                    for part in _parts(folded(layer)):
                        self._search(part, forms, known, certain)
        except (TooComplex, TextTooHard):
            return Findings(certain, known, damaged, unreadable=True)
        return Findings(certain, known, damaged)

    def _search(self, part: str, forms: Forms, known: Counter[str], certain: Counter[str]) -> None:
        reading = Reading(part)
        hits = forms.find(reading) if len(forms) else []
        covered = self._covered(reading)
        if covered:
            hits = [hit for hit in hits if not any(a <= hit.first and hit.last <= b for a, b in covered)]
        if hits:
            known.update(counted(reading, hits))
        spans = [(reading.places[a][0], reading.places[b][1]) for a, b in covered]
        for kind, start, end in patterns.find(reading.text):
            # an opening bracket or plus sign before a public number is not part of its pieces
            if not any(a - 2 <= start and end <= b for a, b in spans):
                certain[kind] += 1

    def _covered(self, reading: Reading) -> list[tuple[int, int]]:
        return [(hit.first, hit.last) for hit in self._public.find(reading)] if len(self._public) else []


def _grouped(all_texts: Iterable[str]) -> Iterator[str]:
    """Short texts together, as one search each costs more than the texts."""
    group: list[str] = []
    size = 0
    for text in all_texts:
        group.append(text)
        size += len(text)
        if size > _PIECE // 2:
            yield BARRIER.join(group)
            group, size = [], 0
    if group:
        yield BARRIER.join(group)


def _parts(text: str) -> Iterator[str]:
    """Parts of a long text that overlap, so that nothing is cut in two and every pattern stays quick."""
    if len(text) <= _PIECE:
        yield text
        return
    for start in range(0, len(text), _PIECE - _SHARED):
        yield text[start : start + _PIECE]


def _message(found: Findings) -> str:
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted((found.known + found.patterns).items()))
    if found.code == DAMAGED:
        return (
            f"{found.damaged_tokens} damaged token(s) in an outgoing payload; it was not sent: make the payload again"
        )
    if found.code == TOO_COMPLEX:
        return "an outgoing payload cannot be read within bounds (binary, compressed or encoded many times); not sent"
    where = "values of the vault" if found.code == KNOWN_VALUE else "identifiers"
    return f"{where} in an outgoing payload ({kinds}); it was not sent: de-identify what it is made of"
