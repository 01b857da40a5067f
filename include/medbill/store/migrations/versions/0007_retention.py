"""Retention: a secret of its own for every sealed object, what was purged, and tokens of purged published versions.

Objects sealed before stay readable under their practice's data key alone; purging those deletes the object only.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_PURGED = (("inbox_files", "purged_at"), ("quarantine", "purged_at"), ("partitions", "landed_purged_at"))


def upgrade() -> None:
    for table, column in _PURGED:
        op.add_column(table, sa.Column(column, postgresql.TIMESTAMP(timezone=True)), schema="medbill")
    op.create_table(
        "object_secrets",
        sa.Column("practice", sa.Text(), nullable=False),
        sa.Column("zone", sa.Text(), nullable=False),
        sa.Column("context", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("practice", "zone", "context"),
        schema="medbill",
    )
    op.create_table(
        "token_traces",
        sa.Column("practice", sa.Text(), nullable=False),
        sa.Column("claim_token", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("practice", "claim_token", "token"),
        schema="medbill",
    )
    op.create_index("token_traces_token", "token_traces", ["practice", "token"], schema="medbill")


def downgrade() -> None:
    op.drop_table("token_traces", schema="medbill")
    op.drop_table("object_secrets", schema="medbill")
    for table, column in _PURGED:
        op.drop_column(table, column, schema="medbill")
