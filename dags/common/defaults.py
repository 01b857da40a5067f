"""Task defaults of every DAG: who owns it, how often it retries, when it gives up."""

from datetime import timedelta

DEFAULTS = {
    "owner": "medbill",
    "retries": 2,
    "retry_delay": timedelta(seconds=20),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=10),
    "execution_timeout": timedelta(minutes=30),
}
