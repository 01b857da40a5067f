"""Faults a stand-in server has on demand, the same for every platform; docs/sandbox.md lists them."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from medbill.errors import BadInput

R = TypeVar("R", bound=dict[str, Any])

#: Before anything is done: the connection is cut, the answer waits, an error comes, the vendor's own throttle or refused
#: credentials come.
BEFORE = frozenset({"drop_before", "slow", "error", "throttle", "expired"})
#: In the records of the answer: some twice, another order, half of them missing, `field` under another name.
ROWS = frozenset({"duplicate", "reorder", "truncate", "drift"})
#: After the request took effect: cut before the answer, or in the midst of it; late; an error; not what it should be.
AFTER = frozenset({"drop_after", "reset", "slow_after", "error_after", "garbage"})
#: A vendor's two ways to say the same (DrChrono's page envelope).
SHAPE = frozenset({"data_envelope"})
KINDS = BEFORE | ROWS | AFTER | SHAPE
LONGEST = 30.0  # seconds a fault may hold a request


@dataclass(frozen=True)
class Fault:
    """What to do to the next `times` requests of a method and path (for SOAP: its operation); "*" stands for any.

    status: of error and error_after; retry_after: seconds, sent with error and throttle. seconds: of slow, slow_after.
    """

    kind: str
    method: str = "*"
    path: str = "*"
    times: int = 1
    status: int = 500
    seconds: float = 0.0
    retry_after: int | None = None
    field: str = "id"

    @staticmethod
    def of(text: bytes) -> Fault:
        """From JSON. Raises BadInput for what is no fault."""
        try:
            fault = Fault(**json.loads(text))
        except (ValueError, TypeError):
            raise BadInput("not a fault", code="SANDBOX_NO_FAULT") from None
        if fault.kind not in KINDS:
            raise BadInput("a fault of no known kind", code="SANDBOX_NO_FAULT")
        return fault


class Faults:
    """The faults still to come, in the order in which they were planted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._planted: list[Fault] = []

    def plant(self, fault: Fault) -> None:
        with self._lock:
            self._planted.append(fault)

    def clear(self) -> None:
        with self._lock:
            self._planted.clear()

    def next(self, method: str, path: str) -> Fault | None:
        """The fault for this request, used up by one."""
        with self._lock:
            for at, fault in enumerate(self._planted):
                if fault.method in ("*", method) and fault.path in ("*", path):
                    left = replace(fault, times=fault.times - 1)
                    self._planted[at : at + 1] = [left] if left.times > 0 else []
                    return fault
        return None


def disturb(fault: Fault | None, rows: Sequence[R]) -> list[Any]:
    """The records of an answer as the fault wants them."""
    found: list[Any] = list(rows)
    if fault is None or fault.kind not in ROWS:
        return found
    if fault.kind == "duplicate":
        return found + found[: (len(found) + 2) // 3]
    if fault.kind == "reorder":
        return found[::-1]
    if fault.kind == "truncate":
        return found[: len(found) // 2]
    return [{(f"{name}V2" if name == fault.field else name): value for name, value in row.items()} for row in found]
