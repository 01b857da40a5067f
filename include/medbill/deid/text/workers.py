"""The engine on several processors: the same spans, more texts a second."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Any, Self

from medbill.deid.text.engine import Engine, loaded
from medbill.deid.text.span import Span
from medbill.errors import MedbillError

#: Texts handed to a process at once: enough to be worth the way, few enough to keep all of them busy.
_SHARE = 16
_Records = Sequence[Mapping[str, Any] | None] | None
_engine: Engine | None = None  # of a worker process


class WorkerLost(MedbillError):
    """A process that searched texts died, most likely for want of memory; nothing of its batch is released."""

    code = "DEID_WORKER_LOST"


class Workers(Engine):
    """An Engine whose texts are searched by processes of their own; tokens are made here. Use as a context manager.

    count: processes, by default one for each processor. Each takes as much memory as an Engine. Raises WorkerLost where a
    process dies, else as Engine.
    """

    def __init__(self, model: str | None = None, count: int | None = None) -> None:
        super().__init__(recognizers=())
        # spawned, not forked: a fork of a process with threads may wait for ever for a lock that one of them held
        self._pool = ProcessPoolExecutor(
            count or processors(), multiprocessing.get_context("spawn"), initializer=_start, initargs=(model,)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def analyze(self, texts: Sequence[str], records: _Records = None) -> list[list[Span]]:
        """As Engine.analyze."""
        if records is not None and len(records) != len(texts):
            raise ValueError("one record (or None) for each text")
        shares = [
            (list(texts[at : at + _SHARE]), None if records is None else list(records[at : at + _SHARE]))
            for at in range(0, len(texts), _SHARE)
        ]
        try:
            return [spans for found in self._pool.map(_search, shares) for spans in found]
        except BrokenProcessPool:
            raise WorkerLost("a process that searched texts died; give fewer --workers, or more memory") from None


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start(model: str | None) -> None:
    global _engine
    _engine = loaded(model)


def _search(share: tuple[list[str], _Records]) -> list[list[Span]]:
    if _engine is None:
        raise WorkerLost("a process that searches texts has no engine")
    return _engine.analyze(*share)
