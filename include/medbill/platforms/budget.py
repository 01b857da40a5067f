"""Staying inside a platform's published rate limits, waiting only so long."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from medbill.errors import PlatformError


class RateBudget:
    """At most per_second calls in any second and per_hour in any 3600 s, counted in this process.

    take() waits for its turn, never longer than max_wait seconds in all; then it raises PlatformError
    (PLATFORM_RATE_LIMITED), so that a task can be retried later instead of sleeping for an hour.
    """

    def __init__(
        self,
        per_second: int = 10,
        per_hour: int = 500,
        *,
        max_wait: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.per_second, self.per_hour, self.max_wait = per_second, per_hour, max_wait
        self._clock, self._sleep = clock, sleep
        self._calls: deque[float] = deque()
        self._lock = threading.Lock()

    def take(self) -> None:
        waited = 0.0
        while True:
            with self._lock:
                wait = self._next_turn()
                if wait <= 0:
                    self._calls.append(self._clock())
                    return
            if waited + wait > self.max_wait:
                raise PlatformError(
                    "the platform's rate limit leaves no call within the wait allowed; run the task again later",
                    code="PLATFORM_RATE_LIMITED",
                )
            self._sleep(wait)
            waited += wait

    def pause(self, seconds: float) -> None:
        """Wait as the platform asked (Retry-After or back-off); raises PlatformError where it asks for too much."""
        if seconds > self.max_wait:
            raise PlatformError(
                "the platform asks to wait longer than allowed; run the task again later", code="PLATFORM_RATE_LIMITED"
            )
        self._sleep(max(0.0, seconds))

    def _next_turn(self) -> float:
        now = self._clock()
        while self._calls and self._calls[0] <= now - 3600:
            self._calls.popleft()
        wait = 0.0
        if len(self._calls) >= self.per_second:
            wait = self._calls[-self.per_second] + 1 - now
        if len(self._calls) >= self.per_hour:
            wait = max(wait, self._calls[-self.per_hour] + 3600 - now)
        return wait
