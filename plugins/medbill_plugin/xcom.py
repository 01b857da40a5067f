"""An XCom backend that stores references only (medbill_plugin.references). Protected data never fits in.

XComs lie in Airflow's database in clear, are shown in the UI and repeated in logs, so a task must not be able to put a
record there by accident.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk.bases.xcom import BaseXCom

from medbill_plugin import references
from medbill_plugin.references import ReferenceRefused

_KEYS = {None, BaseXCom.XCOM_RETURN_KEY, *references.KEYS}  # the latter where a task has multiple_outputs


class ReferenceXCom(BaseXCom):
    """Accepts what medbill_plugin.references.check() does; raises ReferenceRefused, code XCOM_REFUSED, for all else."""

    @staticmethod
    def serialize_value(value: Any, *, key: str | None = None, **where: Any) -> str:
        try:
            if key not in _KEYS:
                raise ReferenceRefused("a key of its own; use return_value")
            references.check(value)
        except ReferenceRefused as error:
            raise ReferenceRefused(error.args[0], code="XCOM_REFUSED") from None
        return BaseXCom.serialize_value(value, key=key, **where)
