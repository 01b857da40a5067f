"""Registers what medbill adds to Airflow itself."""

from airflow.plugins_manager import AirflowPlugin

from medbill_plugin import listener, log_net
from medbill_plugin.doors import ReferenceDoor

log_net.install()


class MedbillPlugin(AirflowPlugin):
    """The ledger's listener: one row for each start and end of a task run. And the door before the API: references only."""

    name = "medbill"
    listeners = [listener]  # noqa: RUF012 - Airflow reads it as a class attribute
    fastapi_root_middlewares = [{"name": "references", "middleware": ReferenceDoor}]  # noqa: RUF012 - as above
