"""Defaults of every DAG: who owns its tasks, how often they retry, when they give up, when a run counts as late."""

from datetime import timedelta

from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference

DEFAULTS = {
    "owner": "medbill",
    "retries": 2,
    "retry_delay": timedelta(seconds=20),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=10),
    "execution_timeout": timedelta(minutes=30),
}

#: A run that has not ended two hours after it was queued is told to the ledger and the triggerer's log.
LATE = DeadlineAlert(
    reference=DeadlineReference.DAGRUN_QUEUED_AT,
    interval=timedelta(hours=2),
    callback=AsyncCallback("medbill_plugin.deadline.late"),
)
