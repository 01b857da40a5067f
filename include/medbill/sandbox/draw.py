"""Deterministic draws: the same parts give the same numbers on every machine and Python version."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """A stream of numbers named by its parts (seed, what it is for, ids). Not for secrets."""

    def __init__(self, *parts: object) -> None:
        self._name = "|".join(map(str, parts)).encode()
        self._count = 0

    def below(self, n: int) -> int:
        """An integer from 0 up to, not including, n."""
        self._count += 1
        digest = hashlib.sha256(self._name + b"#" + str(self._count).encode()).digest()
        return int.from_bytes(digest[:8], "big") % n

    def between(self, low: int, high: int) -> int:
        """An integer from low to high, both included."""
        return low + self.below(high - low + 1)

    def chance(self, per_mille: int) -> bool:
        return self.below(1000) < per_mille

    def choice(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]
