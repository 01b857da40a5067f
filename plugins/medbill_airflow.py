"""Registers what medbill adds to Airflow itself."""

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from medbill_plugin import listener, log_net
from medbill_plugin.doors import ReferenceDoor

log_net.install()


async def webhooks(scope: Any, receive: Any, send: Any) -> None:
    """medbill_plugin.webhooks, imported with its first request: this file is read by every task as well."""
    from medbill_plugin.webhooks import app

    await app(scope, receive, send)


class MedbillPlugin(AirflowPlugin):
    """The ledger's listener: one row for each start and end of a task run. The door before the API: references only. The
    receiver of webhooks."""

    name = "medbill"
    listeners = [listener]  # noqa: RUF012 - Airflow reads it as a class attribute
    fastapi_apps = [  # noqa: RUF012 - Airflow reads it as a class attribute
        {"name": "webhooks", "app": webhooks, "url_prefix": "/medbill/webhooks"}
    ]
    fastapi_root_middlewares = [{"name": "references", "middleware": ReferenceDoor}]  # noqa: RUF012 - as above
