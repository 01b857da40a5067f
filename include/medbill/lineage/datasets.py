"""Names of medbill's data in lineage: one namespace, <zone>/<object> as the name, never a file's own name.

DAG files declare assets as file://medbill/<zone>/<object>; Airflow's provider makes of that the namespace file://medbill
and the name /<zone>/<object>. In lineage both become namespace `medbill`, name `<zone>/<object>`, wherever the bytes lie.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

NAMESPACE = "medbill"
_ASSET_NAMESPACE = "file://medbill"
#: Zones of the flow, from what comes in to what goes out. Zones with protected data hold it sealed.
ZONES = frozenset(
    {
        "policies",
        "reference",
        "platform",
        "inbox",
        "webhooks",
        "landing",
        "quarantine",
        "vault",
        "deid",
        "results",
        "proposals",
        "reports",
        "ledger",
    }
)
_NAME = re.compile(r"[a-z][a-z0-9_]*(/[a-z][a-z0-9_]*)*")


@dataclass(frozen=True)
class DatasetName:
    """A dataset as OpenLineage names it."""

    name: str
    namespace: str = NAMESPACE

    @property
    def zone(self) -> str:
        return self.name.partition("/")[0]


def dataset(zone: str, object_name: str = "") -> DatasetName:
    """The dataset of an object in a zone; raises ValueError for an unknown zone or a name that is not a plain word."""
    name = f"{zone}/{object_name}" if object_name else zone
    if zone not in ZONES or not _NAME.fullmatch(name):
        raise ValueError("not a zone and object of medbill")
    return DatasetName(name)


def canonical(namespace: str, name: str) -> DatasetName | None:
    """The same dataset under our own naming; None for what is not one of ours (its name may be a file's)."""
    name = name.lstrip("/")
    if namespace not in (NAMESPACE, _ASSET_NAMESPACE):
        return None
    zone, _, object_name = name.partition("/")
    try:
        return dataset(zone, object_name)
    except ValueError:
        return None
