"""An XCom backend that stores references only: ids, counts, hashes, dates, locations. Protected data never fits in.

XComs lie in Airflow's database in clear, are shown in the UI and repeated in logs, so a task must not be able to put a
record there by accident. Names, free text and money as a float are refused; so is anything large.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Any

from airflow.sdk.bases.xcom import BaseXCom

from medbill.errors import MedbillError

#: Characters of a string, items of all lists and mappings together, levels of nesting.
MAX_STRING = 512
MAX_ITEMS = 2000
MAX_DEPTH = 5
# ids, hashes, numbers as text, ISO dates: no white space; a location may have it in its path
_REFERENCE = re.compile(r"[!-~]*")
_LOCATION = re.compile(r"(/|[a-z][a-z0-9+.-]*://)[^\x00-\x1f\x7f]*")
_KEY = re.compile(r"[A-Za-z0-9_.:/+@-]{1,250}")


class ReferenceRefused(MedbillError):
    """A value that is not a reference was about to be put into XCom; the message names types, never the value."""

    code = "XCOM_REFUSED"


class ReferenceXCom(BaseXCom):
    """Accepts None, booleans, integers, dates, short strings without white space, and lists and mappings of these."""

    @staticmethod
    def serialize_value(value: Any, **where: Any) -> str:
        check(value)
        return BaseXCom.serialize_value(value, **where)


def check(value: Any) -> None:
    """Raises ReferenceRefused where a value is not made of references alone."""
    seen = _check(value, 0)
    if seen > MAX_ITEMS:
        raise ReferenceRefused(f"more than {MAX_ITEMS} items; store them and hand over their location")


def _check(value: Any, depth: int) -> int:
    if depth > MAX_DEPTH:
        raise ReferenceRefused(f"nested deeper than {MAX_DEPTH} levels; store it and hand over its location")
    if value is None or type(value) in (bool, int, date, datetime):
        return 1
    if type(value) is str:
        if len(value) > MAX_STRING:
            raise ReferenceRefused(
                f"a string of more than {MAX_STRING} characters; store it and hand over its location"
            )
        if not (_REFERENCE.fullmatch(value) or _LOCATION.fullmatch(value)):
            raise ReferenceRefused("a string that is not an id, hash, date or location")
        return 1
    if type(value) in (list, tuple):
        return 1 + sum(_check(item, depth + 1) for item in value)
    if type(value) is dict:
        for key in value:
            if type(key) is not str or not _KEY.fullmatch(key):
                raise ReferenceRefused("a mapping with a key that is not a plain name")
        return 1 + sum(_check(item, depth + 1) for item in value.values())
    raise ReferenceRefused(f"a value of type {type(value).__name__}; tasks hand over ids, counts and locations only")
