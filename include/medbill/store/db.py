"""The medbill database: engine, transactions of one practice, and driver errors turned into ours (a driver's text may
quote a row)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from medbill.errors import StoreUnavailable

#: In the place of a practice: work that is across practices by design. It runs as a role that may do less.
EVERY_PRACTICE = "*"
_OF_PRACTICE = "SELECT set_config('medbill.practice', %s, true)"  # true: until the transaction ends, as SET LOCAL
_ACROSS = "SET LOCAL ROLE medbill_every_practice"


@lru_cache(maxsize=16)
def engine(url: str, *, ask: bool = True) -> sa.Engine:
    """The engine for a URL, one per process. No error of it quotes a value, neither a bound one nor one of a row.

    ask: whether a connection is asked if it lives each time it is taken out; without it the caller meets a dead one.
    """
    made = sa.create_engine(url, pool_pre_ping=ask, pool_size=5, max_overflow=5, pool_timeout=30, hide_parameters=True)
    sa.event.listen(made, "handle_error", _without_values)
    return made


def _without_values(context: sa.engine.ExceptionContext) -> None:
    """Cuts an error's text down to SQLSTATE and constraint, in place: PostgreSQL's quotes the row (`Key (ssn)=(…)`)."""
    original = context.original_exception
    state = getattr(original, "pgcode", None)
    constraint = getattr(getattr(original, "diag", None), "constraint_name", None)
    text = f"{type(original).__name__} ({state or 'no SQLSTATE'}{f', {constraint}' if constraint else ''})"
    original.args = (text,)
    if context.sqlalchemy_exception is not None:
        context.sqlalchemy_exception.args = (text,)


@contextmanager
def transaction(db: sa.Engine, practice: str | None = None) -> Iterator[sa.Connection]:
    """One transaction, which sees and writes rows of one practice only (medbill.store.rights).

    practice: its id, or EVERY_PRACTICE. Without it tables that have a practice show no rows and take none.
    Raises StoreUnavailable with the SQLSTATE alone where the driver fails.
    """
    try:
        with db.begin() as connection:
            if practice == EVERY_PRACTICE:
                connection.exec_driver_sql(_ACROSS)
            elif practice is not None:
                connection.exec_driver_sql(_OF_PRACTICE, (practice,))
            yield connection
    except DBAPIError as error:
        state = getattr(error.orig, "pgcode", None) or "no connection"
        raise StoreUnavailable(f"PostgreSQL refused ({state}); check that the database is up, then retry") from None
    except SQLAlchemyError as error:
        raise StoreUnavailable(
            f"database access failed ({type(error).__name__}); check the connection settings"
        ) from None
