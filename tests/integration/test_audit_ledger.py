"""The ledger on a real PostgreSQL: two rows per touch, one row per key, fail closed."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from medbill.audit.ledger import Event, Ledger, RunContext
from medbill.audit.tables import metadata, rows
from medbill.audit.verify import verify
from medbill.errors import LedgerUnavailable, MedbillError, NotX12

pytestmark = pytest.mark.slow

RUN = RunContext(
    on_behalf_of="ana", dag_id="post_payments", run_id="manual__1", task_id="post", map_index=3, try_number=2
)
READ = Event("read", "landing.read", "payment", "lakeside", "remittances/2026-01-05", "[CLAIM_X]", "ab" * 32)


def _rows(db: sa.Engine) -> list[dict[str, Any]]:
    with db.connect() as connection:
        found = connection.execute(sa.select(rows).order_by(rows.c.recorded_at)).mappings().all()
    return [{**row, "details": json.loads(row["payload"]).get("details")} for row in found]


def test_declared_tables_are_those_of_the_migration(database: sa.Engine) -> None:
    inspector = sa.inspect(database)
    for table in metadata.tables.values():
        stored = {c["name"]: c["nullable"] for c in inspector.get_columns(table.name, schema="audit")}
        assert stored == {c.name: c.nullable for c in table.columns}


def test_a_touch_commits_its_intent_before_the_body_and_its_outcome_after(database: sa.Engine) -> None:
    with Ledger(database, RUN).touch(READ) as touch:
        [intent] = _rows(database)  # another connection sees it: it is committed
        touch.note(claims=3)
        touch.note(claims=4, files=["ab", "cd"])
    assert intent["outcome"] == "intent"
    _, outcome = _rows(database)
    assert outcome["outcome"] == "success"
    assert outcome["intent"] == intent["event_id"]
    assert outcome["details"] == {"claims": 4, "files": ["ab", "cd"]}
    for row in (intent, outcome):
        assert (row["actor"], row["on_behalf_of"], row["purpose"], row["action"]) == (
            "medbill",
            "ana",
            "payment",
            "read",
        )
        assert (row["dag_id"], row["run_id"], row["task_id"], row["map_index"], row["try_number"]) == (
            "post_payments", "manual__1", "post", 3, 2,
        )  # fmt: skip
        assert (row["subject_token"], row["source_hash"]) == ("[CLAIM_X]", "ab" * 32)
    assert verify(database).ok


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("JOHN SMITH"), "ValueError"),
        (NotX12("no ISA"), "NOT_X12"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_an_exception_passes_through_and_leaves_its_code_only(
    database: sa.Engine, error: BaseException, code: str
) -> None:
    with pytest.raises(type(error)) as caught, Ledger(database, RUN).touch(READ) as touch:
        touch.note(claims=1)
        raise error
    assert caught.value is error
    _, outcome = _rows(database)
    assert (outcome["outcome"], outcome["details"]) == ("failure", {"claims": 1, "error": code})
    assert b"SMITH" not in outcome["payload"]


def test_ledger_down_means_the_body_does_not_run() -> None:
    down = sa.create_engine("postgresql+psycopg2://postgres@127.0.0.1:1/x?connect_timeout=1")
    touched = False
    with pytest.raises(LedgerUnavailable), Ledger(down, RUN).touch(READ):
        touched = True
    assert not touched
    with pytest.raises(LedgerUnavailable):
        Ledger(down, RUN).record(READ)


def test_a_database_without_the_ledger_is_no_ledger(database: sa.Engine) -> None:
    with database.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA audit CASCADE"))
    with pytest.raises(LedgerUnavailable), Ledger(database, RUN).touch(READ):
        raise AssertionError("the body ran")


def test_ledger_lost_during_the_touch(database: sa.Engine) -> None:
    def drop() -> None:
        with database.begin() as connection:
            connection.execute(sa.text("ALTER FUNCTION audit.append RENAME TO gone"))

    with pytest.raises(LedgerUnavailable), Ledger(database, RUN).touch(READ):
        drop()
    with database.begin() as connection:
        connection.execute(sa.text("ALTER FUNCTION audit.gone RENAME TO append"))
    with pytest.raises(ValueError, match="body") as caught, Ledger(database, RUN).touch(READ):
        drop()
        raise ValueError("body")
    assert "ledger" in caught.value.__notes__[0]
    report = verify(database, open_after=timedelta(0))
    assert [p.code for p in report.problems] == ["INTENT_WITHOUT_OUTCOME"] * 2


def test_twenty_concurrent_appends_of_one_key_give_one_row(database: sa.Engine) -> None:
    event = Event("execute", "task.start", "operations", "-", "airflow:x.y", idempotency_key="task.start:1")
    start = threading.Barrier(20)
    engine = sa.create_engine(database.url, pool_size=20, hide_parameters=True)

    def append(_: int) -> int:
        start.wait()
        return Ledger(engine, RUN).record(event)

    with ThreadPoolExecutor(20) as pool:
        assert len(set(pool.map(append, range(20)))) == 1
    engine.dispose()
    assert len(_rows(database)) == 1


def test_a_key_of_another_event_is_refused(database: sa.Engine) -> None:
    ledger = Ledger(database, RUN)
    ledger.record(Event("read", "a", "payment", "lakeside", "r", idempotency_key="k"))
    with pytest.raises(MedbillError) as caught:
        ledger.record(Event("read", "b", "payment", "lakeside", "r", idempotency_key="k"))
    assert caught.value.code == "LEDGER_KEY_REUSED"


def test_many_writers_leave_unbroken_chains(database: sa.Engine) -> None:
    engine = sa.create_engine(database.url, pool_size=8)
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda n: Ledger(engine, RUN).record(READ, "success"), range(200)))
    engine.dispose()
    assert len(set(numbers)) == 200
    report = verify(database)
    assert (report.rows, report.chains, report.problems) == (200, 16, [])


def test_killing_the_backend_that_holds_the_head_leaves_no_gap(database: sa.Engine) -> None:
    ledger = Ledger(database, RUN)
    event = Event("read", "a", "payment", "lakeside", "r", idempotency_key="k1")
    payload = ledger._payload(event, "success", "00000000-0000-7000-8000-000000000000", None)
    holder = sa.create_engine(database.url).connect()
    holder.execute(sa.text("SELECT audit.append(:p)"), {"p": payload})  # not committed: the head is locked
    pid = holder.scalar(sa.text("SELECT pg_backend_pid()"))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ledger.record, event)
        time.sleep(0.2)
        assert not waiting.done()
        with database.begin() as connection:
            connection.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        started = time.monotonic()
        waiting.result(timeout=10)
        assert time.monotonic() - started < 1
    holder.invalidate()
    report = verify(database)
    assert (report.rows, report.problems) == (1, [])


def test_a_connection_killed_in_the_pool_is_replaced(database: sa.Engine) -> None:
    ledger = Ledger(database, RUN)
    ledger.record(READ)
    other = sa.create_engine(database.url, poolclass=sa.NullPool)
    with other.begin() as connection:
        connection.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    ledger.record(READ)
    assert verify(database).rows == 2


@pytest.mark.parametrize("isolation", [None, "AUTOCOMMIT", "REPEATABLE READ"])
def test_a_connection_goes_back_to_the_pool_as_it_was(database: sa.Engine, isolation: Any) -> None:
    arguments = {} if isolation is None else {"isolation_level": isolation}
    engine = sa.create_engine(database.url, pool_size=1, max_overflow=0, hide_parameters=True, **arguments)
    Ledger(engine, RUN).record(READ)
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE public.kept (x integer)")
        connection.rollback()
    assert sa.inspect(database).has_table("kept", schema="public") is (isolation == "AUTOCOMMIT")
    engine.dispose()


def test_a_row_is_there_once_it_is_acknowledged(database: sa.Engine) -> None:
    """Committed and flushed, not on its way: synchronous_commit is on where rows are appended."""
    number = Ledger(database, RUN).record(READ)
    with database.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).where(rows.c.seq * 16 + rows.c.chain == number)) == 1
        assert connection.scalar(sa.text("SHOW synchronous_commit")) == "on"


def test_an_abandoned_intent_is_closed_and_says_by_whom(database: sa.Engine) -> None:
    event_id = "0190b6ac-0000-7000-8000-000000000001"
    Ledger(database, RUN)._append(READ, "intent", event_id)
    assert [p.code for p in verify(database, timedelta(0)).problems] == ["INTENT_WITHOUT_OUTCOME"]
    young = verify(database)
    assert (young.ok, young.open_intents) == (True, 1)
    Ledger(database, RunContext(on_behalf_of="kim")).abandon(READ, event_id)
    assert verify(database, timedelta(0)).ok
    assert (_rows(database)[1]["outcome"], _rows(database)[1]["on_behalf_of"]) == ("abandoned", "kim")
