"""apply_proposals: approved proposals go to the platform through the outbox."""

from __future__ import annotations

from medbill.pipelines.context import Context
from medbill.platforms.base import Writer
from medbill.proposals import lifecycle, outbox
from medbill.proposals.outbox import DispatchResult
from medbill.store import db


def apply(ctx: Context, practice: str, writer: Writer) -> DispatchResult:
    """Expire what is out of date, then send everything approved; each act is in the ledger."""
    with db.transaction(ctx.db) as connection:
        lifecycle.expire(connection, practice)
    return outbox.dispatch(ctx.db, practice, writer, ctx.vault(practice), ctx.ledger)
