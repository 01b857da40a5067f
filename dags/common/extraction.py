"""One DAG for each platform: extract_<platform>."""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import DAG, Asset, AssetOrTimeSchedule, CronTriggerTimetable, dag, task

from common import run
from common.assets import LANDED_CLAIMS, LANDED_NOTES, PLATFORM_CLAIMS, PRACTICES
from common.defaults import DEFAULTS, LATE


def extraction(
    platform: str, minute: int, doc: str, *, hours: str = "*", timezone: str = "UTC", events: Asset | None = None
) -> DAG:
    """Hourly at `minute`, so that platforms do not come all at once; each practice on its own. hours: as in cron.

    events: of the platform's webhooks, which start a run as well.
    """
    hourly = CronTriggerTimetable(f"{minute} {hours} * * *", timezone=timezone)

    @dag(
        dag_id=f"extract_{platform}",
        schedule=AssetOrTimeSchedule(timetable=hourly, assets=events) if events else hourly,
        start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=timedelta(hours=2),
        default_args=DEFAULTS,
        deadline=LATE,
        description="Billed claims of a platform's practices into the landing zone",
        doc_md=doc,
        tags=["extract", "claims", platform],
    )
    def extract_platform():
        @task(inlets=[PRACTICES])
        def practices() -> list[str]:
            from medbill.pipelines import tasks

            return tasks.practices(platform=platform)

        @task(multiple_outputs=False, inlets=[PLATFORM_CLAIMS], outlets=[LANDED_CLAIMS, LANDED_NOTES])
        def extract(practice: str) -> dict:
            from medbill.pipelines import tasks

            return run.or_skip(tasks.extract(practice, platform, run.connection(platform, practice)))

        extract.expand(practice=practices())

    return extract_platform()
