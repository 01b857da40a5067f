"""Payments by identity, so that one that is sent again in other bytes is posted once.

Files that landed before this revision are entered by the next scan of their practice's inbox.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "payments",
        sa.Column("practice", sa.Text(), nullable=False),
        sa.Column("remittance_key", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("file_sha256", sa.Text(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("posted", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("practice", "remittance_key"),
        sa.ForeignKeyConstraint(
            ["practice", "file_sha256"],
            ["medbill.inbox_files.practice", "medbill.inbox_files.sha256"],
            name="payments_file",
            ondelete="CASCADE",
        ),
        schema="medbill",
    )
    op.create_index("payments_identity", "payments", ["practice", "identity"], schema="medbill")
    op.create_index("payments_of_file", "payments", ["practice", "file_sha256"], schema="medbill")


def downgrade() -> None:
    op.drop_table("payments", schema="medbill")
