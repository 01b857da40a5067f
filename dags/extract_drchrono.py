"""Billed claims from DrChrono with the notes on them, hourly. Only the fields of include/policies/extraction.yml ever leave the adapter.

Used by the practices whose platform is DrChrono. Promises: windows with overlap, so late changes arrive; a day whose
claims did not change is not landed again.
"""

from datetime import timedelta

import pendulum
from airflow.sdk import CronTriggerTimetable, dag, task

from common import run
from common.assets import LANDED_CLAIMS, LANDED_NOTES, PLATFORM_CLAIMS, PRACTICES
from common.defaults import DEFAULTS, LATE


@dag(
    schedule=CronTriggerTimetable("35 * * * *", timezone="UTC"),
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=2),
    default_args=DEFAULTS,
    deadline=LATE,
    description="Billed claims of DrChrono practices into the landing zone",
    doc_md=__doc__,
    tags=["extract", "claims"],
)
def extract_drchrono():
    @task(inlets=[PRACTICES])
    def practices() -> list[str]:
        from medbill.pipelines import tasks

        return tasks.practices(platform="drchrono")

    @task(multiple_outputs=False, inlets=[PLATFORM_CLAIMS], outlets=[LANDED_CLAIMS, LANDED_NOTES])
    def extract(practice: str) -> dict:
        from medbill.pipelines import tasks

        return run.or_skip(tasks.extract(practice, "drchrono", run.connection("drchrono", practice)))

    extract.expand(practice=practices())


extract_drchrono()
