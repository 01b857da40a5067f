"""Emitted events against OpenLineage's own JSON Schemas (a copy in shared/data/openlineage)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import job_type_job, nominal_time_run, parent_run, processing_engine_run
from openlineage.client.serde import Serde
from referencing import Registry, Resource

from medbill.lineage import facts
from medbill.lineage.datasets import dataset
from medbill.lineage.transformer import AllowListTransformer
from medbill.pipelines import lineage

POLICIES = Path(__file__).resolve().parents[2] / "include" / "policies"
_RUN = "01a20e84-9660-70f2-98b4-2430ea4822f0"


class Schemas:
    def __init__(self, folder: Path) -> None:
        self.core = json.loads((folder / "OpenLineage.json").read_text())
        contents = [self.core] + [json.loads(p.read_text()) for p in sorted((folder / "facets").glob("*.json"))]
        resources = [(c["$id"], Resource.from_contents(c)) for c in contents]
        # facets point to older cores, which the copy lacks; the parts they use are the same
        base = "https://openlineage.io/spec/"
        resources += [
            (f"{base}{v}/OpenLineage.json", Resource.from_contents(self.core))
            for v in ("0-0-1", "0-0-2", "1-0-0", "1-0-1", "1-0-2", "1-0-5", "1-1-0", "2-0-0", "2-0-1")
        ]
        self.registry: Registry = Registry().with_resources(resources)
        self.facets = {name: c["$id"] for c in contents[1:] for name in c.get("properties", {})}

    def problems(self, event: dict[str, Any]) -> list[str]:
        found = self._errors(event, self.core)
        for part in (event["run"], event["job"], *event["inputs"], *event["outputs"]):
            for kind in ("facets", "inputFacets", "outputFacets"):
                for name, facet in (part.get(kind) or {}).items():
                    assert name in self.facets, f"facet {name} is none of OpenLineage's"
                    found += self._errors({name: facet}, {"$ref": self.facets[name]})
        return found

    def _errors(self, instance: object, schema: dict[str, Any]) -> list[str]:
        validator = jsonschema.Draft202012Validator(
            schema, registry=self.registry, format_checker=jsonschema.FormatChecker()
        )
        return [f"{'/'.join(map(str, e.path))}: {e.validator}" for e in validator.iter_errors(instance)]


@pytest.fixture(scope="module")
def schemas(shared: Path) -> Schemas:
    return Schemas(shared / "data" / "openlineage")


def _event() -> dict[str, Any]:
    event = RunEvent(
        eventTime="2026-11-24T10:00:00+00:00",
        producer="https://example.org/producer",
        eventType=RunState.COMPLETE,
        run=Run(
            runId=_RUN,
            facets={
                "nominalTime": nominal_time_run.NominalTimeRunFacet("2026-11-24T10:00:00+00:00"),
                "parent": parent_run.ParentRunFacet(
                    run=parent_run.Run(runId=_RUN), job=parent_run.Job("medbill", "deidentify")
                ),
                "processing_engine": processing_engine_run.ProcessingEngineRunFacet("3.3.2", "Airflow", "2.20.3"),
            },
        ),
        job=Job("medbill", "deidentify.publish", {"jobType": job_type_job.JobTypeJobFacet("BATCH", "AIRFLOW", "TASK")}),
        inputs=[InputDataset("file://medbill", "/landing/claims")],
        outputs=[OutputDataset("file://medbill", "/deid/claims")],
    )
    return json.loads(Serde.to_json(AllowListTransformer().transform(event)))


def test_what_we_emit_is_openlineage(schemas: Schemas) -> None:
    assert schemas.problems(_event()) == []


_ASSERTION = {"assertion": "claims.expect_column_values_to_not_be_null", "severity": "error", "column": "paid"}


def _deidentified() -> dict[str, Any]:
    facts.clear()
    for name in ("remittances", "claims", "notes"):
        facts.read(dataset("landing", name), rows=12, size=3400)
        facts.checked_read(dataset("landing", name), [{**_ASSERTION, "success": False}])
        facts.wrote(dataset("deid", name), rows=12, size=3000)
        facts.checked_written(dataset("deid", name), [{**_ASSERTION, "success": True}])
    event = RunEvent(
        eventTime="2026-11-24T10:00:00+00:00",
        producer="https://example.org/producer",
        eventType=RunState.COMPLETE,
        run=Run(runId=_RUN),
        job=Job("medbill", "deidentify.publish"),
        inputs=lineage.inputs([]),
        outputs=lineage.outputs([], POLICIES),
    )
    facts.clear()
    return json.loads(Serde.to_json(AllowListTransformer().transform(event)))


def test_columns_checks_and_counts_are_openlineage(schemas: Schemas) -> None:
    event = _deidentified()
    assert schemas.problems(event) == []
    assert {(d["name"], *sorted(d["facets"])) for d in event["outputs"]} == {
        (f"deid/{name}", "columnLineage", "dataQualityAssertions", "schema")
        for name in ("remittances", "claims", "notes")
    }
    assert all(set(d["inputFacets"]) == {"inputStatistics", "dataQualityAssertions"} for d in event["inputs"])


@pytest.mark.parametrize(
    ("facet", "key", "wrong"),
    [
        ("columnLineage", "fields", []),
        ("dataQualityAssertions", "assertions", [{"success": "maybe"}]),
        ("schema", "fields", [{"type": "string"}]),
    ],
)
def test_a_damaged_facet_is_noticed_by_its_own_schema(schemas: Schemas, facet: str, key: str, wrong: object) -> None:
    event = _deidentified()
    event["outputs"][0]["facets"][facet][key] = wrong
    assert schemas.problems(event)


@pytest.mark.parametrize("damage", ["runId", "namespace", "eventTime"])
def test_a_damaged_event_is_noticed(schemas: Schemas, damage: str) -> None:
    event = _event()
    if damage == "runId":
        event["run"]["runId"] = "not-a-uuid"
    elif damage == "namespace":
        del event["job"]["namespace"]
    else:
        del event["eventTime"]
    assert schemas.problems(event)
