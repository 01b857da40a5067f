"""Minimal extraction: which fields of a platform's records may enter medbill (include/policies/extraction.yml)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from medbill.errors import PolicyError


@dataclass(frozen=True)
class ExtractionPolicy:
    """resource -> the fields kept of its records. A resource that is not named gives nothing at all."""

    fields: Mapping[str, frozenset[str]]

    def keep(self, resource: str, record: Mapping[str, Any]) -> dict[str, Any]:
        """The record without every field the policy does not name."""
        allowed = self.fields.get(resource, frozenset())
        return {name: value for name, value in record.items() if name in allowed}

    @staticmethod
    def load(
        policies: Path,
        platform: str,
        used: Mapping[str, frozenset[str]],
        needed: Mapping[str, frozenset[str]],
    ) -> ExtractionPolicy:
        """The policy of one platform.

        used: the fields the adapter has a use for; needed: those it cannot work without. Raises PolicyError where the
        file is missing or malformed, names a field without a use, or leaves out a needed one.
        """
        path = policies / "extraction.yml"
        try:
            found = yaml.safe_load(path.read_text())["platforms"][platform]
            fields = {str(resource): frozenset(map(str, names)) for resource, names in found.items()}
        except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
            raise PolicyError(f"extraction.yml is missing, malformed or has no platform {platform}") from error
        for resource, names in fields.items():
            idle = names - used.get(resource, frozenset())
            if idle:
                raise PolicyError(f"extraction.yml: {platform}.{resource} keeps fields nobody uses: {sorted(idle)}")
        for resource, names in needed.items():
            missing = names - fields.get(resource, frozenset())
            if missing:
                raise PolicyError(f"extraction.yml: {platform}.{resource} leaves out needed fields: {sorted(missing)}")
        return ExtractionPolicy(fields)
