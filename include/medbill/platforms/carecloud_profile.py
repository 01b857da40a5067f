"""What is assumed of CareCloud's API: addresses and names of include/policies/carecloud.yml, or of the connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from medbill.errors import PolicyError

_WRITES = ("", "task", "communication")
_MAY_BE_EMPTY = ("v2_appointments", "write_back")


@dataclass(frozen=True)
class Profile:
    """The settings of carecloud.yml, each explained there."""

    v2_token_path: str
    v2_base: str
    v2_patient: str
    v2_providers: str
    v2_appointments: str
    fhir_token_path: str
    fhir_base: str
    fhir_scope: str
    claim_number_system: str
    reference_system: str
    write_back: str

    @staticmethod
    def load(policies: Path, connection: Mapping[str, Any] | None = None) -> Profile:
        """carecloud.yml with the connection's entries before it. Raises PolicyError where one is missing or malformed."""
        try:
            found = yaml.safe_load((policies / "carecloud.yml").read_text())
            names = [f.name for f in fields(Profile)]
            values = {name: (connection or {}).get(name, found[name]) for name in names}
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            raise PolicyError("carecloud.yml is missing, malformed or incomplete") from error
        if unknown := found.keys() - {"version", *names}:
            raise PolicyError(f"carecloud.yml has settings nobody uses: {sorted(map(str, unknown))}")
        profile = Profile(**{name: "" if value is None else str(value).strip() for name, value in values.items()})
        profile._check()
        return profile

    def _check(self) -> None:
        for field in fields(self):
            name, value = field.name, str(getattr(self, field.name))
            if not value and name not in _MAY_BE_EMPTY:
                raise PolicyError(f"CareCloud's setting {name} is empty")
            is_path = name.endswith(("_path", "_base")) or (name.startswith("v2_") and bool(value))
            if is_path and (not value.startswith("/") or value.startswith("//") or value.endswith("/") or "?" in value):
                raise PolicyError(
                    f"CareCloud's setting {name} must be a path: /a/b, without a query and a slash at the end"
                )
        if "{id}" not in self.v2_patient:
            raise PolicyError("CareCloud's setting v2_patient must have {id} where the patient's id goes")
        if self.write_back not in _WRITES:
            raise PolicyError("CareCloud's setting write_back must be task, communication or empty")
