"""The fast way through the rows and the slow one: every sound row goes the fast way, and both see the same."""

from __future__ import annotations

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
    slow = []
    real = scan._Walk._unsound
    monkeypatch.setattr(scan._Walk, "_unsound", lambda self, values: (slow.append(values), real(self, values))[1])
    report = verify(database)
    assert (report.rows, report.problems) == (count, [])
    assert all(
        "\\\\" in "".join(values[2:22]) or "\\" in "".join(v for v in values[2:22] if v != "\\N") for values in slow
    )
    assert len(slow) <= len(ODD)


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


def _line(row: dict[str, Any]) -> bytes:
    """A row as COPY writes it."""

    def text(name: str, value: Any) -> str:
        if value is None:
            return "\\N"
        if isinstance(value, bytes):
            return f"\\\\x{value.hex()}"
        if isinstance(value, datetime):
            whole = value.strftime("%Y-%m-%d %H:%M:%S")
            return whole + (f".{value.microsecond:06d}".rstrip("0") if value.microsecond else "") + "+00"
        return str(value).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")

    return ("\t".join(text(name, row[name]) for name in scan._COLUMNS) + "\n").encode()


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


def _both(row: dict[str, Any]) -> tuple[list[str], list[str]]:
    walk = scan._Walk(0, [])
    walk.line(_line(row))
    return [p.code for p in walk.done().problems], [p.code for p in Checker().row(row)]


@given(contents, st.data())
@settings(max_examples=200)
def test_both_ways_see_the_same(content: dict[str, Any], data: st.DataObject) -> None:
    row = _row(rfc8785.dumps(content), content)
    fast, slow = _both(row)
    assert fast == slow
    assert set(fast) <= {"WRONG_CHAIN"}
    changed = data.draw(st.sampled_from([c for c in scan._COLUMNS if isinstance(row[c], str) and c != "event_id"]))
    row[changed] += data.draw(text)
    fast, slow = _both(row)
    assert fast == slow
    assert "ALTERED_COLUMN" in fast


@pytest.mark.parametrize(
    "hidden", ['"details":{},"actor":"x"', '"details":{"a":1},"details":{"b":2},"actor":"y"', '"details":{}']
)
def test_a_payload_that_says_a_thing_twice_is_not_waved_through(hidden: str) -> None:
    content = {"idempotency_key": "k", "occurred_at": "2026-01-05T09:30:00.000000+00:00", "actor": "medbill", "schema_version": 1,
               "event_id": "0190b6ac-0000-7000-8000-000000000001"}  # fmt: skip
    content |= dict.fromkeys(("practice", "purpose", "action", "kind", "resource", "outcome"), "x")
    sound = rfc8785.dumps({**content, "details": {}})
    assert sound.count(b'"details":{}') == 1
    row = _row(sound.replace(b'"details":{}', hidden.encode()), content)
    fast, slow = _both(row)
    assert fast == slow
    assert ("ALTERED_COLUMN" in fast) is ("actor" in hidden)


def test_engines_of_other_kinds_are_left_alone(database: sa.Engine) -> None:
    _write(database)
    again = verify(cached_engine(database.url.render_as_string(hide_password=False)), workers=3)
    assert (again.rows, again.problems) == (len(ODD) + 80, [])
