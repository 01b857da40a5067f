"""guard on a real PostgreSQL: sealing with its alarms, the nightly verify, write-backs without an end, purges that died."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from medbill.audit.anchor import Anchor
from medbill.audit.ledger import Event, Ledger, RunContext
from medbill.audit.seal import Places
from medbill.audit.tables import rows as ledger_rows
from medbill.audit.verify import verify as verify_all
from medbill.errors import KeyUnavailable, LedgerUnavailable, MedbillError, StoreUnavailable, TamperedData
from medbill.pipelines import alarms, guard, purge, tasks
from medbill.pipelines.alarms import Alarm
from medbill.pipelines.context import Context
from medbill.proposals import outbox as boxes
from medbill.settings import Settings
from medbill.store import rights
from medbill.store.tables import outbox, proposal_events, proposals

pytestmark = pytest.mark.slow
PRACTICE = "lakeside"


@pytest.fixture
def ctx(database: sa.Engine, tmp_path: Path) -> Context:
    url = database.url.render_as_string(hide_password=False)
    settings = Settings.from_env({"MEDBILL_HOME": str(tmp_path), "MEDBILL_DATABASE_URL": url})
    return Context.open(settings, RunContext(dag_id="test"))


def touch(ctx: Context) -> None:
    with ctx.ledger.touch(Event("read", "landing.read", "payment", PRACTICE, "x")):
        pass


def kinds(ctx: Context, kind: str) -> list[Any]:
    with ctx.db.connect() as connection:
        return list(connection.execute(sa.select(ledger_rows).where(ledger_rows.c.kind == kind)))


def report(ctx: Context) -> Any:
    return verify_all(ctx.db, timedelta(hours=6), Anchor(Places.of(ctx.settings).store()))


def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting rows count as late at once."""
    monkeypatch.setattr(guard, "WINDOW", timedelta(0))
    monkeypatch.setattr(guard, "_GRACE", timedelta(0))


def test_every_run_seals_what_is_there_its_own_row_too(ctx: Context) -> None:
    touch(ctx)
    assert guard.seal(ctx)["checkpoint"] == 1
    found = report(ctx)
    assert found.ok and found.warnings == [] and found.sealed == found.rows == 3
    assert guard.seal(ctx)["checkpoint"] == 2
    assert len(kinds(ctx, "ledger.seal")) == 2 and alarms.lines(ctx.settings.home) == []


def test_rows_that_waited_too_long_are_sealed_and_told(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    guard.seal(ctx)
    touch(ctx)
    late(monkeypatch)
    with pytest.raises(Alarm) as alarm:
        guard.seal(ctx)
    assert alarm.value.code == "SEALED_LATE" and report(ctx).sealed == report(ctx).rows - 1  # the alarm's own row
    (line,) = alarms.lines(ctx.settings.home)
    assert line.startswith("guard seal: SEALED_LATE since ")
    (row,) = kinds(ctx, "guard.alarm")
    assert row.outcome == "failure" and json.loads(bytes(row.payload))["details"]["code"] == "SEALED_LATE"
    monkeypatch.undo()
    guard.seal(ctx)
    assert alarms.lines(ctx.settings.home) == []


def test_an_alarm_keeps_since_when_it_stands(ctx: Context) -> None:
    for _ in range(2):
        with pytest.raises(Alarm), alarms.of("a", ctx.settings.home, ctx.ledger):
            raise Alarm("look at it", code="X")
        first = alarms.read(ctx.settings.home)["alarms"]["a"]["since"]
        alarms.remember(ctx.settings.home, alarms={"a": {"code": "X", "message": "look at it", "since": "2026-01-01"}})
    assert first == "2026-01-01"


def test_alarms_of_checks_that_run_at_once_all_stand(ctx: Context, tmp_path: Path) -> None:
    home = tmp_path / "not" / "yet"

    def raise_one(check: int) -> None:
        with pytest.raises(Alarm), alarms.of(f"check {check}", home, ctx.ledger):
            raise Alarm("look at it", code="X")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(raise_one, range(16)))
    assert len(alarms.lines(home)) == 16 and len(kinds(ctx, "guard.alarm")) == 16
    with alarms.of("check 3", home, ctx.ledger):
        pass
    assert len(alarms.lines(home)) == 15


def test_an_altered_ledger_is_refused_and_told_without_a_value(ctx: Context) -> None:
    touch(ctx)
    guard.seal(ctx)
    with ctx.db.begin() as connection:
        for table in ("rows", "heads"):
            connection.exec_driver_sql(f"ALTER TABLE audit.{table} DISABLE TRIGGER ALL")
        connection.exec_driver_sql("UPDATE audit.rows SET resource = 'ZQSECRET' WHERE kind = 'landing.read'")
    with pytest.raises(TamperedData) as found:
        guard.verify(ctx)
    assert found.value.code == "LEDGER_ALTERED" and "ALTERED_COLUMN (2)" in str(found.value)
    assert "ZQSECRET" not in str(found.value) + alarms.path(ctx.settings.home).read_text()
    (row,) = kinds(ctx, "ledger.verify")
    assert row.outcome == "failure"


