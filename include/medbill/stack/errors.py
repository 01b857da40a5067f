"""What can go wrong with the stack itself."""

from __future__ import annotations

from medbill.errors import MedbillError


class StackError(MedbillError):
    """The embedded stack could not be started, stopped or driven; the message names the log to read."""

    code = "STACK_FAILED"


class AirflowError(StackError):
    """Airflow's REST API refused, did not answer, or a run did not end as it should."""

    code = "AIRFLOW_FAILED"
