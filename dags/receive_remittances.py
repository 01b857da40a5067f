"""835 files from the inbox into the landing zone, hourly or on demand.

Used by the payment posting team. Promises: a file is sealed before it leaves the inbox, the same file twice is a no-op,
the same name with other content waits for a person, and every record is either landed or quarantined with its reason.
"""

from datetime import timedelta

import pendulum
from airflow.sdk import CronTriggerTimetable, dag, task

from common import run
from common.assets import INBOX, LANDED_REMITTANCES, PRACTICES
from common.defaults import DEFAULTS, LATE


@dag(
    schedule=CronTriggerTimetable("5 * * * *", timezone="UTC"),
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=2),
    default_args=DEFAULTS,
    deadline=LATE,
    description="Remittance files from the inbox: seal, read, gate 1, land",
    doc_md=__doc__,
    tags=["remittances"],
)
def receive_remittances():
    @task(inlets=[PRACTICES])
    def practices() -> list[str]:
        from medbill.pipelines import tasks

        return tasks.practices()

    @task(multiple_outputs=False, inlets=[INBOX], outlets=[LANDED_REMITTANCES])
    def receive(practice: str) -> dict:
        from medbill.pipelines import tasks

        return run.or_skip(tasks.receive(practice))

    receive.expand(practice=practices())


receive_remittances()
