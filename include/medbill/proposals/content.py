"""What a proposal is, byte for byte: canonical content, its hash, and ids that follow from it.

A decision is bound to the hash of the RFC 8785 (JSON Canonicalization Scheme) form of kind, claim token and payload, so
the same content has the same hash on every machine and nothing else can be applied under it.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

from medbill.errors import BadInput

_NAMESPACE = uuid.UUID("6f1d5a0e-0b57-5c1e-9b1a-2f6f0d3a7c11")
_TOKEN = re.compile(r"\[[A-Z_]+_[0-9A-Z]+\]")


def plain(value: Any) -> Any:
    """JSON form of a value: amounts and dates as strings, no floats. Raises BadInput for anything else."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, dict) and all(isinstance(k, str) for k in value):
        return {k: plain(v) for k, v in value.items()}
    raise BadInput(
        f"a payload may not hold {type(value).__name__}; amounts are decimals or strings", code="BAD_PAYLOAD"
    )


def canonical(kind: str, claim_token: str, payload: dict[str, Any]) -> bytes:
    """The RFC 8785 bytes of a proposal's content. Raises BadInput where it has no such form."""
    import rfc8785

    try:
        return rfc8785.dumps({"kind": kind, "claim_token": claim_token, "payload": plain(payload)})
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise BadInput("a payload holds a number or text without canonical form", code="BAD_PAYLOAD") from error


def content_hash(kind: str, claim_token: str, payload: dict[str, Any]) -> str:
    """SHA-256 (hex) of the canonical content: what a decision is bound to."""
    return hashlib.sha256(canonical(kind, claim_token, payload)).hexdigest()


def proposal_id(practice: str, kind: str, business_key: str, revision: int = 1) -> str:
    """UUIDv5 of practice, kind and business key; a proposal that supersedes a decided one has a revision above 1."""
    return _uuid(practice, kind, business_key, *([str(revision)] if revision > 1 else []))


def idempotency_key(proposal: str, action: str, content: str) -> str:
    """UUIDv5 of proposal id, action and content hash: the same through every retry, another after an edit."""
    return _uuid(proposal, action, content)


def tokens(value: Any) -> Iterator[str]:
    """Every vault token in a JSON value, in order, with repetitions."""
    if isinstance(value, str):
        yield from _TOKEN.findall(value)
    elif isinstance(value, dict):
        for v in value.values():
            yield from tokens(v)
    elif isinstance(value, list | tuple):
        for v in value:
            yield from tokens(v)


def _uuid(*parts: str) -> str:
    import rfc8785

    return str(uuid.uuid5(_NAMESPACE, rfc8785.dumps(list(parts)).decode()))
