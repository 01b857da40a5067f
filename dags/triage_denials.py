"""Every denial gets a category, an action, a deadline and a rank; what can be recovered becomes a follow-up proposal.

Used by A/R specialists and denial analysts. Rules only: CARC, RARC, group code, contract and deadline policies.
"""

from datetime import timedelta

import pendulum
from airflow.sdk import AssetOrTimeSchedule, CronDataIntervalTimetable, dag, task

from common import run
from common.assets import DENIALS, POSTINGS, PROPOSALS, REMITTANCES
from common.defaults import DEFAULTS, LATE


@dag(
    schedule=AssetOrTimeSchedule(timetable=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"), assets=POSTINGS),
    start_date=pendulum.datetime(2024, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=2,
    dagrun_timeout=timedelta(hours=4),
    default_args=DEFAULTS,
    deadline=LATE,
    description="Classify and rank denials, propose follow-ups",
    doc_md=__doc__,
    tags=["denials", "proposals"],
)
def triage_denials():
    @task(multiple_outputs=False, inlets=[REMITTANCES, POSTINGS], outlets=[DENIALS, PROPOSALS])
    def triage(dag_run=None, data_interval_start=None) -> dict:
        from medbill.pipelines import tasks

        return run.or_skip(tasks.triage(tasks.days(dag_run.run_type, data_interval_start)))

    triage()


triage_denials()
