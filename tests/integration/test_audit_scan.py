"""The fast way through the rows and the slow one: every sound row goes the fast way, and both see the same."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import rfc8785
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from medbill.audit import scan
from medbill.audit.hashing import first_hash, row_hash
from medbill.audit.ledger import Event, Ledger, RunContext
from medbill.audit.problems import Checker
from medbill.audit.tables import rows
from medbill.audit.verify import verify
from medbill.store.db import engine as cached_engine

pytestmark = pytest.mark.slow

ODD = ["a\tb", "a\nb", "back\\slash", "\\N", 'quo"te', "ümlaut €", "\x01", "\x7f", "\\x41", "😀", "a\\nb", " "]


def _write(db: sa.Engine) -> int:
    for n, odd in enumerate(ODD):
        run = RunContext(odd, None if n % 2 else odd, odd, odd, odd if n % 3 else None, n if n % 4 else -1, None)
        event = Event(
            "read", odd, odd, odd, odd, odd if n % 2 else None, odd, {"x": odd, "list": [odd, 1, True]}, f"{n}{odd}"
        )
        Ledger(db, run).record(event)
    plain = Ledger(db, RunContext(dag_id="d", run_id="r", task_id="t", try_number=2))
    for n in range(40):
        with plain.touch(
            Event("read", "k", "payment", "p", "r", "[CLAIM_X]" if n % 2 else None, details={"n": n})
        ) as touch:
            touch.note(files=["a", "b"])
    return len(ODD) + 80


def test_sound_rows_go_the_fast_way_and_odd_ones_are_sound_too(
    database: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = _write(database)
    slow: list[list[str]] = []
    real = scan._look
    monkeypatch.setattr(
        scan, "_look", lambda chain, doubt, values: (slow.append(values), real(chain, doubt, values))[1]
    )
    report = verify(database)
    assert (report.rows, report.problems) == (count, [])
    assert all(any(odd in value for value in values[2:22] for odd in '\\"\x01' if value != "\\N") for values in slow)
    assert 0 < len(slow) <= len(ODD)


COLUMNS = [
    "idempotency_key", "occurred_at", "actor", "on_behalf_of", "practice", "purpose", "action", "kind", "resource", "outcome",
    "dag_id", "run_id", "task_id", "map_index", "try_number", "subject_token", "source_hash",
]  # fmt: skip


@pytest.mark.parametrize("column", COLUMNS)
def test_a_change_of_any_column_is_seen(database: sa.Engine, column: str) -> None:
    run = RunContext("medbill", "ana", "d", "r", "t", 3, 2)
    Ledger(database, run).record(Event("read", "k", "payment", "p", "r", "[CLAIM_X]", "ab" * 32, {"n": 1}))
    assert verify(database).problems == []
    for value in ("NULL", f"{column} + 1" if column in ("map_index", "try_number") else f"{column} || 'x'"):
        if column == "occurred_at":
            value = "occurred_at + interval '1 microsecond'"
        elif value == "NULL" and column in (
            "idempotency_key",
            "actor",
            "practice",
            "purpose",
            "action",
            "kind",
            "resource",
            "outcome",
        ):
            continue
        with database.connect() as connection:
            connection.exec_driver_sql("ALTER TABLE audit.rows DISABLE TRIGGER ALL")
            connection.exec_driver_sql(f"UPDATE audit.rows SET {column} = {value}")
            (chain,) = connection.execute(sa.text("SELECT chain FROM audit.rows")).scalars()
            found = scan.scan(connection, [chain], [[]] * 16)[chain]
            connection.rollback()
        assert "ALTERED_COLUMN" in {problem.code for problem in found.problems}


def _row(payload: bytes, content: dict[str, Any]) -> dict[str, Any]:
    at = datetime(2026, 1, 5, 9, 30, 0, 120, tzinfo=UTC)
    columns = dict.fromkeys(scan._COLUMNS) | {k: v for k, v in content.items() if k in scan._COLUMNS}
    return columns | {
        "chain": 0, "seq": 1, "recorded_at": at, "occurred_at": datetime.fromisoformat(content["occurred_at"]),
        "payload": payload, "prev_hash": first_hash(0), "row_hash": row_hash(0, 1, at, payload, first_hash(0)),
    }  # fmt: skip


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=6)
contents = st.fixed_dictionaries(
    {
        "schema_version": st.just(1), "event_id": st.just("0190b6ac-0000-7000-8000-000000000001"),
        "idempotency_key": st.just("k15"), "occurred_at": st.sampled_from(
            [(datetime(2026, 1, 5, 9, 30, tzinfo=UTC) + timedelta(microseconds=n)).isoformat(timespec="microseconds")
             for n in (0, 1, 10, 500_000, 999_999)]),
        "actor": text, "practice": text, "purpose": text, "action": text, "kind": text, "resource": text, "outcome": text,
    },
    optional={
        "on_behalf_of": text, "dag_id": text, "run_id": text, "task_id": text, "map_index": st.integers(-1, 9),
        "try_number": st.integers(0, 9), "subject_token": text, "source_hash": text,
        "details": st.dictionaries(text, st.one_of(st.integers(-9, 9), text, st.lists(text, max_size=2)), min_size=1, max_size=3),
    },
)  # fmt: skip


def _both(db: sa.Engine, row: dict[str, Any]) -> tuple[list[str], list[str]]:
    """What the two ways say of a row that lies in the table as it is given, alone in its chain."""
    with db.connect() as connection:
        connection.exec_driver_sql("ALTER TABLE audit.rows DISABLE TRIGGER ALL")
        connection.execute(sa.insert(rows).values(row))
        fast = scan.scan(connection, [0], [[]] * 16)[0].problems
        [stored] = connection.execute(sa.select(rows).where(rows.c.chain == 0)).mappings()
        slow = list(Checker().row(stored))
        connection.rollback()
    return [p.code for p in fast], [p.code for p in slow]


@given(content=contents, data=st.data())
@settings(max_examples=100, deadline=None)
def test_both_ways_see_the_same(module_database: sa.Engine, content: dict[str, Any], data: st.DataObject) -> None:
    row = _row(rfc8785.dumps(content), content)
    fast, slow = _both(module_database, row)
    assert fast == slow
    assert set(fast) <= {"WRONG_CHAIN"}
    changed = data.draw(st.sampled_from([c for c in scan._COLUMNS if isinstance(row[c], str) and c != "event_id"]))
    row[changed] += data.draw(text)
    fast, slow = _both(module_database, row)
    assert fast == slow
    assert "ALTERED_COLUMN" in fast


BASE = {"idempotency_key": "k", "occurred_at": "2026-01-05T09:30:00.000000+00:00", "actor": "medbill", "schema_version": 1,
        "event_id": "0190b6ac-0000-7000-8000-000000000001",
        **dict.fromkeys(("practice", "purpose", "action", "kind", "resource", "outcome"), "x")}  # fmt: skip


@pytest.mark.parametrize(
    "hidden",
    [
        '"details":{},"actor":"x"', '"details":{"a":1},"details":{"b":2},"actor":"y"', '"details":{}', '"details":{"a":"}',
        '"details":[]', '"details":{"a":1}}', '"details":{"a":{"b":1}}', '"details":{"a":"\x01"}', '"details": {}', '"detail":{}',
    ],
)  # fmt: skip
def test_a_payload_that_says_a_thing_twice_is_not_waved_through(module_database: sa.Engine, hidden: str) -> None:
    sound = rfc8785.dumps({**BASE, "details": {}})
    assert sound.count(b'"details":{}') == 1
    row = _row(sound.replace(b'"details":{}', hidden.encode()), BASE)
    fast, slow = _both(module_database, row)
    assert fast == slow
    try:
        read = json.loads(row["payload"])
    except ValueError:
        read = {}
    assert ("ALTERED_COLUMN" in fast) is (read.get("actor") != "medbill")


@pytest.mark.parametrize(
    ("column", "value", "dropped"),
    [
        ("actor", 'x","dag_id":"y', None),
        ("on_behalf_of", 'a","outcome":"b', "outcome"),
        ("actor", "m\\u0065dbill", None),
    ],
)
def test_a_column_cannot_pretend_to_be_two(
    module_database: sa.Engine, column: str, value: str, dropped: str | None
) -> None:
    content = {**BASE, "actor": "x", "dag_id": "y"} if "dag_id" in value else {**BASE, column: value.split('"')[0]}
    payload = rfc8785.dumps(content)
    if "\\" in value:
        payload = payload.replace(rfc8785.dumps(value), f'"{value}"'.encode())
    row = _row(payload, content) | {column: value}
    if "dag_id" in value:
        row["dag_id"] = None
    if dropped:
        row[dropped] = "x"
    fast, slow = _both(module_database, row)
    assert fast == slow
    assert "ALTERED_COLUMN" in fast


@given(
    st.lists(
        st.sampled_from([b"{}", b'{"a":1}', b'{"a":[{}', b"{}]}", b"{},{}", b'{"a":"', b'"}', b"[]", b"1"]), max_size=6
    )
)
def test_objects_read_as_one_list_are_each_one_object(parts: list[bytes]) -> None:
    def single(part: bytes) -> bool:
        try:
            return isinstance(json.loads(part), dict)
        except ValueError:
            return False

    assert scan._objects([b',"details":' + part for part in parts]) is all(single(part) for part in parts)


@pytest.mark.parametrize(
    "change",
    ["recorded_at = 'infinity'", "recorded_at = NULL", "row_hash = ''", "prev_hash = NULL", "payload = NULL", "actor = NULL",
     "occurred_at = '-infinity'", "row_hash = row_hash || '\\x00'", "idempotency_key = NULL"],
)  # fmt: skip
def test_values_no_writer_writes_are_a_problem_and_no_crash(database: sa.Engine, change: str) -> None:
    _write(database)
    sound = {problem.code for problem in verify(database).problems}
    with database.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE audit.rows DISABLE TRIGGER ALL")
        name = change.split()[0]
        connection.exec_driver_sql(f"ALTER TABLE audit.rows ALTER COLUMN {name} DROP NOT NULL")
        connection.exec_driver_sql(f"UPDATE audit.rows SET {change} WHERE seq = 2")
        connection.exec_driver_sql("ALTER TABLE audit.rows ENABLE ALWAYS TRIGGER append_only")
    found = {problem.code for problem in verify(database).problems}
    assert sound == set()
    assert found & {"ALTERED_ROW", "ALTERED_COLUMN"}


def test_batches_do_not_matter(database: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(database)
    with database.connect() as connection:
        whole = scan.scan(connection, range(16), [[2, 3]] * 16)
        for size in (1, 2, 3):
            monkeypatch.setattr(scan, "_BATCH", size)
            assert scan.scan(connection, range(16), [[2, 3]] * 16) == whole
    assert all(set(walk.seals) == {2, 3} for walk in whole.values() if walk.rows > 3)


def test_engines_of_other_kinds_are_left_alone(database: sa.Engine) -> None:
    _write(database)
    again = verify(cached_engine(database.url.render_as_string(hide_password=False)), workers=3)
    assert (again.rows, again.problems) == (len(ODD) + 80, [])
