"""Platform clients from Airflow connections (in a task) or from AIRFLOW_CONN_* variables (on the command line)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

from medbill.errors import PlatformError
from medbill.pipelines.context import Context
from medbill.platforms import registry
from medbill.platforms.base import Platform, Setup
from medbill.platforms.budget import DatabaseCalls
from medbill.platforms.circuit import DatabaseCircuit
from medbill.platforms.oauth import FileTokenStore


@contextmanager
def client(ctx: Context, practice: str, connection: Mapping[str, Any]) -> Iterator[Platform]:
    """The practice's account on its platform, closed at the end; rate budget and circuit are shared by all workers.

    connection: host (base URL), login, password and what the platform's adapter needs besides (docs/platforms.md).
    Raises PlatformError where the platform has no adapter or the connection is incomplete.
    """
    adapter = registry.adapter(ctx.settings.practice(practice).platform)
    setup = Setup(
        connection=connection,
        policies=ctx.settings.policies,
        tokens=FileTokenStore(ctx.settings.home / "tokens" / f"{adapter.name}-{practice}.json"),
        calls=DatabaseCalls(ctx.db, practice, adapter.name),
        circuit=DatabaseCircuit(ctx.db, practice, adapter.name),
    )
    with closing(adapter.open(setup)) as platform:
        yield platform


def from_env(platform: str, practice: str) -> dict[str, Any]:
    """The connection as Airflow would read it from AIRFLOW_CONN_<PLATFORM>_<PRACTICE> (JSON form)."""
    name = f"AIRFLOW_CONN_{platform}_{practice}".upper().replace("-", "_")
    try:
        found = json.loads(os.environ[name])
    except (KeyError, ValueError):
        raise PlatformError(f"set {name} to the connection in JSON form", code="PLATFORM_CREDENTIALS") from None
    return {**found, **found.get("extra", {})}
