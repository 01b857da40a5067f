"""The inputs and outputs of a task run for OpenLineage: what it declared, what it did, and what became of each column."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from openlineage.client.event_v2 import InputDataset, OutputDataset

from medbill.deid import policy
from medbill.lineage import facets, facts
from medbill.lineage.datasets import DatasetName, dataset
from medbill.lineage.facets import Column
from medbill.lineage.facts import Facts


def inputs(declared: Iterable[DatasetName]) -> list[InputDataset]:
    """The datasets a task reads, those it declared first, with what was counted and checked of them."""
    done = facts.reads()
    found = []
    for name in dict.fromkeys((*declared, *done)):
        of = done.get(name, Facts())
        counted = {**facets.input_statistics(of), **facets.assertions(of)}
        found.append(InputDataset(name.namespace, name.name, facets=_schema(name), inputFacets=counted))
    return found


def outputs(declared: Iterable[DatasetName], policies: Path) -> list[OutputDataset]:
    """The datasets a task writes; de-identified ones with the lineage of every column, by the policy in force."""
    done = facts.writes()
    found = []
    for name in dict.fromkeys((*declared, *done)):
        of = done.get(name, Facts())
        lineage = {}
        if name.zone == "deid":
            rules = policy.load(policies / "deidentification.yml")
            landed = dataset("landing", _object(name))
            lineage["columnLineage"] = facets.column_lineage(landed, columns(rules, _object(name)))
        found.append(
            OutputDataset(
                namespace=name.namespace,
                name=name.name,
                # a gate's findings on what is written have no facet of their own kind: they are the dataset's
                facets={**_schema(name), **lineage, **facets.assertions(of)},
                outputFacets=facets.output_statistics(of),
            )
        )
    return found


def columns(rules: policy.Policy, object_name: str) -> list[Column]:
    """Every landed field of an object and what the policy makes of it; a field the policy does not name is dropped."""
    found = []
    for table, fields in policy.LANDED[object_name].items():
        named = rules.rules[object_name][table]
        for field in fields:
            rule = named.get(field)
            action = rule.action if rule else "drop"
            column = rule.column if rule else None
            kind = f" {rule.kind}" if rule and rule.kind else ""
            found.append(
                Column(
                    source=f"{table}.{field}",
                    column=f"{table}.{column}" if column else None,
                    how={"year": "generalize to the year", "text": "de-identify free text"}.get(action, action) + kind,
                    masking=action != "keep",
                )
            )
    return found


def _object(name: DatasetName) -> str:
    return name.name.partition("/")[2]


def _schema(name: DatasetName) -> dict[str, Any]:
    """Names and types of the columns of a landed or published object, `table.column`."""
    known = name.name.partition("/")[2]
    if name.zone == "landing" and known in policy.LANDED:
        tables = {table: dict(fields) for table, fields in policy.LANDED[known].items()}
    elif name.zone == "deid" and known in policy.PUBLISHED:
        tables = {
            table: {field.name: field.type for field in schema} for table, schema in policy.PUBLISHED[known].items()
        }
    else:
        return {}
    named = {f"{table}.{field}": str(kind) for table, fields in tables.items() for field, kind in fields.items()}
    return {"schema": facets.schema(named)}
