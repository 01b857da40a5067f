"""What a person with the rights to do it may try on the ledger, and how verify() answers."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from medbill.audit.ledger import Event, Ledger, RunContext
from medbill.audit.problems import Checker
from medbill.audit.tables import heads, rows
from medbill.audit.verify import verify

pytestmark = pytest.mark.slow

OFF = "ALTER TABLE audit.rows DISABLE TRIGGER ALL; ALTER TABLE audit.heads DISABLE TRIGGER ALL;"
ON = "ALTER TABLE audit.rows ENABLE ALWAYS TRIGGER append_only; ALTER TABLE audit.heads ENABLE ALWAYS TRIGGER append_only; ALTER TABLE audit.heads ENABLE ALWAYS TRIGGER one_step;"


@pytest.fixture
def ledger(database: sa.Engine) -> sa.Engine:
    import hashlib

    keys = [k for k in (f"k{n}" for n in range(1000)) if hashlib.sha256(k.encode()).digest()[0] % 16 == 0][:8]
    writer = Ledger(database, RunContext(dag_id="d", run_id="r"))
    for key in keys:
        writer.record(
            Event("read", "landing.read", "payment", "lakeside", "x", details={"claims": 4}, idempotency_key=key)
        )
    assert verify(database).ok
    return database


def _as_superuser(db: sa.Engine, statement: str) -> None:
    with db.begin() as connection:
        connection.exec_driver_sql(OFF + statement + ";" + ON)


FORGE = """
  INSERT INTO audit.rows SELECT 0, 9, gen_random_uuid(), 'forged', clock_timestamp(), occurred_at, actor, on_behalf_of,
    practice, purpose, action, kind, resource, outcome, intent, dag_id, run_id, task_id, map_index, try_number,
    subject_token, source_hash, payload, (SELECT row_hash FROM audit.rows WHERE chain = 0 AND seq = 8), row_hash
  FROM audit.rows WHERE chain = 0 AND seq = 8
