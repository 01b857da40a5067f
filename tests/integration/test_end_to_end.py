"""The whole product on a real Airflow: what `make run` does, then decisions, write-back and backfill. test_phi_sweep.py goes on from there.

Tests run in the order they stand in: each goes on from the state the one before left.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from medbill.audit.verify import verify
from medbill.pipelines import demo
from medbill.proposals import lifecycle
from medbill.stack import environment
from medbill.stack.lifecycle import Stack
from medbill.stack.ports import Ports
from medbill.store import db
from medbill.store.tables import holds, inbox_files, outbox, partitions, proposals, quarantine, results

pytestmark = pytest.mark.slow
MINUTES = 60.0


def env(stack: Stack) -> dict[str, str]:
    return {**os.environ, **environment.airflow_env(stack.settings, Ports.remembered(stack.home))}


def engine(stack: Stack) -> sa.Engine:
    return db.engine(stack.settings.admin_url)


def rows(stack: Stack, table: sa.Table, *where: sa.ColumnElement[bool]) -> list[dict]:
    with engine(stack).connect() as connection:
        return [dict(r) for r in connection.execute(sa.select(table).where(*where)).mappings()]


def fingerprint(stack: Stack) -> dict[str, str]:
    """Everything a backfill may not change: rows without their clocks, and every de-identified file."""
    clocks = {"created_at", "updated_at", "landed_at", "published_at"}
    found = {}
    for table in (inbox_files, partitions, quarantine, holds, proposals, results, outbox):
        lines = sorted(
            json.dumps({k: v for k, v in r.items() if k not in clocks}, default=str, sort_keys=True)
            for r in rows(stack, table)
        )
        found[table.name] = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    for zone in ("deid", "results"):
        digest = hashlib.sha256()
        for path in sorted(p for p in Path(stack.settings.objects, zone).rglob("*") if p.is_file()):
            digest.update(str(path).encode() + path.read_bytes())
        found[zone] = digest.hexdigest()
    return found


def test_every_dag_ran_to_a_green_end(stack: Stack, said: list[str]) -> None:
    with stack.airflow() as airflow:
        assert airflow.import_errors() == []
        assert set(demo.DAGS) <= set(airflow.dags())
        states = {dag: {run.state for run in airflow.runs(dag)} for dag in demo.DAGS if dag != "apply_proposals"}
    assert states == {dag: {"success"} for dag in states}


def test_the_summary_accounts_for_every_claim_and_cent(said: list[str]) -> None:
    text = "\n".join(said)

    def figures(label: str) -> tuple[int, Decimal]:
        count, dollars = re.search(rf"{label}\s+(\d+)\s+([\d,.]+) paid", text).groups()
        return int(count), Decimal(dollars.replace(",", ""))

    read, published, refused = figures("claims read"), figures("  published"), figures("  quarantined")
    posted, held = figures("postings"), figures("held for a person")
    assert read[0] > 20
    assert read == tuple(a + b for a, b in zip(published, refused, strict=True))
    assert published == tuple(a + b for a, b in zip(posted, held, strict=True))
    notes = re.search(r"notes\s+(\d+)\s+(\d+) de-identified and published, (\d+) for a person", text).groups()
    landed, clean, waiting = map(int, notes)
    assert landed > 20 and landed == clean + waiting and waiting < landed / 10
    report = re.search(r"denial report\s+(\S+)", text).group(1)
    assert Path(report).stat().st_size > 10_000


def test_a_second_run_doubles_nothing(stack: Stack, said: list[str]) -> None:
    before = fingerprint(stack)
    claims = json.loads((stack.home.sandbox / "seeded.json").read_text())["claims"]
    command = [sys.executable, "-m", "medbill.cli", "sandbox", "seed", "--today", seeded_day(stack).isoformat()]
    command += ["--claims", str(claims), "--inbox", stack.settings.inbox, "--state", str(stack.home.sandbox)]
    subprocess.run(command, check=True, env=env(stack))
    assert any(Path(stack.settings.inbox, "lakeside").iterdir())  # the same files once more
    with stack.airflow() as airflow:
        demo.run(airflow, stack.settings, say=lambda _: None, timeout=20 * MINUTES)
    assert fingerprint(stack) == before


def seeded_day(stack: Stack) -> date:
    """The day the sandbox's practice was made for: the one after its last remittances."""
    truth = json.loads((stack.home.sandbox / "truth.json").read_text())
    return date.fromisoformat(truth["last_day"]) + timedelta(days=1)


