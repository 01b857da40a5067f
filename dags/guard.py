"""The ledger is sealed every four minutes: a signed checkpoint in write-once storage, read back and checked.

Promises: no row waits longer than five minutes for a checkpoint; without new rows the checkpoint is a sign of life. A failed
run is an alarm; its message says what to do, `medbill stack status` repeats it.
"""

from datetime import timedelta

import pendulum
from airflow.sdk import CronTriggerTimetable, dag, task

from common.assets import CHECKPOINTS, LEDGER
from common.defaults import DEFAULTS, LATE


@dag(
    schedule=CronTriggerTimetable("*/4 * * * *", timezone="UTC"),
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    dagrun_timeout=timedelta(minutes=15),
    default_args=DEFAULTS,
    deadline=LATE,
    description="Seal the ledger into signed checkpoints",
    doc_md=__doc__,
    tags=["audit"],
)
def guard():
    # before everything else that waits for a free worker: rows must not wait with it
    @task(
        multiple_outputs=False,
        inlets=[LEDGER],
        outlets=[CHECKPOINTS],
        priority_weight=1000,
        weight_rule="absolute",
        execution_timeout=timedelta(minutes=4),
    )
    def seal() -> dict:
        from medbill.pipelines import tasks

        return tasks.seal()

    seal()


guard()
