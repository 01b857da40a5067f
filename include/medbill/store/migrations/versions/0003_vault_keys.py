"""The vault's key rotation and shredding, and the tokens issued to a run.

Values stored before this revision have no secret of their own; rotating the vault's keys gives them one.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in (
        sa.Column("index_version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("own_secret", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("shredded_at", postgresql.TIMESTAMP(timezone=True)),
    ):
        op.add_column("vault_tokens", column, schema="medbill")
    op.create_table(
        "vault_secrets",
        sa.Column("practice", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("practice", "token"),
        schema="medbill",
    )
    op.create_table(
        "vault_state",
        sa.Column("practice", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("practice"),
        schema="medbill",
    )
    op.create_table(
        "token_grants",
        sa.Column("practice", sa.Text(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("expires_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("practice", "run", "purpose", "token"),
        schema="medbill",
    )
    op.create_index("token_grants_expiry", "token_grants", ["expires_at"], schema="medbill")
