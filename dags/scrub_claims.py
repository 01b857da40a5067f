"""Published claims are checked against the official edits and payer rules; what a coder must see becomes a proposal.

Used by coders, before claims are sent or corrected. Promises: every claim passes, is proposed for coder review, or waits for
reference tables that are not loaded, with one alarm per practice; re-running changes nothing.
"""

from datetime import timedelta

import pendulum
from airflow.sdk import AssetOrTimeSchedule, CronDataIntervalTimetable, dag, task

from common import run
from common.assets import CLAIMS, PROPOSALS, REFERENCE, SCRUBBED
from common.defaults import DEFAULTS, LATE


@dag(
    schedule=AssetOrTimeSchedule(timetable=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"), assets=CLAIMS),
    start_date=pendulum.datetime(2024, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=4),
    default_args=DEFAULTS,
    deadline=LATE,
    description="Scrub published claims, propose coder reviews",
    doc_md=__doc__,
    tags=["claims", "proposals"],
)
def scrub_claims():
    @task(multiple_outputs=False, inlets=[CLAIMS, REFERENCE], outlets=[SCRUBBED, PROPOSALS])
    def scrub(dag_run=None, data_interval_start=None) -> dict:
        from medbill.pipelines import tasks

        return run.or_skip(tasks.scrub(tasks.days(dag_run.run_type, data_interval_start)))

    scrub()


scrub_claims()