def test_a_good_ledger_verifies_and_open_touches_are_told(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(ctx)
    guard.seal(ctx)
    assert guard.verify(ctx)["unended"] == 0
    assert guard.ended(ctx, 0) == {"unended": 0}
    event = Event("read", "landing.read", "payment", PRACTICE, "x")
    Ledger(ctx.db, RunContext())._append(event, "intent", "0190b6ac-0000-7000-8000-000000000001")
    monkeypatch.setattr(guard, "OPEN_AFTER", timedelta(0))
    unended = guard.verify(ctx)["unended"]
    assert unended == 1
    with pytest.raises(Alarm, match="abandon") as told:
        guard.ended(ctx, unended)
    assert told.value.code == "INTENTS_OPEN"


def test_a_lost_checkpoint_or_key_stops_the_sealing(ctx: Context, tmp_path: Path) -> None:
    guard.seal(ctx)
    places = Places.of(ctx.settings)
    kept = places.key.read_bytes()
    places.key.unlink()
    with pytest.raises(KeyUnavailable):
        guard.seal(ctx)
    places.key.write_bytes(kept)
    places.key.chmod(0o600)
    for file in (tmp_path / "checkpoints").iterdir():
        file.unlink()
    with pytest.raises(TamperedData) as lost:
        guard.seal(ctx)
    assert lost.value.code == "CHECKPOINT_MISSING"
    assert len(alarms.lines(ctx.settings.home)) == 1


def test_a_database_that_is_down_is_an_alarm_even_without_a_ledger(ctx: Context) -> None:
    down = replace(ctx.settings, seal_url="postgresql+psycopg2://x@127.0.0.1:1/medbill?connect_timeout=2")
    with pytest.raises(StoreUnavailable):
        guard.seal(replace(ctx, settings=down))
    broken = Ledger(sa.create_engine(down.seal_url), RunContext())
    with pytest.raises(LedgerUnavailable):
        guard.seal(replace(ctx, ledger=broken))
    assert "LEDGER_UNAVAILABLE" in alarms.lines(ctx.settings.home)[0]


def test_a_transaction_that_stays_open_is_told(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    guard.seal(ctx)
    with ctx.db.connect() as open_one:
        open_one.exec_driver_sql("SELECT pg_current_xact_id()")
        touch(ctx)
        guard.seal(ctx)  # remembers the oldest transaction
        monkeypatch.setattr(guard, "STALLED", timedelta(0))
        touch(ctx)
        with pytest.raises(Alarm) as told:
            guard.seal(ctx)
        assert told.value.code == "TRANSACTION_STALLED"
        assert report(ctx).sealed >= report(ctx).rows - 1  # sealed all the same, but for the alarm's row
        open_one.rollback()
    guard.seal(ctx)
    assert alarms.lines(ctx.settings.home) == []


def owed(ctx: Context, status: str, hours: float, key: str = "k") -> None:
    """An approved proposal with one write-back in a state, approved so long ago."""
    then = datetime.now(UTC) - timedelta(hours=hours)
    with ctx.db.begin() as connection:
        connection.execute(
            sa.insert(proposals).values(
                id=key, practice=PRACTICE, kind="posting", day=date(2026, 9, 1), claim_token="t", title="t", amount=1,
                payload={}, content_hash="h", status="approved",
            )
        )  # fmt: skip
        connection.execute(
            sa.insert(outbox).values(
                idempotency_key=key, proposal_id=key, practice=PRACTICE, platform="drchrono", action="task", sequence=1,
                content_hash="h", status=status, fence=3, lease_until=then, created_at=then,
            )
        )  # fmt: skip


def test_a_write_back_without_a_known_end_is_a_persons_after_a_day(ctx: Context) -> None:
    owed(ctx, "unknown", 25, "old")
    owed(ctx, "sending", 2, "young")
    owed(ctx, "pending", 100, "pending")
    assert boxes.stuck(ctx.db, PRACTICE, guard.READ_BACK) == 2
    assert boxes.stuck(ctx.db, "hillside", guard.READ_BACK) == 0
    assert boxes.give_up(ctx.db, PRACTICE, guard.GIVE_UP) == 1
    assert boxes.give_up(ctx.db, PRACTICE, guard.GIVE_UP) == 0
    with ctx.db.connect() as connection:
        box = {r.idempotency_key: r for r in connection.execute(sa.select(outbox))}
        status = dict(connection.execute(sa.select(proposals.c.id, proposals.c.status)).all())
        events = connection.execute(sa.select(proposal_events.c.proposal_id, proposal_events.c.note)).all()
    assert (box["old"].status, box["old"].error_code, box["old"].fence) == ("failed", "OUTCOME_UNKNOWN", 4)
    assert (box["young"].status, box["pending"].status) == ("sending", "pending")
    assert status == {"old": "failed", "young": "approved", "pending": "approved"}
    assert events == [("old", "OUTCOME_UNKNOWN")]


def test_reconciling_tells_what_was_given_up(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        """A platform that answers nothing."""

        name = "drchrono"

    assert guard.reconcile(ctx, PRACTICE, Silent()) == {"practice": PRACTICE, "stuck": 0, "left": 0}  # type: ignore[arg-type]
    assert kinds(ctx, "outbox.reconcile") == []
    owed(ctx, "unknown", 30)
    monkeypatch.setattr("medbill.pipelines.apply.apply", lambda *_: None)  # the platform still does not say
    with pytest.raises(Alarm) as told:
        guard.reconcile(ctx, PRACTICE, Silent())  # type: ignore[arg-type]
    assert told.value.code == "WRITE_BACKS_UNKNOWN"
    (row,) = kinds(ctx, "outbox.reconcile")
    assert json.loads(bytes(row.payload))["details"] == {"stuck": 1, "left": 0, "given_up": 1}


def test_intents_of_purges_that_died_are_closed_by_the_next(ctx: Context) -> None:
    event = Event("delete", purge.KIND, "operations", PRACTICE, "landing:remittances/2026-01-01")
    Ledger(ctx.db, RunContext())._append(event, "intent", "0190b6ac-0000-7000-8000-000000000002")
    other = Event("read", "landing.read", "payment", PRACTICE, "x")
    Ledger(ctx.db, RunContext())._append(other, "intent", "0190b6ac-0000-7000-8000-000000000003")
    assert guard.clean(ctx)["closed"] == 1
    assert guard.clean(ctx)["closed"] == 0
    (left,) = verify_all(ctx.db, timedelta(0)).problems
    assert left.code == "INTENT_WITHOUT_OUTCOME"


def test_the_tasks_hand_out_counts_and_typed_errors(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDBILL_HOME", str(ctx.settings.home))
    monkeypatch.setenv("MEDBILL_DATABASE_URL", ctx.settings.database_url)
    assert tasks.seal()["checkpoint"] == 1
    found = tasks.verify()
    assert set(found) == {"checkpoints", "warnings", "unended"} and tasks.intents(found) == {"unended": 0}
    assert tasks.purge() == {"erased": 0, "kept": 0, "locked": 0, "closed": 0}
    late(monkeypatch)
    with pytest.raises(MedbillError, match="SEALED_LATE"):
        tasks.seal()


def test_what_the_tasks_hand_over_is_taken_by_airflow(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "plugins"))
    from medbill_plugin import references

    references.check(guard.seal(ctx))
    references.check(guard.verify(ctx))
    references.check(guard.ended(ctx, 0))
    references.check(guard.clean(ctx))
    references.check({"practice": PRACTICE, "stuck": 0, "left": 0})


def test_the_logins_of_the_installation_are_enough(database: sa.Engine, ctx: Context) -> None:
    """Pipelines, sealer and verifier each with their own least rights: sealing, verifying, purging, reconciling."""
    urls = {}
    with database.begin() as connection:
        for name, groups in (
            ("g_app", rights.APP_GROUPS),
            ("g_seal", (rights.SEALER,)),
            ("g_verify", (rights.AUDITOR,)),
        ):
            rights.login(connection, database.url.set(username=name), groups)
            urls[name] = database.url.set(username=name).render_as_string(hide_password=False)
    settings = replace(
        ctx.settings, database_url=urls["g_app"], seal_url=urls["g_seal"], audit_url=urls["g_verify"], admin_url="-"
    )
    mine = Context.open(settings, RunContext(dag_id="test"))
    sealed = mine.envelopes.seal_object(PRACTICE, "landing", "claims:2026-01-01:" + "a" * 64, b"x")
    mine.objects.put(f"landing/{PRACTICE}/claims/2026-01-01/{'a' * 64}.sealed", sealed)
    owed(ctx, "unknown", 30)
    assert guard.seal(mine)["checkpoint"] == 1
    assert guard.verify(mine)["unended"] == 0
    assert boxes.give_up(mine.db, PRACTICE, guard.GIVE_UP) == 1
    assert guard.clean(mine)["erased"] == 0
    assert purge.run(mine, datetime.now(UTC) + timedelta(days=500)).erased["landing_superseded"] == 1
    assert mine.objects.list("landing/") == []
    assert guard.clean(mine) == {"erased": 0, "kept": 0, "locked": 0, "closed": 0}
