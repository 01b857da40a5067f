"""apply_proposals: approved proposals go to the platform through the outbox."""

from __future__ import annotations

from collections.abc import Sequence

from medbill.deid import reidentify
from medbill.errors import TokenRefused
from medbill.lineage import facts
from medbill.lineage.datasets import dataset
from medbill.pipelines.context import Context
from medbill.platforms.base import Writer
from medbill.proposals import lifecycle, outbox, work
from medbill.proposals.outbox import DispatchResult
from medbill.store import db


class _WriteBack:
    """The vault as far as a write-back may look into it; outbox asks only for tokens of the approved content."""

    def __init__(self, ctx: Context, practice: str) -> None:
        self._vault = ctx.vault(practice)
        self._purpose = reidentify.load(ctx.settings.policies / "reidentification.yml")["write_back"]

    def reveal(self, tokens: Sequence[str]) -> dict[str, str]:
        if not all(self._purpose.covers(token) for token in tokens):
            raise TokenRefused("a write-back needs no token of this kind", code="TOKEN_PURPOSE")
        return self._vault.reveal(tokens)


def apply(ctx: Context, practice: str, writer: Writer) -> DispatchResult:
    """Expire what is out of date, then send everything approved; each act is in the ledger."""
    with db.transaction(ctx.db, practice) as connection:
        lifecycle.expire(connection, practice)
    done = outbox.dispatch(
        ctx.db, practice, work.OrByHand(writer, ctx.db, practice), _WriteBack(ctx, practice), ctx.ledger
    )
    facts.wrote(dataset("platform", "write_backs"), done.applied)
    return done
