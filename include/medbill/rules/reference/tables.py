"""Loaded releases at hand: which one judges a service date, and its rows in DuckDB, kept warm between calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from threading import Lock
from typing import TYPE_CHECKING

import pyarrow as pa

from medbill.model.reference import REFERENCE_TABLES
from medbill.rules import sql
from medbill.rules.reference import load
from medbill.rules.reference.load import Version
from medbill.store.objects import ObjectStore

if TYPE_CHECKING:
    import duckdb

#: (kind, table) -> DuckDB table and the columns it is sorted by, so that a look-up of few codes skips most of it.
_PLACES: dict[tuple[str, str], tuple[str, str]] = {
    ("ncci_ptp_practitioner", "edits"): ("ref_ptp", "column1, column2"),
    ("ncci_ptp_hospital", "edits"): ("ref_ptp", "column1, column2"),
    ("mue_practitioner", "limits"): ("ref_mue", "code"),
    ("mue_outpatient_hospital", "limits"): ("ref_mue", "code"),
    ("mue_dme", "limits"): ("ref_mue", "code"),
    ("add_on", "edits"): ("ref_add_on", "add_on"),
    ("icd10cm", "codes"): ("ref_icd10cm", "code"),
    ("icd10cm_tabular", "excludes1"): ("ref_excludes1", "code"),
    ("hcpcs", "codes"): ("ref_hcpcs", "code"),
    ("pprrvu", "codes"): ("ref_pprrvu", "code"),
    ("clfs", "rates"): ("ref_clfs", "code"),
    ("mcd_article", "articles"): ("ref_article", "article_id"),
    ("mcd_article", "codes"): ("ref_article_code", "code"),
    ("mcd_article", "diagnoses"): ("ref_article_diagnosis", "article_id, diagnosis"),
    ("mcd_article", "contractors"): ("ref_article_contractor", "article_id"),
}

#: What no rule reads stays in the Parquet file.
_KEPT = "lambda c: c NOT IN ('rationale', 'before_1996')"

#: Small tables the rules would otherwise distil from large ones for every batch.
_DERIVED = {
    "ref_article_listed": "SELECT DISTINCT version, article_id, article_version FROM (FROM ref_article_diagnosis WHERE covered)",
    "ref_contractor_state": "SELECT DISTINCT version, contractor, state FROM ref_article_contractor",
}


class Reference:
    """A fixed set of releases. Safe to share between threads; each caller works with a cursor of its own.

    version numbers (of a release in the ref_* tables) are positions in `versions`.
    """

    def __init__(self, versions: Iterable[Version], read: Callable[[Version, str], pa.Table]) -> None:
        self.versions = sorted(versions, key=lambda v: (v.kind, v.rank()))
        self._read = read
        self._lock = Lock()
        self._loaded: set[int] = set()
        self._connection = sql.connect()
        self._connection.execute("SET preserve_insertion_order = false")
        for (kind, name), (place, _) in _PLACES.items():
            empty = REFERENCE_TABLES[kind][name].empty_table()
            self._connection.register("empty", empty)
            self._connection.execute(
                f"CREATE TABLE IF NOT EXISTS {place} AS SELECT 0::INTEGER AS version, COLUMNS({_KEPT}) FROM empty LIMIT 0"  # noqa: S608
            )
        self._connection.unregister("empty")
        for place, query in _DERIVED.items():
            self._connection.execute(f"CREATE TABLE {place} AS {query} LIMIT 0")
        labels = pa.table(
            {
                "version": pa.array(range(len(self.versions)), pa.int32()),
                "label": pa.array([v.version for v in self.versions], pa.string()),
                "kind": pa.array([v.kind for v in self.versions], pa.string()),
                "sha256": pa.array([v.files[0].sha256 for v in self.versions], pa.string()),
            }
        )
        self._connection.register("labels", labels)
        self._connection.execute("CREATE TABLE ref_version AS SELECT * FROM labels")
        self._connection.unregister("labels")

    @staticmethod
    def open(objects: ObjectStore) -> Reference:
        """What is loaded in an object store now."""
        return Reference(load.versions(objects), lambda version, name: load.read(objects, version, name))

    def in_force(self, kind: str, day: date) -> int | None:
        """Number of the release of a kind that judges a service date; None where none is loaded for it."""
        found = [i for i, v in enumerate(self.versions) if v.kind == kind and v.covers(day)]
        return found[-1] if found else None

    def need(self, numbers: Iterable[int]) -> None:
        """Bring releases into the ref_* tables."""
        with self._lock:
            for number in sorted(set(numbers) - self._loaded):
                version = self.versions[number]
                for (kind, name), (place, order) in _PLACES.items():
                    if kind == version.kind:
                        self._connection.register("given", self._read(version, name))
                        self._connection.execute(
                            f"INSERT INTO {place} SELECT {number}::INTEGER, COLUMNS({_KEPT}) FROM given ORDER BY {order}"  # noqa: S608
                        )
                        self._connection.unregister("given")
                for place, query in _DERIVED.items():
                    self._connection.execute(f"INSERT INTO {place} {query} WHERE version = {number}")
                self._loaded.add(number)

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection to the same database, with temporary tables of its own. Close it."""
        return self._connection.cursor()
