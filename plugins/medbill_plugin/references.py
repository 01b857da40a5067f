"""What may lie in Airflow at all: references. One grammar for XCom, conf, params, arguments, rendered fields and extras.

Airflow's database and logs are no place for protected data, so what goes there is taken from an allow-list of shapes: ids
of known practices, words of our own vocabulary, dates, counts, amounts, hashes, tokens of the vault and locations made of
these. A name, a note, an e-mail address or a bare number of nine digits has none of these shapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from medbill.errors import MedbillError

#: Characters of a string, items of all lists and mappings together, levels of nesting, and the largest count (exclusive):
#: below it lies no SSN, phone number with area code or other number of a person but very short ones.
MAX_STRING = 200
MAX_ITEMS = 2000
MAX_DEPTH = 5
MAX_COUNT = 10_000_000
#: Objects a partition may be of: the values of `object` in conf and arguments.
OBJECTS = frozenset({"claims", "remittances", "notes"})
#: Words that are a reference by themselves, and segments of locations.
WORDS = OBJECTS | {
    "policies", "practices", "platform", "inbox", "landing", "quarantine", "vault", "deid", "results", "proposals",
    "reports", "ledger", "postings", "denials", "write_backs", "drchrono", "tebra", "advancedmd", "carecloud",
    "checkpoints", "retention", "rows", "webhooks", "reference", "scrub",
}  # fmt: skip
#: Names of what a mapping holds: the parts of a reference, and the counts tasks hand over.
KEYS = frozenset({
    "practice", "platform", "object", "day", "days", "pending", "published", "report", "partitions", "waiting",
    "files", "landed", "duplicates", "quarantined", "held", "refused", "unfinished", "applied", "failed", "unknown",
    "checkpoint", "checkpoints", "waited", "warnings", "unended", "stuck", "left", "erased", "kept", "locked", "closed",
    "scrubbed", "clean",
})  # fmt: skip
_SHAPES = re.compile(
    r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d))?"  # ISO 8601 date, or time with its zone
    r"|-?\d{1,10}\.\d\d"  # an amount
    r"|[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}"  # a hash
    r"|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"  # a UUID
    r"|\[[A-Z][A-Z_]{1,30}_[0-9A-HJKMNP-TV-Z]{17}\]"  # a token of the vault (medbill.deid.vault)
)
_LOCATION = re.compile(r"(?:file://medbill/)?([a-z0-9_-]+(?:/[a-z0-9_-]+)+|[a-z_]+)")
#: Ids of runs as Airflow makes them, so that nobody calls a run by a patient's name: `[scheduler] allowed_run_id_pattern`.
RUN_ID = (
    r"^(manual|scheduled|backfill|asset_triggered|asset_materialization|operator_triggered)"
    r"__\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?[+]00:00(_[A-Za-z0-9]{8})?$"
)
_CONF = frozenset({"practice", "object", "day"})


class ReferenceRefused(MedbillError):
    """A value that is not a reference was about to be put into Airflow; the message names its type, never the value."""

    code = "REFERENCE_REFUSED"


def check(value: Any) -> None:
    """Raises ReferenceRefused where a value is not made of references alone."""
    if _check(value, 0, _practices()) > MAX_ITEMS:
        raise ReferenceRefused(f"more than {MAX_ITEMS} items; store them and hand over their location")


def check_conf(conf: Any) -> None:
    """The schema of a run's conf: at most `practice`, `object` and `day`, each with a value of its own kind.

    Raises ReferenceRefused with code CONF_REFUSED.
    """
    if conf is None or conf == {}:
        return
    if not isinstance(conf, Mapping) or not all(isinstance(key, str) and key in _CONF for key in conf):
        raise ReferenceRefused(
            f"a run's conf may have {', '.join(sorted(_CONF))} and nothing else", code="CONF_REFUSED"
        )
    right = {
        "practice": lambda v: v in _practices(),
        "object": lambda v: v in OBJECTS,
        "day": _is_day,
    }
    for key, value in conf.items():
        if not isinstance(value, str) or not right[key](value):
            raise ReferenceRefused(f"{key} of a run's conf is not a known {key}", code="CONF_REFUSED")


def check_run_id(run_id: Any) -> None:
    """Raises ReferenceRefused where a run's id is not of the form Airflow gives; None leaves it to Airflow."""
    if run_id is not None and not (isinstance(run_id, str) and re.fullmatch(RUN_ID, run_id)):
        raise ReferenceRefused("leave the id of a run to Airflow", code="RUN_ID_REFUSED")


def is_reference(text: str) -> bool:
    """Whether a string is one of the shapes."""
    return _is_reference(text, _practices())


def _practices() -> frozenset[str]:
    from medbill.settings import Settings

    return frozenset(practice.id for practice in Settings.from_env().practices())


def _check(value: Any, depth: int, practices: frozenset[str]) -> int:
    if depth > MAX_DEPTH:
        raise ReferenceRefused(f"nested deeper than {MAX_DEPTH} levels; store it and hand over its location")
    if value is None or type(value) in (bool, date, datetime):
        return 1
    if type(value) is int:
        if not -MAX_COUNT < value < MAX_COUNT:
            raise ReferenceRefused(f"a number of {MAX_COUNT} or more, which may be somebody's; counts only")
        return 1
    if type(value) is str:
        if len(value) > MAX_STRING:
            raise ReferenceRefused(f"a string of more than {MAX_STRING} characters; store it, hand over its location")
        if not _is_reference(value, practices):
            raise ReferenceRefused("a string that is no known id, word, date, amount, hash, token or location")
        return 1
    if type(value) in (list, tuple):
        return 1 + sum(_check(item, depth + 1, practices) for item in value)
    if type(value) is dict:
        if not all(type(key) is str and key in KEYS for key in value):
            raise ReferenceRefused("a mapping with a key that medbill_plugin.references.KEYS does not know")
        return 1 + sum(_check(item, depth + 1, practices) for item in value.values())
    raise ReferenceRefused(f"a value of type {type(value).__name__}; ids, counts and locations only")


def _is_reference(text: str, practices: frozenset[str]) -> bool:
    if text in WORDS or text in practices or _SHAPES.fullmatch(text):
        return True
    location = _LOCATION.fullmatch(text)
    return location is not None and all(
        part in WORDS or part in practices or _SHAPES.fullmatch(part) for part in location[1].split("/")
    )


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
