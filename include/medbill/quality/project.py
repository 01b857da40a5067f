"""The Great Expectations project: opened once per process, run suite by suite, results without values.

The checkpoints' result format names failed rows by their ordinals and leaves every value out; what an expectation that
raised would quote is blanked here. Results and data docs of the last run of each day are kept under uncommitted/.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from medbill.errors import PolicyError, QualityGateClosed

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finding:
    """How one expectation of a suite went. rows: keys (by name) of the rows that failed it, where it is about rows."""

    suite: str
    expectation: str
    column: str | None
    success: bool
    severity: str
    meta: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """suite:expectation(column), safe to log: it stands in the suite's file."""
        return f"{self.suite}:{self.expectation}({self.column or ''})"


def validate(project: Path, suite: str, frame: pd.DataFrame, parameters: dict[str, Any]) -> list[Finding]:
    """Run the checkpoint of a suite on a frame; findings in the order of the suite's file.

    Raises PolicyError where the project or the suite is missing, QualityGateClosed where it cannot be run at all.
    """
    result = _run(project, suite, frame, parameters)
    findings = {}
    for outcome in result.results:
        config = outcome.expectation_config
        kwargs = config.kwargs
        column = kwargs.get("column") or ",".join(
            kwargs.get("column_list") or [kwargs[k] for k in ("column_A", "column_B") if k in kwargs]
        )
        raised = _raised(outcome.exception_info)
        findings[config.id] = Finding(
            suite=suite,
            expectation=config.type,
            column=column or None,
            success=bool(outcome.success) and not raised,
            # what cannot be evaluated refuses no row: it closes the gate
            severity="critical" if raised else str(getattr(config.severity, "value", config.severity)),
            meta={} if raised else dict(config.meta or {}),
            rows=_rows(outcome.result.get("unexpected_index_list") or []),
        )
    return [findings[e.id] for e in _context(project).suites.get(suite).expectations if e.id in findings]


def build_docs(project: Path, *, now: bool = True) -> None:
    """Rebuild the data docs of what this process has run; they are a view, so a failure is only logged.

    now=False: leave them where they were built less than a minute ago (half a second a gate adds up over a backfill).
    """
    global _docs_built
    if not _ran.get(project) or (not now and time.monotonic() - _docs_built < _DOCS_EVERY_SECONDS):
        return
    context = _context(project)
    keys = list(dict.fromkeys(_ran.pop(project)))
    _docs_built = time.monotonic()
    if not context.get_docs_sites_urls():
        return
    try:
        context.build_data_docs(resource_identifiers=keys)
    except Exception as error:  # another process may be writing the same page; the gate has its result already
        _log.warning("data docs were not rebuilt (%s)", type(error).__name__)


_DOCS_EVERY_SECONDS = 60.0
_docs_built = float("-inf")
_ran: dict[Path, list[Any]] = {}


@lru_cache(maxsize=2)
def _context(project: Path) -> Any:
    gx = _quiet_import()

    path = project / "great_expectations.yml"
    try:
        config = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise PolicyError("great_expectations.yml is missing or malformed; set MEDBILL_GREAT_EXPECTATIONS") from error
    results = project / "uncommitted"
    if os.access(results if results.exists() else project, os.W_OK):
        return gx.get_context(mode="file", context_root_dir=project)
    # a read-only deployment: keep results in memory, no docs
    config["stores"]["validation_results_store"]["store_backend"] = {"class_name": "InMemoryStoreBackend"}
    config["data_docs_sites"] = {}
    return gx.get_context(project_config=config, context_root_dir=project)


def _quiet_import() -> Any:
    """Great Expectations without its telemetry and its hundreds of log lines; both must be off before the import."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    import great_expectations

    return great_expectations


def _run(project: Path, suite: str, frame: pd.DataFrame, parameters: dict[str, Any]) -> Any:
    context = _context(project)
    from great_expectations.core.run_identifier import RunIdentifier
    from great_expectations.exceptions.exceptions import DataContextError, GreatExpectationsError

    # one result per suite and day: the last one of the day replaces the earlier ones
    day = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        checkpoint = context.checkpoints.get(suite)
    except (DataContextError, ValueError) as error:  # ValueError: the suite's file does not fit its schema
        raise PolicyError(f"the Great Expectations project has no usable checkpoint {suite}") from error
    try:
        done = checkpoint.run(
            batch_parameters={"dataframe": frame},
            expectation_parameters=parameters,
            run_id=RunIdentifier(run_name="gate", run_time=day),
        )
    except GreatExpectationsError as error:  # its text may quote the frame
        raise QualityGateClosed(f"the suite {suite} could not be run ({type(error).__name__})") from None
    key, result = next(iter(done.run_results.items()))
    if _blank_exceptions(result):
        context.validation_results_store.set(key, result)
    _ran.setdefault(project, []).append(key)
    return result


def _raised(info: dict[str, Any]) -> bool:
    return bool(info.get("raised_exception", True)) if info else False


def _blank_exceptions(result: Any) -> bool:
    """An exception text may quote a cell: keep that it was raised, drop the text."""
    blanked = False
    for outcome in result.results:
        if _raised(outcome.exception_info):
            outcome.exception_info = {"raised_exception": True, "exception_message": None, "exception_traceback": None}
            blanked = True
    return blanked


def _rows(index_list: Iterable[dict[str, list[Any]]]) -> list[dict[str, Any]]:
    """[{"a": [1, 2], "b": [3, 4]}] -> [{"a": 1, "b": 3}, {"a": 2, "b": 4}]."""
    rows = []
    for group in index_list:
        names = list(group)
        columns = [group[n] if isinstance(group[n], list) else [group[n]] for n in names]
        for values in zip(*columns, strict=True):
            rows.append({n: _key(v) for n, v in zip(names, values, strict=True)})
    return rows


def _key(value: Any) -> Any:
    """A key cell as a plain int or str; None where it is missing."""
    if isinstance(value, str):
        return value
    return int(value) if value == value and value is not None else None  # NaN is not itself
