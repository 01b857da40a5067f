"""Our own work queue: approved write-backs no platform takes by API wait here for a person to do them by hand.

An item holds no text: it points at its proposal, whose content is shown with tokens (`medbill proposals show`).
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from medbill.audit.people import require_person
from medbill.errors import DecisionRefused, PlatformError
from medbill.platforms.base import Receipt, WriteBack, Writer, reference
from medbill.store import db as store
from medbill.store.tables import outbox, work_items

ACTION = "work_item"


class OrByHand:
    """A platform's writer whose refusals by nature become work items: PLATFORM_READ_ONLY says that its API has no such write."""

    def __init__(self, platform: Writer, db: sa.Engine, practice: str) -> None:
        self._platform, self._db, self._practice = platform, db, practice

    @property
    def name(self) -> str:
        return self._platform.name

    def write(self, write_back: WriteBack) -> Receipt:
        if write_back.action != ACTION:
            try:
                return self._platform.write(write_back)
            except PlatformError as error:
                if error.code != "PLATFORM_READ_ONLY":
                    raise
        with store.transaction(self._db, self._practice) as connection:
            connection.execute(
                insert(work_items)
                .values(
                    idempotency_key=write_back.idempotency_key,
                    practice=self._practice,
                    title=write_back.title,
                    priority=write_back.priority,
                    due_on=write_back.due_on,
                )
                .on_conflict_do_nothing()
            )
        return self._receipt(write_back)

    def find(self, write_back: WriteBack) -> Receipt | None:
        with store.transaction(self._db, self._practice) as connection:
            there = connection.execute(
                sa.select(work_items.c.status).where(work_items.c.idempotency_key == write_back.idempotency_key)
            ).first()
        if there is not None:
            return self._receipt(write_back)
        if write_back.action == ACTION:
            return None
        try:
            return self._platform.find(write_back)
        except PlatformError as error:
            if error.code != "PLATFORM_READ_ONLY":
                raise
            return None  # it never took one

    def _receipt(self, write_back: WriteBack) -> Receipt:
        key = write_back.idempotency_key
        return Receipt(self.name, ACTION, key, reference(key))


def open_items(connection: sa.Connection, practice: str | None = None) -> list[dict[str, Any]]:
    """What waits to be done by hand, the most urgent first, each with the id of its proposal."""
    query = (
        sa.select(work_items, outbox.c.proposal_id)
        .join(outbox, outbox.c.idempotency_key == work_items.c.idempotency_key)
        .where(work_items.c.status == "open")
        .order_by(work_items.c.priority.desc(), work_items.c.due_on, work_items.c.created_at)
    )
    if practice is not None:
        query = query.where(work_items.c.practice == practice)
    return [dict(row) for row in connection.execute(query).mappings()]


def done(connection: sa.Connection, idempotency_key: str, actor: str) -> None:
    """A person did it. Raises DecisionRefused where actor names none, or where no such item is open."""
    person = require_person(actor)
    changed = connection.execute(
        sa.update(work_items)
        .where(work_items.c.idempotency_key == idempotency_key, work_items.c.status == "open")
        .values(status="done", done_by=person, done_at=sa.func.clock_timestamp())
    )
    if changed.rowcount != 1:
        raise DecisionRefused("no such work item is open")
