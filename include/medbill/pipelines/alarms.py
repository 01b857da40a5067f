"""What guard has to say: one JSON file in medbill's home, which `medbill stack status` and a monitor read.

An alarm has a code, what to do, and since when it stands; it goes when the same check next ends well. The file is a copy for
people: the ledger has a row `guard.alarm` for each.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medbill.audit.ledger import Event, Ledger
from medbill.errors import MedbillError, StoreUnavailable


class Alarm(MedbillError):
    """Guard found something that somebody must look at."""

    code = "GUARD_ALARM"


def path(home: Path) -> Path:
    return home / "guard.json"


def read(home: Path) -> dict[str, Any]:
    """What is in the file: "alarms" (check -> code, message, since) and what checks remember; empty where there is none."""
    try:
        found = json.loads(path(home).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def remember(home: Path, **values: Any) -> None:
    """Replace values of the file in one step. Raises StoreUnavailable where the home takes no file."""
    content = {**read(home), **values}
    try:
        handle, name = tempfile.mkstemp(dir=home, prefix=".guard-")
        with os.fdopen(handle, "w") as file:
            json.dump(content, file, indent=1, sort_keys=True)
        Path(name).replace(path(home))
    except OSError:
        raise StoreUnavailable("medbill's home takes no file; check its rights and disk space") from None


def lines(home: Path) -> list[str]:
    """The alarms that stand, one line each."""
    alarms = read(home).get("alarms", {})
    return [f"guard {check}: {a['code']} since {a['since']}: {a['message']}" for check, a in sorted(alarms.items())]


@contextmanager
def of(check: str, home: Path, ledger: Ledger) -> Iterator[None]:
    """Run one check: what it raises stands as its alarm and passes on; where it ends well its alarm goes."""
    try:
        yield
    except MedbillError as error:
        _raise(check, home, ledger, error)
        raise
    if check in (alarms := read(home).get("alarms", {})):
        remember(home, alarms={name: alarm for name, alarm in alarms.items() if name != check})


def _raise(check: str, home: Path, ledger: Ledger, error: MedbillError) -> None:
    alarms = read(home).get("alarms", {})
    known = alarms.get(check, {})
    since = known["since"] if known.get("code") == error.code else datetime.now(UTC).isoformat(timespec="seconds")
    # what raised it counts more than a home or ledger that cannot take it
    with suppress(StoreUnavailable):
        remember(home, alarms={**alarms, check: {"code": error.code, "message": str(error.args[0]), "since": since}})
    event = Event(
        action="execute",
        kind="guard.alarm",
        purpose="operations",
        practice="-",
        resource=f"guard:{check}",
        details={"code": error.code, "since": since},
    )
    with suppress(MedbillError):
        ledger.record(event, outcome="failure")
