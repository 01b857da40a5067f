"""Finding rows of the ledger: by claim, token, actor, purpose, time, run, proposal, or what an answer of a model left."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from medbill.audit.tables import number, rows
from medbill.store import db as store

#: What audit.terms() gives of a row (migration 0005): known details as key=value, and tokens in the details.
_terms = sa.func.audit.terms(rows.c.payload, type_=ARRAY(sa.Text))


@dataclass(frozen=True)
class Search:
    """All that is set must hold. subject: the row's own token. token: that, or one in its details. actor: the service or
    the person. kind: a trailing * matches all that begin so. proposal: its id, or the hash of its content (the source of
    rows about proposals, a known detail of others).
    details: of the known keys, e.g. {"model": "..."}; since and until: recorded at or after, and before."""

    subject: str | None = None
    token: str | None = None
    actor: str | None = None
    purpose: str | None = None
    practice: str | None = None
    dag: str | None = None
    run: str | None = None
    kind: str | None = None
    outcome: str | None = None
    proposal: str | None = None
    details: Mapping[str, str] | None = None
    since: datetime | None = None
    until: datetime | None = None

    def query(self) -> sa.Select[Any]:
        query = sa.select(rows)
        for column, value in (
            (rows.c.purpose, self.purpose),
            (rows.c.practice, self.practice),
            (rows.c.dag_id, self.dag),
            (rows.c.run_id, self.run),
            (rows.c.subject_token, self.subject),
            (rows.c.outcome, self.outcome),
        ):
            if value is not None:
                query = query.where(column == value)
        if self.token is not None:
            query = query.where(sa.or_(rows.c.subject_token == self.token, _has(self.token)))
        if self.actor is not None:
            query = query.where(sa.or_(rows.c.actor == self.actor, rows.c.on_behalf_of == self.actor))
        if self.kind is not None:
            start = self.kind.removesuffix("*")
            same = rows.c.kind == start
            query = query.where(rows.c.kind.startswith(start, autoescape=True) if start != self.kind else same)
        if self.proposal is not None:
            its = sa.or_(rows.c.resource == f"proposal:{self.proposal}", rows.c.source_hash == self.proposal)
            about = sa.and_(sa.func.left(rows.c.resource, 9) == "proposal:", its)
            query = query.where(sa.or_(about, _has(f"proposal_hash={self.proposal}")))
        for key, value in (self.details or {}).items():
            query = query.where(_has(f"{key}={value}"))
        if self.since is not None:
            query = query.where(rows.c.recorded_at >= _utc(self.since))
        if self.until is not None:
            query = query.where(rows.c.recorded_at < _utc(self.until))
        return query


def newest(db: sa.Engine, search: Search, limit: int) -> list[Mapping[Any, Any]]:
    """At most `limit` rows, the newest, oldest first."""
    query = search.query().order_by(rows.c.recorded_at.desc(), rows.c.chain.desc(), rows.c.seq.desc()).limit(limit)
    with store.transaction(db) as connection:
        return list(reversed(connection.execute(query).mappings().all()))


def stream(db: sa.Engine, search: Search) -> Iterator[Mapping[Any, Any]]:
    """All rows, oldest first, in constant memory."""
    query = search.query().order_by(rows.c.recorded_at, rows.c.chain, rows.c.seq).execution_options(yield_per=1000)
    with store.transaction(db) as connection:
        yield from connection.execute(query).mappings()


def as_dict(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row as it is shown: its number, when it was recorded, and its payload as it is hashed."""
    return {
        "number": number(row["chain"], row["seq"]),
        "chain": row["chain"],
        "seq": row["seq"],
        "recorded_at": row["recorded_at"].astimezone(UTC).isoformat(timespec="microseconds"),
        **json.loads(bytes(row["payload"])),
    }


def _has(term: str) -> sa.ColumnElement[bool]:
    # the second condition is the index's own
    return sa.and_(_terms.contains([term]), _terms != sa.literal_column("'{}'::text[]"))


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
