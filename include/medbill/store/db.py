"""The medbill database: engine, and driver errors turned into ours (a driver's text may quote a row)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from medbill.errors import StoreUnavailable


@lru_cache(maxsize=4)
def engine(url: str) -> sa.Engine:
    """The engine for a URL, one per process. hide_parameters keeps bound values out of every error and log."""
    return sa.create_engine(url, pool_pre_ping=True, pool_size=5, max_overflow=5, pool_timeout=30, hide_parameters=True)


@contextmanager
def transaction(db: sa.Engine) -> Iterator[sa.Connection]:
    """One transaction; raises StoreUnavailable with the SQLSTATE alone where the driver fails."""
    try:
        with db.begin() as connection:
            yield connection
    except DBAPIError as error:
        state = getattr(error.orig, "pgcode", None) or "no connection"
        raise StoreUnavailable(f"PostgreSQL refused ({state}); check that the database is up, then retry") from None
    except SQLAlchemyError as error:
        raise StoreUnavailable(
            f"database access failed ({type(error).__name__}); check the connection settings"
        ) from None
