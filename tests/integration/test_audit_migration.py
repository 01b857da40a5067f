"""A ledger that is older than its checkpoints: its rows stay as they are, can be found, and are sealed."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from medbill.audit.anchor import Anchor
from medbill.audit.find import Search, newest
from medbill.audit.ledger import Event, Ledger, RunContext
from medbill.audit.seal import seal
from medbill.audit.verify import verify
from medbill.audit.worm import worm
from medbill.store import schema

pytestmark = pytest.mark.slow


def test_rows_of_the_revision_before_are_found_and_sealed(database: sa.Engine, tmp_path: Path) -> None:
    url = database.url.render_as_string(hide_password=False)
    with database.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA medbill CASCADE; DROP SCHEMA audit CASCADE"))
    schema.upgrade(url, "0004")
    event = Event("read", "a", "payment", "p", "r", "[CLAIM_A]", details={"model": "m", "tokens": ["[MRN_B]"]})
    Ledger(database, RunContext()).record(event)
    schema.upgrade(url)
    Ledger(database, RunContext()).record(event)
    assert len(newest(database, Search(token="[MRN_B]", details={"model": "m"}), 10)) == 2
    store = worm(str(tmp_path / "checkpoints"))
    assert seal(database, store, tmp_path / "key.pem").rows == 2
    assert verify(database, anchor=Anchor(store)).problems == []
