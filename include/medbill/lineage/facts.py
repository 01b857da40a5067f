"""What the work at hand read, wrote and checked, by dataset: counts only. Lineage takes it up when a task ends.

Kept per process: a task run is one process, and whoever starts another one there calls clear() first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from medbill.lineage.datasets import DatasetName


@dataclass
class Facts:
    """Of one dataset in one direction. rows and bytes are sums over partitions, None where nobody counted.

    assertions: (assertion, column or None, severity) -> whether it held in every partition.
    """

    rows: int | None = None
    bytes: int | None = None
    assertions: dict[tuple[str, str | None, str], bool] = field(default_factory=dict)


_lock = Lock()
_read: dict[DatasetName, Facts] = {}
_wrote: dict[DatasetName, Facts] = {}


def read(name: DatasetName, rows: int | None = None, size: int | None = None) -> None:
    """So many rows and bytes of a dataset were read."""
    _count(_read, name, rows, size)


def wrote(name: DatasetName, rows: int | None = None, size: int | None = None) -> None:
    """So many rows and bytes of a dataset were written."""
    _count(_wrote, name, rows, size)


def checked_read(name: DatasetName, assertions: Iterable[Mapping[str, Any]]) -> None:
    """How the expectations of a gate went on what was read of a dataset: items of GateResult.assertions()."""
    _check(_read, name, assertions)


def checked_written(name: DatasetName, assertions: Iterable[Mapping[str, Any]]) -> None:
    """The same for what was, or would have been, written."""
    _check(_wrote, name, assertions)


def clear() -> None:
    """Forget everything: another piece of work begins."""
    with _lock:
        _read.clear()
        _wrote.clear()


def reads() -> dict[DatasetName, Facts]:
    """What was read since clear()."""
    with _lock:
        return dict(_read)


def writes() -> dict[DatasetName, Facts]:
    """What was written since clear()."""
    with _lock:
        return dict(_wrote)


def _count(where: dict[DatasetName, Facts], name: DatasetName, rows: int | None, size: int | None) -> None:
    with _lock:
        facts = where.setdefault(name, Facts())
        facts.rows = _sum(facts.rows, rows)
        facts.bytes = _sum(facts.bytes, size)


def _sum(a: int | None, b: int | None) -> int | None:
    return a if b is None else b + (a or 0)


def _check(where: dict[DatasetName, Facts], name: DatasetName, assertions: Iterable[Mapping[str, Any]]) -> None:
    with _lock:
        known = where.setdefault(name, Facts()).assertions
        for a in assertions:
            key = (str(a["assertion"]), a.get("column"), str(a["severity"]))
            known[key] = known.get(key, True) and bool(a["success"])
