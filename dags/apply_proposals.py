"""Approved proposals are written back to the platform, every quarter of an hour.

Promises: nothing goes out without a decision bound to the hash of exactly what goes out; a write whose outcome is
unknown is read back before it is sent again; only the tokens the platform needs are re-identified, each in the ledger.
"""

from datetime import timedelta

import pendulum
from airflow.sdk import CronTriggerTimetable, dag, task

from common import run
from common.assets import PRACTICES, PROPOSALS, WRITE_BACKS
from common.defaults import DEFAULTS, LATE


@dag(
    schedule=CronTriggerTimetable("*/15 * * * *", timezone="UTC"),
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=1),
    default_args=DEFAULTS,
    deadline=LATE,
    description="Write approved proposals back to the billing platform",
    doc_md=__doc__,
    tags=["proposals", "write-back"],
)
def apply_proposals():
    @task(inlets=[PRACTICES])
    def accounts() -> list[dict]:
        from medbill.pipelines import tasks

        return tasks.accounts()

    @task(multiple_outputs=False, inlets=[PROPOSALS], outlets=[WRITE_BACKS])
    def apply(practice: str, platform: str) -> dict:
        from medbill.pipelines import tasks

        return tasks.apply(practice, run.connection(platform, practice))

    apply.expand_kwargs(accounts())


apply_proposals()
