"""What leaves the process as lineage: names of ours, and nothing that could carry a value."""

from __future__ import annotations

import pytest
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    documentation_dataset,
    error_message_run,
    job_type_job,
    nominal_time_run,
    parent_run,
    schema_dataset,
    source_code_job,
)
from openlineage.client.serde import Serde

from medbill.lineage.datasets import canonical, dataset
from medbill.lineage.transformer import AllowListTransformer

CANARY = "CANARY DOE JANE 1961-02-03"
_RUN = "01a20e84-9660-70f2-98b4-2430ea4822f0"


def event_with_canaries() -> RunEvent:
    """An event as the provider makes it, with a canary in every place seen to leak."""
    return RunEvent(
        eventTime="2026-11-24T10:00:00+00:00",
        producer="https://example.org/producer",
        eventType=RunState.FAIL,
        run=Run(
            runId=_RUN,
            facets={
                "nominalTime": nominal_time_run.NominalTimeRunFacet("2026-11-24T10:00:00+00:00"),
                "parent": parent_run.ParentRunFacet(
                    run=parent_run.Run(runId=_RUN), job=parent_run.Job("medbill", "deidentify")
                ),
                "errorMessage": error_message_run.ErrorMessageRunFacet(CANARY, "python", CANARY),
                "airflow": error_message_run.ErrorMessageRunFacet(CANARY, "python"),
                "airflowDagRun": error_message_run.ErrorMessageRunFacet(CANARY, "python"),
                "unknownSourceAttribute": error_message_run.ErrorMessageRunFacet(CANARY, "python"),
                "madeUpTomorrow": error_message_run.ErrorMessageRunFacet(CANARY, "python"),
            },
        ),
        job=Job(
            namespace="medbill",
            name="deidentify.publish",
            facets={
                "jobType": job_type_job.JobTypeJobFacet("BATCH", "AIRFLOW", "TASK"),
                "sourceCode": source_code_job.SourceCodeJobFacet("python", CANARY),
            },
        ),
        inputs=[
            InputDataset("file://medbill", "/landing/remittances"),
            InputDataset("file", f"/inbox/{CANARY}.835"),
            InputDataset("file://medbill", f"/landing/{CANARY}"),
        ],
        outputs=[
            OutputDataset(
                "file://medbill",
                "/deid/remittances",
                facets={
                    "schema": schema_dataset.SchemaDatasetFacet([schema_dataset.SchemaDatasetFacetFields("paid")]),
                    "documentation": documentation_dataset.DocumentationDatasetFacet(CANARY),
                },
            ),
        ],
    )


def test_no_canary_gets_through() -> None:
    before = event_with_canaries()
    assert CANARY in Serde.to_json(before)
    after = AllowListTransformer().transform(before)
    assert "CANARY" not in Serde.to_json(after)


def test_what_lineage_is_for_gets_through() -> None:
    after = AllowListTransformer().transform(event_with_canaries())
    assert after is not None
    assert (after.run.runId, after.job.namespace, after.job.name) == (_RUN, "medbill", "deidentify.publish")
    assert set(after.run.facets) == {"nominalTime", "parent"}
    assert set(after.job.facets) == {"jobType"}
    assert [(d.namespace, d.name) for d in after.inputs] == [("medbill", "landing/remittances")]
    assert [(d.namespace, d.name, set(d.facets)) for d in after.outputs] == [
        ("medbill", "deid/remittances", {"schema"})
    ]


def test_the_event_of_others_is_left_as_it_was() -> None:
    event = event_with_canaries()
    AllowListTransformer().transform(event)
    assert "errorMessage" in event.run.facets


def test_events_that_are_not_of_runs_are_dropped() -> None:
    assert AllowListTransformer().transform(object()) is None


def test_the_transport_takes_it_by_name(tmp_path) -> None:
    from openlineage.client import OpenLineageClient

    from medbill.stack.environment import openlineage_transport

    target = tmp_path / "events.jsonl"
    client = OpenLineageClient(config={"transport": openlineage_transport(target)})
    client.emit(event_with_canaries())
    client.emit(event_with_canaries())
    lines = target.read_text().splitlines()
    assert len(lines) == 2 and "CANARY" not in target.read_text()


@pytest.mark.parametrize(
    ("namespace", "name", "expected"),
    [
        ("file://medbill", "/deid/claims", "deid/claims"),
        ("medbill", "results/postings", "results/postings"),
        ("file://medbill", "/proposals", "proposals"),
        ("s3://bucket", "deid/claims", None),
        ("file://medbill", "/elsewhere/claims", None),
        ("file://medbill", "/landing/Doe, Jane.835", None),
        ("file://medbill", "/", None),
    ],
)
def test_only_zones_have_a_name(namespace: str, name: str, expected: str | None) -> None:
    found = canonical(namespace, name)
    assert (found.name if found else None) == expected


def test_a_dataset_is_a_zone_and_a_plain_word() -> None:
    assert dataset("deid", "claims").zone == "deid"
    for zone, name in (("nowhere", "claims"), ("deid", "Doe Jane"), ("deid", "../x")):
        with pytest.raises(ValueError, match="not a zone"):
            dataset(zone, name)


def test_the_dags_assets_are_all_in_known_zones() -> None:
    import ast
    from pathlib import Path

    source = Path(__file__).resolve().parents[2] / "dags" / "common" / "assets.py"
    uris = [
        n.value
        for n in ast.walk(ast.parse(source.read_text()))
        if isinstance(n, ast.Constant) and "://" in str(n.value)
    ]
    uris = [u for u in uris if u.startswith("file://medbill/") and "<" not in u]
    assert uris
    for uri in uris:
        assert canonical("file://medbill", uri.removeprefix("file://medbill")), uri
