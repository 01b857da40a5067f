"""Remittances are matched to the practice's claims: posting proposals, underpayment disputes, holds for a person.

Used by the payment posting team; a backfill over past days re-posts exactly those days. Promises: nothing is written to
the platform here; every remittance claim ends in a proposal or in a hold, to the cent; re-running changes nothing.
"""

from datetime import timedelta

import pendulum
from airflow.sdk import AssetOrTimeSchedule, CronDataIntervalTimetable, dag, task

from common import run
from common.assets import CLAIMS, POSTINGS, PROPOSALS, REMITTANCES
from common.defaults import DEFAULTS, LATE


@dag(
    schedule=AssetOrTimeSchedule(
        timetable=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"), assets=REMITTANCES | CLAIMS
    ),
    start_date=pendulum.datetime(2024, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=2,
    dagrun_timeout=timedelta(hours=4),
    default_args=DEFAULTS,
    deadline=LATE,
    description="Match remittances to claims and propose postings",
    doc_md=__doc__,
    tags=["remittances", "proposals"],
)
def post_payments():
    @task(multiple_outputs=False, inlets=[REMITTANCES, CLAIMS], outlets=[POSTINGS, PROPOSALS])
    def post(dag_run=None, data_interval_start=None) -> dict:
        from medbill.pipelines import tasks

        return run.or_skip(tasks.post(tasks.days(dag_run.run_type, data_interval_start)))

    post()


post_payments()
