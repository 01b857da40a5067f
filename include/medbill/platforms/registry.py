"""The platforms medbill has an adapter for, by the name practices.yml uses."""

from __future__ import annotations

import importlib

from medbill.errors import PlatformError
from medbill.platforms.base import Adapter

#: name -> module with an ADAPTER
_MODULES = {
    "advancedmd": "medbill.platforms.advancedmd",
    "carecloud": "medbill.platforms.carecloud",
    "drchrono": "medbill.platforms.drchrono",
    "tebra": "medbill.platforms.tebra",
}
NAMES = tuple(_MODULES)


def adapter(name: str | None) -> Adapter:
    """The adapter of a platform. Raises PlatformError where there is none."""
    if name not in _MODULES:
        raise PlatformError("there is no adapter for this platform; see docs/platforms.md", code="PLATFORM_UNSUPPORTED")
    found: Adapter = importlib.import_module(_MODULES[name]).ADAPTER
    return found
