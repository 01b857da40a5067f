"""What OpenLineage is told of our tasks: `[openlineage] extractors`. The provider's own would emit their source code."""

from __future__ import annotations

from typing import Any

from airflow.providers.openlineage.extractors.base import BaseExtractor, OperatorLineage

from medbill.lineage.datasets import DatasetName, canonical


class TaskExtractor(BaseExtractor):
    """Datasets as a @task declares them; when it ends, also what it read, wrote and checked (medbill.lineage.facts)."""

    @classmethod
    def get_operator_classnames(cls) -> list[str]:
        return ["_PythonDecoratedOperator"]

    def _execute_extraction(self) -> OperatorLineage:
        from openlineage.client.event_v2 import InputDataset, OutputDataset

        return OperatorLineage(
            inputs=[InputDataset(n.namespace, n.name) for n in _named(self.operator.inlets)],
            outputs=[OutputDataset(n.namespace, n.name) for n in _named(self.operator.outlets)],
        )

    def extract_on_complete(self, task_instance: Any) -> OperatorLineage:
        from medbill.pipelines import lineage
        from medbill.settings import Settings

        return OperatorLineage(
            inputs=lineage.inputs(_named(self.operator.inlets)),
            outputs=lineage.outputs(_named(self.operator.outlets), Settings.from_env().policies),
        )


def _named(assets: Any) -> list[DatasetName]:
    found = []
    for asset in assets or ():
        root, _, name = str(getattr(asset, "uri", "")).partition("file://medbill/")
        if not root and (known := canonical("file://medbill", f"/{name}")):
            found.append(known)
    return found
