"""Staying inside a platform's published rate limits, waiting only so long; one count for all workers of an account."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from medbill.errors import PlatformError
from medbill.store import db as store
from medbill.store.tables import platform_budgets


@dataclass(frozen=True)
class Limit:
    """At most `calls` calls in any `seconds` seconds."""

    calls: int
    seconds: float


#: The limits of a bucket (an operation, a tier) at this moment; a platform may have other ones at peak hours.
Limits = Callable[[str], Sequence[Limit]]


def always(*limits: Limit) -> Limits:
    """The same limits for every bucket."""
    return lambda bucket: limits


class Calls(Protocol):
    """Where an account's calls are counted."""

    def reserve(self, bucket: str, limits: Sequence[Limit], max_wait: float) -> float | None:
        """Take the next turn of a bucket and give the seconds until it comes.

        None where that is longer than max_wait; no turn is taken then.
        """
        ...


class MemoryCalls:
    """Counted in this process alone; for tests and for accounts that nothing else uses."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._taken: dict[str, list[float]] = {}
        self._lock = threading.Lock()

    def reserve(self, bucket: str, limits: Sequence[Limit], max_wait: float) -> float | None:
        with self._lock:
            now = self._clock()
            turn, kept = _turn(self._taken.get(bucket, []), limits, now)
            if turn - now > max_wait:
                return None
            self._taken[bucket] = [*kept, turn]
            return turn - now


class DatabaseCalls:
    """Counted in medbill.platform_budgets, by the database's clock: all workers of all machines share one count."""

    def __init__(self, db: sa.Engine, practice: str, platform: str) -> None:
        self._db, self._practice, self._platform = db, practice, platform

    def reserve(self, bucket: str, limits: Sequence[Limit], max_wait: float) -> float | None:
        key = {"practice": self._practice, "platform": self._platform, "bucket": bucket}
        t = platform_budgets
        mine = [t.c[name] == value for name, value in key.items()]
        with store.transaction(self._db, self._practice) as connection:
            connection.execute(insert(t).values(**key, calls=[]).on_conflict_do_nothing())
            taken = connection.execute(sa.select(t.c.calls).where(*mine).with_for_update()).scalar_one()
            now = float(connection.execute(sa.select(sa.extract("epoch", sa.func.clock_timestamp()))).scalar_one())
            turn, kept = _turn(taken, limits, now)
            if turn - now > max_wait:
                return None
            connection.execute(sa.update(t).where(*mine).values(calls=[*kept, turn]))
        return turn - now


def _turn(taken: Sequence[float], limits: Sequence[Limit], now: float) -> tuple[float, list[float]]:
    """When the next call may be made, and which earlier ones still count."""
    longest = max((limit.seconds for limit in limits), default=0.0)
    kept = sorted(at for at in taken if at > now - longest)
    turn = now
    for limit in limits:
        if len(kept) >= limit.calls:
            turn = max(turn, kept[-limit.calls] + limit.seconds)
    return turn, kept


class RateBudget:
    """Calls of an account within its limits.

    take() waits for its turn, never longer than max_wait seconds; then it raises PlatformError (PLATFORM_RATE_LIMITED), so
    that a task can be retried later instead of sleeping for an hour.
    """

    def __init__(
        self,
        limits: Limits,
        calls: Calls | None = None,
        *,
        max_wait: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.max_wait = max_wait
        self._limits, self._calls, self._sleep = limits, calls or MemoryCalls(), sleep

    def take(self, bucket: str = "all") -> None:
        wait = self._calls.reserve(bucket, self._limits(bucket), self.max_wait)
        if wait is None:
            raise PlatformError(
                "the platform's rate limit leaves no call within the wait allowed; run the task again later",
                code="PLATFORM_RATE_LIMITED",
            )
        if wait > 0:
            self._sleep(wait)

    def pause(self, seconds: float) -> None:
        """Wait as the platform asked (Retry-After or back-off); raises PlatformError where it asks for too much."""
        if seconds > self.max_wait:
            raise PlatformError(
                "the platform asks to wait longer than allowed; run the task again later", code="PLATFORM_RATE_LIMITED"
            )
        self._sleep(max(0.0, seconds))
