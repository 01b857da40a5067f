"""What of an OpenLineage event may be emitted: an allow-list, since events carry conf, error text and code by default.

Kept: ids and names of jobs and runs, times, versions, owners, and datasets of medbill's zones with counts and schema.
Dropped: everything else, known today or not.
"""

from __future__ import annotations

from typing import Any

from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent
from openlineage.client.transport.transform import EventTransformer

from medbill.lineage.datasets import canonical

RUN_FACETS = frozenset({"parent", "nominalTime", "processing_engine"})
JOB_FACETS = frozenset({"jobType", "ownership"})
DATASET_FACETS = frozenset({"schema", "version", "columnLineage", "datasetType", "lifecycleStateChange"})
INPUT_FACETS = frozenset({"inputStatistics", "dataQualityMetrics"})
OUTPUT_FACETS = frozenset({"outputStatistics"})


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


def _only(facets: dict[str, Any] | None, allowed: frozenset[str]) -> dict[str, Any]:
    return {name: facet for name, facet in (facets or {}).items() if name in allowed}
