"""What guard has to say: one JSON file in medbill's home, which `medbill stack status` and a monitor read.

An alarm has a code, what to do, and since when it stands; it goes when the same check next ends well. The file is a copy for
people: the ledger has a row `guard.alarm` for each.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterator
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
    _change(home, lambda known: {**known, **values})


def _change(home: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """One after the other: checks of several practices run at once."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        with (home / ".guard.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            handle, name = tempfile.mkstemp(dir=home, prefix=".guard-")
            with os.fdopen(handle, "w") as file:
                json.dump(change(read(home)), file, indent=1, sort_keys=True)
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
    if check in read(home).get("alarms", {}):
        _change(home, lambda known: {**known, "alarms": {k: a for k, a in known["alarms"].items() if k != check}})


def _raise(check: str, home: Path, ledger: Ledger, error: MedbillError) -> None:
    known = read(home).get("alarms", {}).get(check, {})
    since = known["since"] if known.get("code") == error.code else datetime.now(UTC).isoformat(timespec="seconds")
    # what raised it counts more than a home or ledger that cannot take it
    with suppress(StoreUnavailable):
        alarm = {"code": error.code, "message": str(error.args[0]), "since": since}
        _change(home, lambda content: {**content, "alarms": {**content.get("alarms", {}), check: alarm}})
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
