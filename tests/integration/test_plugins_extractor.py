"""A task's lineage through Airflow's own OpenLineage provider: its extractor, its masker, its client, into the file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from medbill.stack.environment import openlineage_transport

ROOT = Path(__file__).resolve().parents[2]
CANARY = "QUILLSWORTH"
pytestmark = pytest.mark.slow

_RUN = f"""
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from airflow.providers.openlineage.extractors.manager import ExtractorManager
from airflow.providers.openlineage.plugins.adapter import OpenLineageAdapter
from airflow.sdk import Asset, dag, task
from airflow.utils.state import TaskInstanceState
from airflow.sdk.log import mask_secret
from medbill.lineage import facts
from medbill.lineage.datasets import dataset

@dag(schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc))
def probe():
    @task(inlets=[Asset("a", uri="file://medbill/landing/claims")], outlets=[Asset("b", uri="file://medbill/deid/claims")])
    def publish():
        "{CANARY} in the source"
    publish()

operator = probe().get_task("publish")
manager, adapter = ExtractorManager(), OpenLineageAdapter()
run, ti = SimpleNamespace(run_id="r"), SimpleNamespace()
started = manager.extract_metadata(run, operator, TaskInstanceState.RUNNING, ti)
facts.read(dataset("landing", "claims"), rows=7, size=700)
facts.wrote(dataset("deid", "claims"), rows=7, size=600)
ended = manager.extract_metadata(run, operator, TaskInstanceState.SUCCESS, ti)
common = dict(
    run_id="01a20e84-9660-70f2-98b4-2430ea4822f0", job_name="probe.publish", nominal_start_time=None,
    nominal_end_time=None, owners=["medbill"], tags=["{CANARY}"], job_description="{CANARY}",
)
adapter.start_task(event_time="2026-11-24T10:00:00+00:00", task=started, **common)
adapter.complete_task(end_time="2026-11-24T10:00:01+00:00", task=ended, **common)
adapter.fail_task(
    end_time="2026-11-24T10:00:02+00:00", task=ended, error=ValueError("{CANARY}"), **common
)
"""


def _events(home: Path, **more: str) -> tuple[list[dict[str, Any]], str]:
    target = home / "events.jsonl"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MEDBILL"))}
    env.update(
        AIRFLOW_HOME=str(home),
        AIRFLOW__CORE__PLUGINS_FOLDER=str(ROOT / "plugins"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__OPENLINEAGE__TRANSPORT=json.dumps(openlineage_transport(target)),
        AIRFLOW__OPENLINEAGE__NAMESPACE="medbill",
        PYTHONPATH=os.pathsep.join((str(ROOT / "include"), str(ROOT / "plugins"))),
        **more,
    )
    (home / "probe.py").write_text(_RUN)  # a file, so that the provider's own extractor finds the source
    done = subprocess.run(
        [sys.executable, str(home / "probe.py")], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in target.read_text().splitlines()], target.read_text()


@pytest.fixture(scope="module")
def emitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], str]:
    extractor = "medbill_plugin.extractor.TaskExtractor"
    return _events(tmp_path_factory.mktemp("home"), AIRFLOW__OPENLINEAGE__EXTRACTORS=extractor)


def test_every_event_of_a_task_has_its_real_inputs_and_outputs(emitted: tuple[list[dict[str, Any]], str]) -> None:
    events, _ = emitted
    assert [e["eventType"] for e in events] == ["START", "COMPLETE", "FAIL"]
    for event in events:
        assert [(d["namespace"], d["name"]) for d in event["inputs"]] == [("medbill", "landing/claims")]
        assert [(d["namespace"], d["name"]) for d in event["outputs"]] == [("medbill", "deid/claims")]


def test_the_end_says_how_much_and_what_became_of_each_column(emitted: tuple[list[dict[str, Any]], str]) -> None:
    complete = emitted[0][1]
    read, wrote = complete["inputs"][0], complete["outputs"][0]
    assert (read["inputFacets"]["inputStatistics"]["rowCount"], read["inputFacets"]["inputStatistics"]["size"]) == (
        7,
        700,
    )
    assert wrote["outputFacets"]["outputStatistics"]["rowCount"] == 7
    fields = wrote["facets"]["columnLineage"]["fields"]
    # Airflow's masker would hide everything under a name with "token" in it
    assert fields["claims.claim_token"]["inputFields"][0]["transformations"][0]["masking"] is True


def test_no_source_description_tag_or_error_leaves(emitted: tuple[list[dict[str, Any]], str]) -> None:
    assert CANARY not in emitted[1]


def test_without_the_extractor_the_end_knows_neither_counts_nor_columns(tmp_path: Path) -> None:
    complete = _events(tmp_path)[0][1]
    assert not complete["outputs"][0].get("outputFacets") and "columnLineage" not in complete["outputs"][0]["facets"]
