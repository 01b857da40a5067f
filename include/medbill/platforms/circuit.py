"""A platform that keeps failing is left alone for a while, by all workers at once; then one of them tries."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from medbill.errors import PlatformError
from medbill.store import db as store
from medbill.store.tables import platform_circuits

#: Calls that failed in a row before the circuit opens.
THRESHOLD = 5
#: How long it stays open the first time; doubled at each failed trial, up to LONGEST.
FIRST = timedelta(seconds=30)
LONGEST = timedelta(minutes=15)
#: How long one worker's trial keeps the others out.
TRIAL = timedelta(minutes=2)


class Circuit(Protocol):
    def enter(self) -> None:
        """Raises PlatformError PLATFORM_CIRCUIT_OPEN where the platform is left alone just now."""
        ...

    def failed(self, code: str) -> None:
        """No usable answer came: unreachable, timed out, 5xx. A refusal is an answer."""
        ...

    def answered(self) -> None: ...


class NoCircuit:
    """Always closed."""

    def enter(self) -> None: ...

    def failed(self, code: str) -> None: ...

    def answered(self) -> None: ...


class DatabaseCircuit:
    """State in medbill.platform_circuits, one row per practice and platform, by the database's clock."""

    def __init__(self, db: sa.Engine, practice: str, platform: str) -> None:
        self._db, self._practice, self._key = db, practice, {"practice": practice, "platform": platform}
        self._mine = [platform_circuits.c[name] == value for name, value in self._key.items()]
        self._failures = 0

    def enter(self) -> None:
        t, now = platform_circuits, sa.func.clock_timestamp()
        with store.transaction(self._db, self._practice) as connection:
            row = connection.execute(
                sa.select(t.c.failures, t.c.open_until, (t.c.open_until > now).label("open")).where(*self._mine)
            ).one_or_none()
            self._failures = row.failures if row else 0
            if row is None or row.open_until is None:
                return
            trial = connection.execute(
                sa.update(t).where(*self._mine, t.c.open_until <= now).values(open_until=now + TRIAL)
            )
        if row.open or trial.rowcount != 1:
            raise PlatformError(
                "the platform kept failing and is left alone for some minutes; it is tried again by itself",
                code="PLATFORM_CIRCUIT_OPEN",
            )

    def failed(self, code: str) -> None:
        t = platform_circuits
        with store.transaction(self._db, self._practice) as connection:
            failures = connection.execute(
                insert(t)
                .values(**self._key, failures=1, error_code=code)
                .on_conflict_do_update(
                    index_elements=["practice", "platform"],
                    set_={"failures": t.c.failures + 1, "error_code": code, "updated_at": sa.func.clock_timestamp()},
                )
                .returning(t.c.failures)
            ).scalar_one()
            if failures >= THRESHOLD:
                rest = min(FIRST * 2 ** min(failures - THRESHOLD, 10), LONGEST)
                connection.execute(sa.update(t).where(*self._mine).values(open_until=sa.func.clock_timestamp() + rest))
        self._failures = failures

    def answered(self) -> None:
        if self._failures:
            t = platform_circuits
            with store.transaction(self._db, self._practice) as connection:
                connection.execute(
                    sa.update(t)
                    .where(*self._mine)
                    .values(failures=0, open_until=None, updated_at=sa.func.clock_timestamp())
                )
            self._failures = 0
