"""Column lineage of de-identification: every column says whether anything of the original is left in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from openlineage.client.event_v2 import Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    column_lineage_dataset,
    data_quality_assertions_dataset,
    output_statistics_output_dataset,
    schema_dataset,
)
from openlineage.client.serde import Serde

from medbill.deid import policy
from medbill.errors import PolicyError
from medbill.lineage import facts
from medbill.lineage.datasets import dataset
from medbill.lineage.transformer import AllowListTransformer
from medbill.pipelines import lineage

POLICIES = Path(__file__).resolve().parents[2] / "include" / "policies"
FILE = POLICIES / "deidentification.yml"
CANARY = "CANARY, JANE"


@pytest.fixture(autouse=True)
def _nothing_done() -> Iterator[None]:
    facts.clear()
    yield
    facts.clear()


def _rules() -> Iterator[tuple[str, str, str, str]]:
    """(object, table, field, what the file says), read without the code under test."""
    for object_name, tables in yaml.safe_load(FILE.read_text()).items():
        for table, fields in tables.items():
            for field, text in fields.items():
                yield object_name, table, field, text


def _emitted(object_name: str) -> dict[str, Any]:
    """The output dataset as it leaves the process."""
    outputs = lineage.outputs([dataset("deid", object_name)], POLICIES)
    event = RunEvent(
        eventTime="2026-11-24T10:00:00+00:00",
        producer="https://example.org/producer",
        eventType=RunState.COMPLETE,
        run=Run("01a20e84-9660-70f2-98b4-2430ea4822f0"),
        job=Job("medbill", "deidentify.publish"),
        outputs=outputs,
    )
    return Serde.to_dict(AllowListTransformer().transform(event))["outputs"][0]


def _origins(object_name: str) -> dict[str, tuple[str | None, dict[str, Any]]]:
    """landed field -> (published column or None, its transformation)."""
    facet = _emitted(object_name)["facets"]["columnLineage"]
    found = {}
    for column, field in facet["fields"].items():
        (origin,) = field["inputFields"]
        found[origin["field"]] = (column, *origin["transformations"])
    for origin in facet["dataset"]:
        found[origin["field"]] = (None, *origin["transformations"])
    return found


@pytest.mark.parametrize("object_name", ["remittances", "claims", "notes"])
def test_every_field_of_the_policy_is_masked_unless_it_is_kept(object_name: str) -> None:
    origins = _origins(object_name)
    rules = [(f"{table}.{field}", text) for o, table, field, text in _rules() if o == object_name]
    assert rules
    for field, text in rules:
        column, done = origins[field]
        kept = text.split()[0].rstrip(",") == "keep"
        assert done["masking"] is not kept, field
        assert (column is None) is text.startswith("drop"), field
        assert done["type"] == ("INDIRECT" if column is None else "DIRECT")


def test_patients_are_masked_by_name() -> None:
    origins = _origins("remittances")
    for field in ("patient_last_name", "patient_first_name", "patient_id", "medical_record_number"):
        column, done = origins[f"claims.{field}"]
        assert column is not None and column.endswith("_token") and done["masking"] is True
        assert done["description"].startswith("tokenize ")
    assert origins["claims.paid"] == (
        "claims.paid",
        {"type": "DIRECT", "subtype": "IDENTITY", "description": "keep", "masking": False},
    )


@pytest.mark.parametrize("object_name", ["remittances", "claims", "notes"])
def test_the_columns_are_exactly_those_that_are_published_and_landed(object_name: str) -> None:
    emitted = _emitted(object_name)
    published = {f"{t}.{c}" for t, schema in policy.PUBLISHED[object_name].items() for c in schema.names}
    assert {f["name"] for f in emitted["facets"]["schema"]["fields"]} == published
    assert {column for column, *_ in _origins(object_name).values() if column} == published
    assert set(_origins(object_name)) == {
        f"{t}.{f}" for t, fields in policy.LANDED[object_name].items() for f in fields
    }


def test_a_published_column_without_a_policy_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wider = policy.PUBLISHED["claims"]["claims"].append(pa.field("nickname", pa.string()))
    monkeypatch.setitem(policy.PUBLISHED["claims"], "claims", wider)
    with pytest.raises(PolicyError, match="nickname"):
        lineage.outputs([dataset("deid", "claims")], POLICIES)


def test_every_landed_field_stands_in_the_policy() -> None:
    named = {(o, t, f) for o, t, f, _ in _rules()}
    landed = {(o, t, f) for o, tables in policy.LANDED.items() for t, fields in tables.items() for f in fields}
    assert landed - named == set()


def test_a_landed_field_without_a_policy_is_dropped_and_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(policy.LANDED["claims"]["claims"], "nickname", pa.string())
    column, done = _origins("claims")["claims.nickname"]
    assert column is None and done["masking"] is True


def test_counts_and_checks_are_summed_over_partitions() -> None:
    claims = dataset("deid", "claims")
    held = {"assertion": "published_claims.expect_column_values_to_not_be_null", "severity": "error", "column": "paid"}
    for success in (True, False, True):
        facts.wrote(claims, rows=10, size=1000)
        facts.checked_written(claims, [{**held, "success": success}])
    emitted = _emitted("claims")
    assert emitted["outputFacets"]["outputStatistics"]["rowCount"] == 30
    assert emitted["outputFacets"]["outputStatistics"]["size"] == 3000
    (assertion,) = emitted["facets"]["dataQualityAssertions"]["assertions"]
    assert {name: assertion[name] for name in held} == held and assertion["success"] is False


def test_what_was_done_beyond_what_was_declared_is_told_too() -> None:
    facts.read(dataset("deid", "claims"), rows=3, size=30)
    facts.wrote(dataset("proposals"), rows=2)
    names = [d.name for d in lineage.inputs([dataset("deid", "remittances")])]
    assert names == ["deid/remittances", "deid/claims"]
    assert [d.name for d in lineage.outputs([], POLICIES)] == ["proposals"]


def test_text_in_a_facet_that_may_pass_does_not() -> None:
    origin = column_lineage_dataset.InputField(
        "medbill", "landing/claims", "claims.x", [column_lineage_dataset.Transformation("DIRECT", CANARY, CANARY, True)]
    )
    stranger = column_lineage_dataset.InputField("file", f"/{CANARY}", CANARY, [])
    facets = {
        "schema": schema_dataset.SchemaDatasetFacet(
            [
                schema_dataset.SchemaDatasetFacetFields("paid", CANARY, CANARY),
                schema_dataset.SchemaDatasetFacetFields(CANARY, "string"),
            ]
        ),
        "columnLineage": column_lineage_dataset.ColumnLineageDatasetFacet(
            {"claims.x": column_lineage_dataset.Fields([origin, stranger], CANARY, CANARY), CANARY: None}, [stranger]
        ),
        "dataQualityAssertions": data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(
            [
                data_quality_assertions_dataset.Assertion(
                    "not_null", True, CANARY, CANARY, CANARY, CANARY, CANARY, CANARY, CANARY, CANARY, {"x": CANARY}
                ),
                data_quality_assertions_dataset.Assertion(CANARY, True),
            ]
        ),
    }
    counts = {"outputStatistics": output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(CANARY, 3)}
    event = RunEvent(
        eventTime="2026-11-24T10:00:00+00:00",
        producer="https://example.org/producer",
        run=Run("01a20e84-9660-70f2-98b4-2430ea4822f0"),
        job=Job("medbill", "deidentify.publish"),
        outputs=[OutputDataset("medbill", "deid/claims", facets=facets, outputFacets=counts)],
    )
    assert CANARY in Serde.to_json(event)
    after = Serde.to_json(AllowListTransformer().transform(event))
    assert "CANARY" not in after
    assert '"masking": true' in after and '"paid"' in after and '"size": 3' in after
