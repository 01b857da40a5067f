"""A checkpoint: the ledger's sixteen chains up to where they stood, in one signed line that links to the one before.

Two lines of ASCII: the body as RFC 8785 JSON, and the Ed25519 signature over the domain and the body, in hexadecimal.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Protocol

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from medbill.audit.merkle import Tree
from medbill.audit.tables import CHAINS
from medbill.errors import TamperedData

_FORMAT = "medbill.audit.checkpoint.v1"
_SIGNED = b"medbill.audit.checkpoint.v1\n"
_TAKES_OVER = b"medbill.audit.successor.v1\n"


class Signs(Protocol):
    @property
    def public(self) -> bytes: ...
    def sign(self, message: bytes) -> bytes: ...


@dataclass(frozen=True)
class Sealed:
    """Where a chain stood: seq and hash of its last row, and the root over its rows since the checkpoint before."""

    seq: int
    head: bytes
    rows: bytes


@dataclass(frozen=True)
class Checkpoint:
    """number: from 1, without gaps. previous: digest of the one before, None for the first. sealed_at: the database's
    clock. root: over the sixteen chains. signer: its Ed25519 public key. content: the stored bytes. successor: the public
    key that signs from the next one on; None where the signer stays."""

    number: int
    sealed_at: datetime
    previous: bytes | None
    chains: tuple[Sealed, ...]
    root: bytes
    signer: bytes
    content: bytes
    successor: bytes | None = None

    @property
    def next_signer(self) -> bytes:
        """The key that must sign the checkpoint after this one."""
        return self.successor or self.signer

    @property
    def digest(self) -> bytes:
        return sha256(self.content).digest()

    @property
    def rows(self) -> int:
        """Rows sealed by this checkpoint and all before it."""
        return sum(chain.seq for chain in self.chains)

    @property
    def name(self) -> str:
        return name(self.number)


def name(number: int) -> str:
    """What a checkpoint is called in storage."""
    return f"{number:010d}.checkpoint"


def leaf(row_hash: bytes) -> bytes:
    """Of a row in its chain's tree. The row's hash covers its chain, seq, time and payload."""
    return b"medbill.audit.row.v1" + row_hash


def root(before: Sequence[int], chains: Sequence[Sealed]) -> bytes:
    """Over the sixteen chains: from which seq to which, the hash of the last row, the root over the rows between."""
    tree = Tree()
    for chain, (start, sealed) in enumerate(zip(before, chains, strict=True)):
        numbers = struct.pack(">qqq", chain, start, sealed.seq)
        tree.add(b"medbill.audit.head.v1" + numbers + sealed.head + sealed.rows)
    return tree.root()


def make(
    previous: Checkpoint | None,
    sealed_at: datetime,
    chains: Sequence[Sealed],
    signer: Signs,
    successor: Signs | None = None,
) -> Checkpoint:
    """The checkpoint that follows `previous`, signed. A successor takes over with the next one: the signer names its key,
    and the successor signs that it takes over here, from this signer."""
    before = [0] * CHAINS if previous is None else [chain.seq for chain in previous.chains]
    body: dict[str, Any] = {
        "format": _FORMAT,
        "number": 1 if previous is None else previous.number + 1,
        "previous": None if previous is None else previous.digest.hex(),
        "sealed_at": sealed_at.astimezone(UTC).isoformat(timespec="microseconds"),
        "chains": [{"seq": c.seq, "head": c.head.hex(), "rows": c.rows.hex()} for c in chains],
        "root": root(before, chains).hex(),
        "signer": signer.public.hex(),
    }
    if successor is not None:
        body["successor"] = {"key": successor.public.hex(), "proof": successor.sign(_takes_over(body)).hex()}
    line = rfc8785.dumps(body)
    return parse(line + b"\n" + signer.sign(_SIGNED + line).hex().encode() + b"\n")


def parse(content: bytes) -> Checkpoint:
    """A checkpoint whose signature is that of the signer it names; whether that is the right one, the caller decides.

    Raises TamperedData with code CHECKPOINT_FORGED for anything else.
    """
    try:
        line, signature, rest = content.split(b"\n")
        body: dict[str, Any] = json.loads(line)
        if rest or body["format"] != _FORMAT or rfc8785.dumps(body) != line or len(body["chains"]) != CHAINS:
            raise ValueError
        found = Checkpoint(
            number=int(body["number"]),
            sealed_at=datetime.fromisoformat(body["sealed_at"]),
            previous=None if body["previous"] is None else _digest(body["previous"]),
            chains=tuple(Sealed(int(c["seq"]), _digest(c["head"]), _digest(c["rows"])) for c in body["chains"]),
            root=_digest(body["root"]),
            signer=_digest(body["signer"]),
            content=content,
            successor=_successor(body),
        )
        if found.sealed_at.tzinfo is None:
            raise ValueError
        Ed25519PublicKey.from_public_bytes(found.signer).verify(bytes.fromhex(signature.decode()), _SIGNED + line)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InvalidSignature):
        raise TamperedData(
            "a checkpoint is malformed or its signature does not fit", code="CHECKPOINT_FORGED"
        ) from None
    return found


def _takes_over(body: dict[str, Any]) -> bytes:
    """What a successor signs: which checkpoint of which history names it, and whose successor it is."""
    return _TAKES_OVER + rfc8785.dumps({name: body[name] for name in ("number", "previous", "root", "signer")})


def _successor(body: dict[str, Any]) -> bytes | None:
    if "successor" not in body:
        return None
    key = _digest(body["successor"]["key"])
    Ed25519PublicKey.from_public_bytes(key).verify(bytes.fromhex(body["successor"]["proof"]), _takes_over(body))
    if key == _digest(body["signer"]):
        raise ValueError
    return key


def _digest(text: str) -> bytes:
    value = bytes.fromhex(text)
    if len(value) != 32:
        raise ValueError
    return value
