"""Every night: the whole ledger verified against its checkpoints, write-backs without a known end, and purging.

Used by the compliance officer. Promises: nothing is purged while the ledger does not verify; what is purged is in the ledger
before and after; a write-back nobody knows the end of is read back, then given to a person, never sent again blindly.
"""

from datetime import timedelta

import pendulum
from airflow.sdk import CronTriggerTimetable, dag, task

from common import run
from common.assets import CHECKPOINTS, LEDGER, PRACTICES, PROPOSALS, RETENTION, WRITE_BACKS
from common.defaults import DEFAULTS, LATE


@dag(
    schedule=CronTriggerTimetable("10 3 * * *", timezone="UTC"),
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    dagrun_timeout=timedelta(hours=6),
    default_args=DEFAULTS,
    deadline=LATE,
    description="Verify the ledger, reconcile write-backs, purge under the retention policy",
    doc_md=__doc__,
    tags=["audit", "retention"],
)
def guard_nightly():
    @task(multiple_outputs=False, inlets=[LEDGER, CHECKPOINTS], execution_timeout=timedelta(hours=3))
    def verify() -> dict:
        from medbill.pipelines import tasks

        return tasks.verify()

    @task(multiple_outputs=False, inlets=[LEDGER])
    def intents(found: dict) -> dict:
        from medbill.pipelines import tasks

        return tasks.intents(found)

    @task(inlets=[PRACTICES])
    def accounts() -> list[dict]:
        from medbill.pipelines import tasks

        return tasks.accounts()

    @task(multiple_outputs=False, inlets=[PROPOSALS], outlets=[WRITE_BACKS])
    def reconcile(account: dict) -> dict:
        from medbill.pipelines import tasks

        return tasks.reconcile(account["practice"], run.connection(account["platform"], account["practice"]))

    @task(multiple_outputs=False, inlets=[RETENTION], execution_timeout=timedelta(hours=3))
    def purge() -> dict:
        from medbill.pipelines import tasks

        return tasks.purge()

    verified = verify()
    intents(verified)
    verified >> purge()
    reconcile.expand(account=accounts())


guard_nightly()
