"""Registers what medbill adds to Airflow itself."""

from airflow.plugins_manager import AirflowPlugin

from medbill_plugin import listener


class MedbillPlugin(AirflowPlugin):
    """The ledger's listener: one row for each start and end of a task run."""

    name = "medbill"
    listeners = [listener]  # noqa: RUF012 - Airflow reads it as a class attribute
