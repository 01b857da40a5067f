"""OpenLineage facets made of our own facts: names of columns, counts, and how expectations went. Never a value of data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import attr
from openlineage.client.facet_v2 import (
    column_lineage_dataset,
    data_quality_assertions_dataset,
    input_statistics_input_dataset,
    output_statistics_output_dataset,
    schema_dataset,
)

from medbill.lineage.datasets import DatasetName
from medbill.lineage.facts import Facts


@dataclass(frozen=True)
class Column:
    """How one column of a dataset came out of de-identification.

    source: the field as it was landed, `table.field`. column: `table.column` as published, None where it was dropped.
    how: what was done, a word of the policy. masking: nothing of the original is left in it.
    """

    source: str
    column: str | None
    how: str
    masking: bool


@attr.define
class _ColumnLineage(column_lineage_dataset.ColumnLineageDatasetFacet):
    # Airflow's secrets masker hides whatever lies under a name with "token" in it; these are names of columns
    _additional_skip_redact: ClassVar[list[str]] = ["fields"]


def column_lineage(source: DatasetName, columns: Iterable[Column]) -> column_lineage_dataset.ColumnLineageDatasetFacet:
    """Each published column with the landed field it is made of; dropped fields stand under `dataset`, masked."""
    fields: dict[str, Any] = {}
    dropped = []
    for c in columns:
        done = column_lineage_dataset.Transformation(
            type="DIRECT" if c.column else "INDIRECT",
            subtype="TRANSFORMATION" if c.masking else "IDENTITY",
            description=c.how,
            masking=c.masking,
        )
        origin = column_lineage_dataset.InputField(source.namespace, source.name, c.source, [done])
        if c.column is None:
            dropped.append(origin)
        else:
            fields[c.column] = column_lineage_dataset.Fields([origin])
    return _ColumnLineage(fields=fields, dataset=dropped)


def schema(columns: Mapping[str, str]) -> schema_dataset.SchemaDatasetFacet:
    """Names and types of columns, `table.column` -> type."""
    return schema_dataset.SchemaDatasetFacet(
        [schema_dataset.SchemaDatasetFacetFields(name=name, type=kind) for name, kind in columns.items()]
    )


def assertions(facts: Facts) -> dict[str, Any]:
    """The data quality facet of what was checked; empty where nothing was."""
    if not facts.assertions:
        return {}
    found = [
        data_quality_assertions_dataset.Assertion(assertion=name, success=held, column=column, severity=severity)
        for (name, column, severity), held in sorted(facts.assertions.items(), key=lambda item: str(item[0]))
    ]
    return {"dataQualityAssertions": data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(found)}


def input_statistics(facts: Facts) -> dict[str, Any]:
    """Rows and bytes read; empty where nobody counted."""
    if facts.rows is None and facts.bytes is None:
        return {}
    return {
        "inputStatistics": input_statistics_input_dataset.InputStatisticsInputDatasetFacet(
            rowCount=facts.rows, size=facts.bytes
        )
    }


def output_statistics(facts: Facts) -> dict[str, Any]:
    """Rows and bytes written; empty where nobody counted."""
    if facts.rows is None and facts.bytes is None:
        return {}
    return {
        "outputStatistics": output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
            rowCount=facts.rows, size=facts.bytes
        )
    }
