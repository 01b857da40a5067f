"""Our own work queue, for write-backs no platform takes by API."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "work_items",
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("practice", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("due_on", sa.Date()),
        sa.Column("status", sa.Text(), server_default="open", nullable=False),
        sa.Column("done_by", sa.Text()),
        sa.Column("done_at", postgresql.TIMESTAMP(timezone=True)),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("idempotency_key"),
        sa.ForeignKeyConstraint(["idempotency_key"], ["medbill.outbox.idempotency_key"]),
        schema="medbill",
    )
    op.create_index("work_items_status", "work_items", ["practice", "status"], schema="medbill")


def downgrade() -> None:
    op.drop_table("work_items", schema="medbill")