def written(stack: Stack) -> dict:
    return httpx.get(
        f"http://127.0.0.1:{Ports.remembered(stack.home).sandbox}/_sandbox/written", trust_env=False
    ).json()


def test_nothing_is_written_before_a_decision_and_once_after_it(stack: Stack, said: list[str]) -> None:
    with stack.airflow() as airflow:
        airflow.wait("apply_proposals", airflow.trigger("apply_proposals"), 10 * MINUTES)
        assert not any(written(stack).values())
        chosen = sorted(rows(stack, proposals, proposals.c.kind == "posting"), key=lambda p: p["id"])[0]
        with engine(stack).begin() as connection:
            lifecycle.approve(connection, chosen["id"], chosen["content_hash"], "ana.poster")
        for _ in range(2):
            done = airflow.wait("apply_proposals", airflow.trigger("apply_proposals"), 10 * MINUTES)
            assert done.state == "success"
    sent = written(stack)
    # the text of a task is its first note
    counts = {name: len(found) for name, found in sent.items() if found}
    assert counts == {"tasks": 1, "task_notes": 1, "claim_billing_notes": 1}
    assert {r["status"] for r in rows(stack, outbox)} == {"applied"}
    assert rows(stack, proposals, proposals.c.id == chosen["id"])[0]["status"] == "applied"
    text = json.dumps(sent)
    assert "[CLAIM_" not in text and "[LINE_" not in text  # re-identified for the platform


def test_backfill_over_thirty_days_twice_leaves_everything_as_it_was(stack: Stack, said: list[str]) -> None:
    before = fingerprint(stack)
    last = seeded_day(stack) - timedelta(days=1)
    for reprocess in ("none", "completed"):
        began = datetime.now(UTC)
        create_backfill(stack, last - timedelta(days=29), last, reprocess)
        with stack.airflow() as airflow:
            airflow.wait_until_idle(demo.DAGS, began, 30 * MINUTES)
            airflow.wait_for_backfill("post_payments", 2 * MINUTES)
            ended = [r for r in airflow.runs("post_payments") if r.run_type == "backfill"]
        assert len(ended) >= 28 and {r.state for r in ended} == {"success"}
        assert fingerprint(stack) == before


def create_backfill(stack: Stack, start: date, end: date, reprocess: str) -> None:
    command = [sys.executable, "-m", "airflow", "backfill", "create", "--dag-id", "post_payments"]
    command += ["--from-date", start.isoformat(), "--to-date", f"{end.isoformat()}T23:59:59"]
    command += ["--reprocess-behavior", reprocess, "--max-active-runs", "2"]
    made = subprocess.run(command, env=env(stack), capture_output=True, text=True, timeout=5 * MINUTES, check=False)
    assert made.returncode == 0, made.stderr[-2000:]


def test_the_ledger_has_every_task_run_and_verifies(stack: Stack, said: list[str]) -> None:
    checked = verify(engine(stack))
    assert checked.problems == [] and checked.rows > 100
    with engine(stack).connect() as connection:
        texts = connection.execute(sa.text("SELECT row_to_json(t)::text FROM audit.rows t")).scalars().all()
    for dag in demo.DAGS:
        mine = [t for t in texts if dag in t]
        assert any("task.start" in t for t in mine) and any("task.end" in t for t in mine), dag


def test_lineage_names_inputs_and_outputs_of_every_pipeline(stack: Stack, said: list[str]) -> None:
    events = [json.loads(line) for line in (stack.home.path / "lineage" / "events.jsonl").read_text().splitlines()]
    for dag in demo.DAGS:
        mine = [e for e in events if e["job"]["name"].startswith(f"{dag}.")]
        assert any(e.get("inputs") for e in mine) and any(e.get("outputs") for e in mine), dag
