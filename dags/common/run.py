"""The edge between a task and Airflow: what a task may not do itself, done once."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowSkipException


def or_skip(result: dict[str, Any]) -> dict[str, Any]:
    """Skip where nothing was done and nothing waits downstream, so that an idle run wakes nobody."""
    if not result["waiting"] and not result.get("partitions"):
        raise AirflowSkipException("nothing to do")
    return result


def connection(name: str, practice: str) -> dict[str, Any]:
    """The Airflow connection <name>_<practice> as a plain mapping; it stays inside the task."""
    found = Connection.get(f"{name}_{practice}")
    return {
        "host": found.host,
        "schema": found.schema,
        "port": found.port,
        "login": found.login,
        "password": found.password,
        **found.extra_dejson,
    }
