"""The ledger's tables (schema `audit`), for reading. Rows get there through audit.append() alone (migration 0002)."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TIMESTAMP, UUID

metadata = sa.MetaData(schema="audit")

#: Number of hash chains; the chain of a row follows from its idempotency key.
CHAINS = 16

#: One row per event. payload (RFC 8785 bytes) is what is hashed, the other columns repeat it for searching.
rows = sa.Table(
    "rows",
    metadata,
    sa.Column("chain", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("event_id", UUID(as_uuid=False), nullable=False),
    sa.Column("idempotency_key", sa.Text, nullable=False),
    sa.Column("recorded_at", TIMESTAMP(timezone=True), nullable=False),
    sa.Column("occurred_at", TIMESTAMP(timezone=True), nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("on_behalf_of", sa.Text),
    sa.Column("practice", sa.Text, nullable=False),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("resource", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("intent", UUID(as_uuid=False)),
    sa.Column("dag_id", sa.Text),
    sa.Column("run_id", sa.Text),
    sa.Column("task_id", sa.Text),
    sa.Column("map_index", sa.Integer),
    sa.Column("try_number", sa.Integer),
    sa.Column("subject_token", sa.Text),
    sa.Column("source_hash", sa.Text),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Column("prev_hash", sa.LargeBinary, nullable=False),
    sa.Column("row_hash", sa.LargeBinary, nullable=False),
)

#: The last row of each chain; locked while a row is appended.
heads = sa.Table(
    "heads",
    metadata,
    sa.Column("chain", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("row_hash", sa.LargeBinary, nullable=False),
)

#: Copies of the checkpoints; those that count lie in write-once storage (medbill.audit.worm).
checkpoints = sa.Table(
    "checkpoints",
    metadata,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("stored_at", TIMESTAMP(timezone=True), nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
)


def unended() -> sa.ColumnElement[bool]:
    """Of a row: it is an intent, and no row says how it ended."""
    other = rows.alias()
    return sa.and_(rows.c.outcome == "intent", ~sa.exists().where(other.c.intent == rows.c.event_id))


def number(chain: int, seq: int) -> int:
    """The number a row is spoken of by: unique in the ledger, rising within its chain."""
    return seq * CHAINS + chain
