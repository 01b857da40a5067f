"""What of an OpenLineage event may be emitted: an allow-list, since events carry conf, error text and code by default.

Kept: ids and names of jobs and runs, times, versions, owners, and datasets of medbill's zones with counts, the names of
their columns, what became of these, and how expectations went. Dropped: everything else, known today or not; of a facet
that is kept, every field that could hold text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import attr
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent
from openlineage.client.transport.transform import EventTransformer

from medbill.lineage.datasets import canonical

RUN_FACETS = frozenset({"parent", "nominalTime", "processing_engine"})
JOB_FACETS = frozenset({"jobType", "ownership"})
DATASET_FACETS = frozenset({"schema", "columnLineage", "dataQualityAssertions"})
INPUT_FACETS = frozenset({"inputStatistics", "dataQualityAssertions"})
OUTPUT_FACETS = frozenset({"outputStatistics"})
#: Names of columns, tables, types, suites and expectations; and what a policy says of a column.
_NAME = re.compile(
    r"[A-Za-z][\w.]{0,120}|list<(?:item|element): \w+(?: not null)?>|(?:decimal128|timestamp)[\w(), =\[\]]{1,30}|date32\[day\]"
)
_HOW = re.compile(r"keep|drop|tokenize [A-Z_]{2,32}|generalize to the year|de-identify free text")


class AllowListTransformer(EventTransformer):
    """The `transformer_class` of the transform transport. Run events pass in part, all others not at all."""

    def __init__(self, properties: dict[str, Any] | None = None) -> None:
        super().__init__(properties or {})

    def transform(self, event: Any) -> RunEvent | None:
        if not isinstance(event, RunEvent):
            return None
        return RunEvent(
            eventTime=event.eventTime,
            producer=event.producer,
            eventType=event.eventType,
            run=Run(runId=event.run.runId, facets=_only(event.run.facets, RUN_FACETS)),
            job=Job(namespace=event.job.namespace, name=event.job.name, facets=_only(event.job.facets, JOB_FACETS)),
            inputs=[
                InputDataset(
                    namespace=name.namespace,
                    name=name.name,
                    facets=_only(found.facets, DATASET_FACETS),
                    inputFacets=_only(getattr(found, "inputFacets", None), INPUT_FACETS),
                )
                for found in event.inputs or []
                if (name := canonical(found.namespace, found.name))
            ],
            outputs=[
                OutputDataset(
                    namespace=name.namespace,
                    name=name.name,
                    facets=_only(found.facets, DATASET_FACETS),
                    outputFacets=_only(getattr(found, "outputFacets", None), OUTPUT_FACETS),
                )
                for found in event.outputs or []
                if (name := canonical(found.namespace, found.name))
            ],
        )


def _only(facets: Mapping[str, Any] | None, allowed: frozenset[str]) -> dict[str, Any]:
    return {name: _PRUNED.get(name, _as_it_is)(facet) for name, facet in (facets or {}).items() if name in allowed}


def _as_it_is(facet: Any) -> Any:
    return facet


def _schema(facet: Any) -> Any:
    fields = [
        attr.evolve(field, description=None, fields=[], type=field.type if _plain(field.type) else None)
        for field in facet.fields or []
        if _plain(field.name)
    ]
    return attr.evolve(facet, fields=fields)


def _column_lineage(facet: Any) -> Any:
    fields = {
        name: attr.evolve(
            field, inputFields=_origins(field.inputFields), transformationDescription=None, transformationType=None
        )
        for name, field in facet.fields.items()
        if _plain(name)
    }
    return attr.evolve(facet, fields=fields, dataset=_origins(facet.dataset))


def _origins(fields: Any) -> list[Any]:
    kept = []
    for field in fields or []:
        name = canonical(field.namespace, field.name)
        if name and _plain(field.field):
            done = [
                attr.evolve(
                    t,
                    subtype=t.subtype if _plain(t.subtype) else None,
                    description=t.description if _HOW.fullmatch(t.description or "") else None,
                )
                for t in field.transformations or []
                if t.type in ("DIRECT", "INDIRECT")
            ]
            kept.append(attr.evolve(field, namespace=name.namespace, name=name.name, transformations=done))
    return kept


def _assertions(facet: Any) -> Any:
    kept = [
        type(a)(
            assertion=a.assertion,
            success=bool(a.success),
            column=a.column if _plain(a.column) else None,
            severity=a.severity if _plain(a.severity) else None,
        )
        for a in facet.assertions
        if _plain(a.assertion)
    ]
    return attr.evolve(facet, assertions=kept)


def _statistics(facet: Any) -> Any:
    counts = {name: getattr(facet, name) for name in ("rowCount", "size", "fileCount")}
    return attr.evolve(facet, **{name: n if isinstance(n, int) else None for name, n in counts.items()})


def _plain(text: object) -> bool:
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


_PRUNED: dict[str, Callable[[Any], Any]] = {
    "schema": _schema,
    "columnLineage": _column_lineage,
    "dataQualityAssertions": _assertions,
    "inputStatistics": _statistics,
    "outputStatistics": _statistics,
}
