"""What a database error says: its SQLSTATE and constraint, never the row. Against a real PostgreSQL."""

from __future__ import annotations

import traceback

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from medbill.errors import StoreUnavailable
from medbill.store import db

CANARY = "QUILLSWORTH"
pytestmark = pytest.mark.slow
_TABLE = "CREATE TABLE people (ssn text CONSTRAINT people_once UNIQUE, age int CONSTRAINT people_age CHECK (age < 200))"
FAILURES = {
    "unique": ("INSERT INTO people VALUES (:v, 1), (:v, 2)", {"v": CANARY}, "23505, people_once"),
    "check": ("INSERT INTO people VALUES (:v, 500)", {"v": CANARY}, "23514, people_age"),
    "type": (f"SELECT CAST('{CANARY}' AS int)", {}, "22P02"),
    "column": (f'SELECT "{CANARY}" FROM people', {}, "42703"),
    "raised": (f"DO $$ BEGIN RAISE EXCEPTION '{CANARY}'; END $$", {}, "P0001"),
    "bound": ("INSERT INTO people VALUES (:v, 1)", {"v": {CANARY}}, "no SQLSTATE"),
}


def _everything(error: BaseException) -> str:
    """All an error's reader could print: the chain, the attributes, the notes."""
    chain, seen = [error], []
    while chain:
        one = chain.pop()
        seen += [str(one), repr(one), *map(str, one.args), *getattr(one, "__notes__", [])]
        chain += [e for e in (one.__cause__, one.__context__, getattr(one, "orig", None)) if e is not None]
    return "\n".join([*seen, "".join(traceback.format_exception(error))])


@pytest.mark.parametrize("failure", FAILURES)
def test_an_error_of_the_engine_names_state_and_constraint_only(database: sa.Engine, failure: str) -> None:
    statement, values, said = FAILURES[failure]
    with database.begin() as connection:
        connection.execute(sa.text(_TABLE))
    with pytest.raises(SQLAlchemyError) as caught, database.begin() as connection:
        connection.execute(sa.text(statement), values)
    # the statement is ours and its text stays; where it has the canary in it, that is the test's doing
    shown = _everything(caught.value).replace(statement, "")
    assert said in str(caught.value)
    assert CANARY not in shown


def test_what_a_caller_sees_is_ours_and_has_no_cause(database: sa.Engine) -> None:
    with database.begin() as connection:
        connection.execute(sa.text(_TABLE))
    with pytest.raises(StoreUnavailable, match="23505") as caught, db.transaction(database) as connection:
        connection.execute(sa.text("INSERT INTO people VALUES (:v, 1), (:v, 2)"), {"v": CANARY})
    assert CANARY not in _everything(caught.value)


def test_the_state_survives_for_those_who_decide_by_it(database: sa.Engine) -> None:
    with pytest.raises(SQLAlchemyError) as caught, database.begin() as connection:
        connection.execute(sa.text("SELECT 1/0"))
    assert caught.value.orig.pgcode == "22012"


def test_an_engine_without_the_cut_quotes_the_row(database: sa.Engine) -> None:
    plain = sa.create_engine(database.url, hide_parameters=True, poolclass=sa.NullPool)
    with plain.begin() as connection:
        connection.execute(sa.text(_TABLE))
    with pytest.raises(SQLAlchemyError) as caught, plain.begin() as connection:
        connection.execute(sa.text("INSERT INTO people VALUES (:v, 1), (:v, 2)"), {"v": CANARY})
    assert CANARY in _everything(caught.value)
