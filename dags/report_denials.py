"""The denial root-cause report, each morning and whenever triage has news: one HTML file, CSV and Parquet beside it.

Used by analysts and billing managers. De-identified: claims appear as tokens.
"""

from datetime import timedelta

import pendulum
from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable, dag, task

from common.assets import DENIAL_REPORT, DENIALS, PRACTICES, REMITTANCES
from common.defaults import DEFAULTS, LATE


@dag(
    schedule=AssetOrTimeSchedule(timetable=CronTriggerTimetable("30 5 * * *", timezone="UTC"), assets=DENIALS),
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=1),
    default_args=DEFAULTS,
    deadline=LATE,
    description="Denial root-cause report of the last 90 days",
    doc_md=__doc__,
    tags=["denials", "reports"],
)
def report_denials():
    @task(inlets=[PRACTICES])
    def practices() -> list[str]:
        from medbill.pipelines import tasks

        return tasks.practices()

    @task(multiple_outputs=False, inlets=[DENIALS, REMITTANCES], outlets=[DENIAL_REPORT])
    def report(practice: str) -> dict:
        from medbill.pipelines import tasks

        return tasks.report(practice)

    report.expand(practice=practices())


report_denials()
