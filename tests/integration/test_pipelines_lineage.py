"""What the pipelines note for lineage, against what lies in the database and the object store afterwards."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import sqlalchemy as sa

from medbill.audit.ledger import RunContext
from medbill.lineage import facts
from medbill.lineage.datasets import dataset
from medbill.pipelines import deidentify, extract, lineage, post, receive, triage
from medbill.pipelines.context import Context
from medbill.platforms.base import Extraction
from medbill.sandbox import era, practice
from medbill.settings import Settings
from medbill.store.tables import partitions, results

pytestmark = pytest.mark.slow
TODAY = date(2026, 11, 20)
PRACTICE = "lakeside"
POLICIES = Path(__file__).resolve().parents[2] / "include" / "policies"


class _Source:
    name = "drchrono"
    scope: Any = MappingProxyType({})

    def __init__(self, data: practice.PracticeData) -> None:
        self._data = data

    def extract(self, start: date, end: date) -> Extraction:
        return Extraction(self._data.claim_tables())


def test_counts_of_a_run_are_those_of_what_it_left(database: sa.Engine, tmp_path: Path) -> None:
    settings = Settings.from_env(
        {
            "MEDBILL_HOME": str(tmp_path),
            "MEDBILL_DATABASE_URL": database.url.render_as_string(hide_password=False),
            "MEDBILL_INBOX_SETTLE": "0",
            "MEDBILL_INBOX_PATIENCE": "0",
        }
    )
    ctx = Context.open(settings, RunContext(service="medbill", dag_id="test"))
    data = practice.generate(seed=11, today=TODAY, claims=40)
    era.write(data, Path(settings.inbox))
    facts.clear()
    extract.extract(ctx, PRACTICE, "drchrono", _Source(data), TODAY - timedelta(days=120), TODAY)
    receive.scan(ctx, PRACTICE)
    receive.land(ctx, receive.pending(ctx, PRACTICE))
    deidentify.publish(ctx, deidentify.pending(ctx))
    for partition in post.pending(ctx):
        post.post(ctx, partition)
    for partition in triage.pending(ctx):
        triage.triage(ctx, partition)

    reads, writes = facts.reads(), facts.writes()
    with database.connect() as connection:
        landed = connection.execute(sa.select(partitions.c.object, partitions.c.counts)).all()
        found = dict(connection.execute(sa.select(results.c.kind, sa.func.count()).group_by(results.c.kind)).all())
    counts = [c for o, c in landed if o == "remittances"]
    assert reads[dataset("inbox", "remittances")].rows == sum(c["claims_in"] for c in counts) > 0
    published = sum(n for _, c in landed for name, n in c.items() if name.endswith("_published"))
    both = [writes[dataset("deid", name)] for name in ("claims", "remittances")]
    assert sum(f.rows or 0 for f in both) == published
    stored = sum(len(ctx.objects.get(key)) for key in ctx.objects.list("deid/"))
    assert sum(f.bytes or 0 for f in both) == stored
    assert found["postings"] and writes[dataset("results", "postings")].rows
    assert writes[dataset("results", "denials")].rows is not None
    for name in ("claims", "remittances"):
        assert reads[dataset("landing", name)].rows == writes[dataset("landing", name)].rows
        assert all(writes[dataset("deid", name)].assertions.values())
    gate = reads[dataset("inbox", "remittances")].assertions
    assert gate and not all(gate.values())  # the sandbox plants files that gate 1 refuses in part

    everything = json.dumps([str(lineage.inputs([])), str(lineage.outputs([], POLICIES))])
    facts.clear()
    names = {n for p in data.patients for n in (p.last_name, p.first_name) if len(n) > 4}
    assert names and not [n for n in names if n in everything]