"""


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("UPDATE audit.rows SET actor = 'somebody' WHERE seq = 4", {"ALTERED_COLUMN"}),
        ("UPDATE audit.rows SET run_id = NULL WHERE seq = 4", {"ALTERED_COLUMN"}),
        (
            "UPDATE audit.rows SET occurred_at = occurred_at + interval '1 microsecond' WHERE seq = 4",
            {"ALTERED_COLUMN"},
        ),
        ("UPDATE audit.rows SET recorded_at = recorded_at + interval '1 microsecond' WHERE seq = 4", {"ALTERED_ROW"}),
        (
            "UPDATE audit.rows SET payload = convert_to(replace(convert_from(payload, 'UTF8'), '\"claims\":4', '\"claims\":5'), 'UTF8') WHERE seq = 4",
            {"ALTERED_ROW"},
        ),
        ("UPDATE audit.rows SET payload = '\\xff' WHERE seq = 4", {"ALTERED_ROW", "ALTERED_COLUMN"}),
        ("UPDATE audit.rows SET idempotency_key = 'other' WHERE seq = 4", {"ALTERED_COLUMN", "WRONG_CHAIN"}),
        (
            "UPDATE audit.rows SET payload = 'x', row_hash = audit.hash_of(chain, seq, recorded_at, 'x', prev_hash) WHERE seq = 4",
            {"ALTERED_COLUMN", "BROKEN_LINK"},
        ),
        ("DELETE FROM audit.rows WHERE seq = 4", {"GAP"}),
        ("DELETE FROM audit.rows WHERE seq = 1", {"GAP"}),
        ("DELETE FROM audit.rows WHERE seq > 6", {"HEAD_MISMATCH"}),
        ("DELETE FROM audit.rows", {"HEAD_MISMATCH"}),
        ("DELETE FROM audit.heads WHERE chain = 0", {"HEAD_MISMATCH"}),
        ("UPDATE audit.heads SET seq = 7 WHERE chain = 0", {"HEAD_MISMATCH"}),
        (
            "UPDATE audit.rows SET seq = -seq WHERE seq IN (3, 4); UPDATE audit.rows SET seq = 7 + seq WHERE seq < 0",
            {"ALTERED_ROW", "BROKEN_LINK"},
        ),
        (FORGE, {"ALTERED_ROW", "ALTERED_COLUMN", "HEAD_MISMATCH", "WRONG_CHAIN"}),
    ],
)
def test_a_superuser_with_triggers_off_is_noticed(ledger: sa.Engine, statement: str, expected: set[str]) -> None:
    if "-seq" in statement:
        statement = "ALTER TABLE audit.rows DROP CONSTRAINT rows_seq_check; " + statement
    _as_superuser(ledger, statement)
    found = [problem.code for problem in verify(ledger).problems]
    assert expected <= set(found)
    assert found == _plainly(ledger)


def _plainly(db: sa.Engine) -> list[str]:
    """The same from the plain verifier, row after row."""
    checker = Checker()
    with db.connect() as connection:
        stored = connection.execute(sa.select(rows).order_by(rows.c.chain, rows.c.seq)).mappings()
        found = [problem.code for row in stored for problem in checker.row(row)]
        last = {row.chain: (row.seq, row.row_hash) for row in connection.execute(sa.select(heads))}
    return found + [problem.code for problem in checker.end(last)]


def test_triggers_left_off_are_noticed(ledger: sa.Engine) -> None:
    with ledger.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE audit.rows DISABLE TRIGGER append_only")
    assert [p.code for p in verify(ledger).problems] == ["GUARD_DISABLED"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit.rows SET actor = 'x'",
        "DELETE FROM audit.rows WHERE seq = 99",
        "TRUNCATE audit.rows",
        "TRUNCATE audit.heads",
        "DELETE FROM audit.heads",
        "INSERT INTO audit.heads VALUES (0, 1, 'x')",
        "UPDATE audit.heads SET seq = seq - 1",
        "SET session_replication_role = replica; DELETE FROM audit.rows",
    ],
)
def test_even_a_superuser_is_refused_while_triggers_are_on(ledger: sa.Engine, statement: str) -> None:
    with pytest.raises(DBAPIError) as caught, ledger.begin() as connection:
        connection.exec_driver_sql(statement)
    assert caught.value.orig.pgcode == "MB002"
    assert verify(ledger).ok


def _as_role(db: sa.Engine, role: str, statement: str) -> object:
    with db.begin() as connection:
        connection.exec_driver_sql(f"SET LOCAL ROLE {role}")
        return connection.exec_driver_sql(statement).scalar()


PAYLOAD = """'{"event_id":"0190b6ac-0000-7000-8000-000000000001","idempotency_key":"w","occurred_at":"2026-01-01T00:00:00Z","actor":"a","practice":"p","purpose":"payment","action":"read","kind":"k","resource":"r","outcome":"success"}'"""


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT count(*) FROM audit.rows",
        "SELECT count(*) FROM audit.heads",
        "INSERT INTO audit.rows SELECT * FROM audit.rows",
        "UPDATE audit.heads SET seq = seq + 1 RETURNING 1",
        "DELETE FROM audit.rows",
        "TRUNCATE audit.rows",
        "ALTER TABLE audit.rows DISABLE TRIGGER ALL",
    ],
)
def test_the_writer_role_may_append_and_nothing_else(ledger: sa.Engine, statement: str) -> None:
    assert isinstance(_as_role(ledger, "medbill_audit_writer", f"SELECT audit.append({PAYLOAD})"), int)
    with pytest.raises(DBAPIError) as caught:
        _as_role(ledger, "medbill_audit_writer", statement)
    assert caught.value.orig.pgcode == "42501"


def test_the_auditor_role_may_read_and_nothing_else(ledger: sa.Engine) -> None:
    assert _as_role(ledger, "medbill_auditor", "SELECT count(*) FROM audit.rows") == 8
    with pytest.raises(DBAPIError) as caught:
        _as_role(ledger, "medbill_auditor", f"SELECT audit.append({PAYLOAD})")
    assert caught.value.orig.pgcode == "42501"


def test_the_auditor_can_verify(ledger: sa.Engine) -> None:
    with ledger.begin() as connection:
        connection.exec_driver_sql(
            "DO $$ BEGIN CREATE ROLE t_auditor LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
        )
        connection.exec_driver_sql("GRANT medbill_auditor TO t_auditor")
    auditor = sa.create_engine(ledger.url.set(username="t_auditor"), poolclass=sa.NullPool)
    assert verify(auditor).rows == 8
