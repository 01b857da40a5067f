"""What a platform's API cannot take becomes a work item: once, found again, done by a person."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from medbill.audit.ledger import Ledger, RunContext
from medbill.errors import DecisionRefused, PlatformError
from medbill.platforms.base import Receipt, WriteBack
from medbill.proposals import cli, lifecycle, outbox, work
from medbill.proposals.content import proposal_id
from medbill.proposals.lifecycle import Draft
from medbill.proposals.outbox import DispatchResult

pytestmark = pytest.mark.slow

CLAIM = "[CLAIM_7KQ2M4XZ7KQ2M4XZA]"


class ReadOnly:
    """A platform without any write."""

    name = "drchrono"

    def write(self, write_back: WriteBack) -> Receipt:
        raise PlatformError("no API takes it", code="PLATFORM_READ_ONLY")

    find = write


class Vault:
    def reveal(self, tokens: Sequence[str]) -> dict[str, str]:
        return dict.fromkeys(tokens, "5012")


def test_a_write_back_no_api_takes_waits_for_a_person(database: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    money = {"charge": "100.00", "paid": "80.00", "contractual": "20.00", "denied": "0.00", "other": "0.00"}
    posting = {"payer_name": "Acme", "payment_date": "2026-11-02", "is_reversal": False, "claim_token": CLAIM}
    payload = {"posting": {**money, "patient_responsibility": "0.00", **posting}, "lines": []}
    draft = Draft("lakeside", "posting", date(2026, 11, 2), CLAIM, "k-0", "t", Decimal(80), 20, payload)
    id = proposal_id("lakeside", "posting", "k-0")
    with database.begin() as connection:
        lifecycle.propose(connection, [draft])
        lifecycle.approve(connection, id, lifecycle.show(connection, id)["content_hash"], "Ana Ruiz")

    def dispatch() -> DispatchResult:
        writer = work.OrByHand(ReadOnly(), database, "lakeside")
        ledger = Ledger(database, RunContext())
        zero = timedelta(0)
        return outbox.dispatch(database, "lakeside", writer, Vault(), ledger, lease=zero, quiet=zero)

    assert dispatch().applied == 2 and dispatch() == DispatchResult()
    with database.begin() as connection:
        # a worker that died before it wrote down its receipts: the items are found, not made again
        connection.execute(sa.text("UPDATE medbill.outbox SET status = 'unknown', lease_until = '2026-01-01'"))
        connection.execute(sa.text("UPDATE medbill.proposals SET status = 'approved'"))
    assert dispatch().applied == 2
    with database.begin() as connection:
        items = work.open_items(connection, "lakeside")
        assert [i["proposal_id"] for i in items] == [id, id] and "5012" not in str(items)
        assert connection.execute(sa.select(sa.func.count()).select_from(work.work_items)).scalar() == 2
        with pytest.raises(DecisionRefused, match="person's name"):
            work.done(connection, items[0]["idempotency_key"], "medbill")
    monkeypatch.setenv("MEDBILL_DATABASE_URL", database.url.render_as_string(hide_password=False))
    key = items[0]["idempotency_key"]
    assert key in CliRunner().invoke(cli.app, ["work"]).output
    said = CliRunner().invoke(cli.app, ["done", key, "--practice", "lakeside", "--actor", "Ana Ruiz"])
    assert said.exit_code == 0, said.output
    left = CliRunner().invoke(cli.app, ["work"]).output
    assert key not in left and items[1]["idempotency_key"] in left
    with database.begin() as connection, pytest.raises(DecisionRefused, match="open"):
        work.done(connection, key, "Ana Ruiz")
