"""A DAG run that is late leaves a ledger row, once, with ids alone."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


def test_a_late_run_is_in_the_ledger_once(database: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDBILL_DATABASE_URL", database.url.render_as_string(hide_password=False))
    monkeypatch.syspath_prepend(str(ROOT / "plugins"))
    from medbill_plugin import deadline

    context = {"dag_run": {"dag_id": "post_payments", "dag_run_id": "manual__1", "conf": {"note": "CANARY NAME"}}}
    for _ in range(2):
        asyncio.run(deadline.late(context=context))
    with database.connect() as connection:
        rows = connection.execute(sa.text("SELECT row_to_json(t)::text FROM audit.rows t")).scalars().all()
    assert len(rows) == 1
    assert "dag.late" in rows[0] and "post_payments" in rows[0] and "manual__1" in rows[0]
    assert "CANARY" not in rows[0]
    sys.modules.pop("medbill_plugin", None)
