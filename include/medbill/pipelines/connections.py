"""Platform clients from Airflow connections (in a task) or from AIRFLOW_CONN_* variables (on the command line)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from medbill.errors import PlatformError
from medbill.pipelines.context import Context
from medbill.platforms.drchrono import DrChrono
from medbill.platforms.oauth import Credentials, FileTokenStore


def client(ctx: Context, practice: str, connection: Mapping[str, Any]) -> DrChrono:
    """The practice's platform client. connection: host (base URL), login (client id), password (client secret), and
    refresh_token. Raises PlatformError where the platform has no adapter or the connection is incomplete."""
    platform = ctx.settings.practice(practice).platform
    if platform != "drchrono":
        raise PlatformError(
            "there is no adapter for this practice's platform; see docs/platforms.md", code="PLATFORM_UNSUPPORTED"
        )
    try:
        credentials = Credentials(connection["login"], connection["password"], connection["refresh_token"])
        base_url = str(connection["host"])
    except KeyError:
        raise PlatformError(
            "the connection needs host, login, password and, in its extra, refresh_token", code="PLATFORM_CREDENTIALS"
        ) from None
    if connection.get("port"):
        base_url = f"{base_url}:{connection['port']}"
    if "://" not in base_url:
        base_url = f"{connection.get('schema') or 'https'}://{base_url}"
    tokens = FileTokenStore(ctx.settings.home / "tokens" / f"{platform}-{practice}.json")
    return DrChrono(base_url, credentials, tokens=tokens, policies=ctx.settings.policies)


def from_env(platform: str, practice: str) -> dict[str, Any]:
    """The connection as Airflow would read it from AIRFLOW_CONN_<PLATFORM>_<PRACTICE> (JSON form)."""
    name = f"AIRFLOW_CONN_{platform}_{practice}".upper().replace("-", "_")
    try:
        found = json.loads(os.environ[name])
    except (KeyError, ValueError):
        raise PlatformError(f"set {name} to the connection in JSON form", code="PLATFORM_CREDENTIALS") from None
    return {**found, **found.get("extra", {})}
