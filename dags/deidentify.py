"""Landed partitions are de-identified, gated again and published.

Used by everything downstream: nothing else reads the landing zone. Promises: every field has a policy, no identifier
value is left (gate 2), totals equal the landing's to the cent, publishing is one atomic swap.
"""

from datetime import timedelta

import pendulum
from airflow.sdk import AssetAny, dag, task

from common import run
from common.assets import CLAIMS, LANDED_CLAIMS, LANDED_NOTES, LANDED_REMITTANCES, NOTES, REMITTANCES
from common.defaults import DEFAULTS, LATE


@dag(
    schedule=AssetAny(LANDED_CLAIMS, LANDED_REMITTANCES, LANDED_NOTES),
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=4),
    default_args=DEFAULTS,
    deadline=LATE,
    description="De-identify landed partitions, gate 2, publish",
    doc_md=__doc__,
    tags=["claims", "remittances", "notes", "de-identification"],
)
def deidentify():
    @task(multiple_outputs=False, inlets=[LANDED_CLAIMS], outlets=[CLAIMS])
    def publish_claims() -> dict:
        from medbill.pipelines import tasks

        return run.or_skip(tasks.publish("claims"))

    @task(multiple_outputs=False, inlets=[LANDED_REMITTANCES], outlets=[REMITTANCES], trigger_rule="none_failed")
    def publish_remittances() -> dict:
        from medbill.pipelines import tasks

        return run.or_skip(tasks.publish("remittances"))

    @task(multiple_outputs=False, inlets=[LANDED_NOTES], outlets=[NOTES], trigger_rule="none_failed")
    def publish_notes() -> dict:
        from medbill.pipelines import tasks

        return run.or_skip(tasks.publish("notes"))

    # claims first: a remittance posted before its claims are known would be held for nothing
    publish_claims() >> publish_remittances() >> publish_notes()


deidentify()
