"""Rate budgets and circuits of billing platforms, shared by all workers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "platform_budgets",
        sa.Column("practice", sa.Text(), nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("bucket", sa.Text(), nullable=False),
        sa.Column("calls", sa.ARRAY(sa.Double()), nullable=False),
        sa.PrimaryKeyConstraint("practice", "platform", "bucket"),
        schema="medbill",
    )
    op.create_table(
        "platform_circuits",
        sa.Column("practice", sa.Text(), nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("open_until", postgresql.TIMESTAMP(timezone=True)),
        sa.Column("error_code", sa.Text()),
        sa.Column(
            "updated_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("practice", "platform"),
        schema="medbill",
    )


def downgrade() -> None:
    op.drop_table("platform_circuits", schema="medbill")
    op.drop_table("platform_budgets", schema="medbill")
