"""The checkpoints in write-once storage, read and held against each other and against the database's copies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from medbill.audit import checkpoint as cp
from medbill.audit.checkpoint import Checkpoint
from medbill.audit.problems import Problem
from medbill.audit.tables import CHAINS
from medbill.audit.worm import Copy, Worm
from medbill.errors import TamperedData


@dataclass
class Anchored:
    """Checkpoints that stand, in order, and what is wrong with them or others. detached: numbers of those whose
    predecessor is missing."""

    checkpoints: list[Checkpoint] = field(default_factory=list)
    detached: set[int] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    contents: dict[int, bytes] = field(default_factory=dict)

    def compare(self, copies: Mapping[int, bytes], anchor: Anchor) -> None:
        """Hold the database's copies against the storage: whatever either administrator took away, the other has."""
        newest = max(self.contents, default=0)
        since = {_number(copy): copy.content for copy in anchor.store.copies(cp.name(newest))}  # made since read()
        stored = self.contents | since
        for number, content in sorted(copies.items()):
            if number not in stored:
                self._problem(
                    "CHECKPOINT_MISSING", f"the database has a copy of checkpoint {number}, the storage has none"
                )
            elif stored[number] != content:
                self._problem("CHECKPOINT_FORKED", f"checkpoint {number} and the database's copy of it differ")
        lost = [number for number in self.contents if number not in copies and number != newest]
        if lost:
            self.warnings.append(
                Problem(
                    "COPY_MISSING", None, f"the database has no copy of {len(lost)} checkpoint(s), first {min(lost)}"
                )
            )

    def _problem(self, code: str, message: str) -> None:
        self.problems.append(Problem(code, None, message))


@dataclass(frozen=True)
class Anchor:
    """Where checkpoints are. public_key: of a signer, 32 bytes: the first, or one that took over; None trusts the first
    checkpoint's."""

    store: Worm
    public_key: bytes | None = None

    def read(self) -> Anchored:
        """All checkpoints: numbers, signatures, signer, links, and that no chain goes back."""
        found = Anchored()
        copies = [(copy, _parsed(copy)) for copy in self.store.copies()]
        signer = _first_signer([read for _, read in copies if read is not None], self.public_key)
        previous, expected = None, 1
        for copy, read in copies:
            number = _number(copy)
            found.contents[number] = copy.content
            if number != expected:
                missing = (
                    f"checkpoint {expected} is"
                    if number == expected + 1
                    else f"checkpoints {expected} to {number - 1} are"
                )
                found._problem("CHECKPOINT_MISSING", f"{missing} missing")
                previous = None
            expected = number + 1
            if copy.rewritten:
                found._problem(
                    "CHECKPOINT_FORKED", f"checkpoint {number} was written or deleted again; its first version counts"
                )
            if not copy.locked:
                found._problem("CHECKPOINT_UNLOCKED", f"checkpoint {number} is not kept from deletion for six years")
            if read is None:
                found._problem("CHECKPOINT_FORGED", f"checkpoint {number} is malformed or its signature does not fit")
                previous = None
                continue
            code = _wrong(read, number, previous, signer)
            if code is not None:
                found._problem(*code)
                if code[0] != "CHECKPOINT_FORKED":
                    previous = None
                    continue
            if previous is None and number > 1:
                found.detached.add(number)
            found.checkpoints.append(read)
            previous, signer = read, read.next_signer
        return found


def _parsed(copy: Copy) -> Checkpoint | None:
    try:
        return cp.parse(copy.content)
    except TamperedData:
        return None


def _first_signer(found: list[Checkpoint], pinned: bytes | None) -> bytes | None:
    """The key that must have signed the first checkpoint: its own where none is pinned, or where its own handed over, from
    one to the next, to the pinned one. Each of them signed that it takes over there: nobody else can name it."""
    if not found:
        return pinned
    signer = found[0].signer
    signers = {signer}
    for read in found:
        if read.signer == signer:
            signer = read.next_signer
            signers.add(signer)
    return found[0].signer if pinned is None or pinned in signers else pinned


def _number(copy: Copy) -> int:
    return int(copy.name.partition(".")[0])


def _wrong(read: Checkpoint, number: int, previous: Checkpoint | None, signer: bytes | None) -> tuple[str, str] | None:
    if read.signer != signer:
        return "SIGNER_CHANGED", f"checkpoint {number} is signed by another key"
    if read.number != number:
        return "CHECKPOINT_FORGED", f"checkpoint {number} says it is another one"
    if previous is None and number > 1:
        return None
    before = [0] * CHAINS if previous is None else [chain.seq for chain in previous.chains]
    if read.previous != (None if previous is None else previous.digest):
        return "CHECKPOINT_FORKED", f"checkpoint {number} does not follow the one before it"
    if any(chain.seq < start for chain, start in zip(read.chains, before, strict=True)):
        return "CHECKPOINT_FORKED", f"checkpoint {number} goes back behind the one before it"
    if read.root != cp.root(before, read.chains):
        return "CHECKPOINT_FORGED", f"checkpoint {number}: its root is not that of its chains"
    return None
