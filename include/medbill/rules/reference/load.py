"""Loading a release: read whole, checked, written as immutable Parquet objects, and only then listed.

A release is there when its manifest is: the last object written, in one piece. What a killed load leaves behind is
without a manifest and never read; loading again replaces it. The key of a release is a digest of its files, so the same
files twice are the same release.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from medbill.errors import BadInput, TamperedData
from medbill.model.reference import REFERENCE_TABLES
from medbill.rules.reference import codes, coverage, fees, ncci
from medbill.rules.reference.archive import GivenFile, open_files
from medbill.rules.reference.release import Dated, Release
from medbill.store.objects import ObjectStore

#: Rises when the readers or the tables change: what an older reader made of the same files is another release.
_READERS = 1
_MANIFEST = "release.json"

Reader = Callable[[list[GivenFile], str, Dated | None], Release]

READERS: dict[str, Reader] = {
    "ncci_ptp_practitioner": ncci.ptp,
    "ncci_ptp_hospital": ncci.ptp,
    "mue_practitioner": ncci.mue,
    "mue_outpatient_hospital": ncci.mue,
    "mue_dme": ncci.mue,
    "add_on": ncci.add_on,
    "icd10cm": codes.icd10cm,
    "icd10cm_tabular": codes.icd10cm_tabular,
    "hcpcs": codes.hcpcs,
    "mcd_article": coverage.article,
    "mcd_lcd": coverage.lcd,
    "ncd": coverage.ncd,
    "pprrvu": fees.pprrvu,
    "gpci": fees.gpci,
    "locality": fees.locality,
    "clfs": fees.clfs,
    "nucc": codes.nucc,
}


@dataclass(frozen=True)
class TableFile:
    """One table of a release. key: of its Parquet object."""

    name: str
    key: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class SourceFile:
    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Version:
    """A loaded release. start and end: the service dates it judges, both included; end None is open."""

    kind: str
    version: str
    start: date
    end: date | None
    id: str
    loaded_at: str
    files: tuple[SourceFile, ...]
    tables: tuple[TableFile, ...]

    def covers(self, day: date) -> bool:
        return self.start <= day and (self.end is None or day <= self.end)

    def rank(self) -> tuple[date, str, str]:
        """Of two releases that cover a day, the greater judges it: a later quarter, a correction, what was loaded last."""
        return self.start, self.version, self.loaded_at


def load(
    objects: ObjectStore,
    kind: str,
    paths: list[Path],
    *,
    version: str | None = None,
    start: date | None = None,
    end: date | None = None,
) -> tuple[Version, bool]:
    """Load one release of a kind; gives it, and whether it is new. All files of the release are given together.

    version, start, end: instead of what the names say. Raises BadInput with a code that says what is wrong (see
    docs/rules/reference.md); then nothing is loaded.
    """
    if kind not in READERS:
        raise BadInput(f"no such kind of reference data; kinds are {', '.join(READERS)}", code="REFERENCE_KIND_UNKNOWN")
    if not paths:
        raise BadInput("no file is given", code="FILE_UNREADABLE")
    dated = _given(version, start, end)
    files = open_files(paths)
    identity = _identity(kind, files, dated)
    folder = f"reference/{kind}/{identity}"
    if objects.exists(f"{folder}/{_MANIFEST}"):
        return _manifest(objects.get(f"{folder}/{_MANIFEST}")), False
    release = READERS[kind](files, kind, dated)
    _check(release, kind)
    tables = []
    for name, table in release.tables.items():
        data = _parquet(table)
        key = f"{folder}/{name}.parquet"
        objects.put(key, data)
        tables.append(TableFile(name, key, table.num_rows, hashlib.sha256(data).hexdigest()))
    made = Version(
        kind=kind,
        version=release.version,
        start=release.start,
        end=release.end,
        id=identity,
        loaded_at=datetime.now(UTC).isoformat(timespec="seconds"),
        files=tuple(SourceFile(f.name, f.sha256, f.size) for f in files),
        tables=tuple(tables),
    )
    new = objects.put_new(f"{folder}/{_MANIFEST}", json.dumps(asdict(made), default=str, indent=1).encode())
    return _manifest(objects.get(f"{folder}/{_MANIFEST}")), new


def versions(objects: ObjectStore) -> list[Version]:
    """All loaded releases, by kind and rank."""
    keys = [k for k in objects.list("reference/") if k.endswith(f"/{_MANIFEST}")]
    return sorted((_manifest(objects.get(k)) for k in keys), key=lambda v: (v.kind, v.rank()))


def read(objects: ObjectStore, version: Version, name: str) -> pa.Table:
    """A table of a release. Raises TamperedData where its bytes are not those that were loaded."""
    file = next(t for t in version.tables if t.name == name)
    data = objects.get(file.key)
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise TamperedData("a reference table is not what was loaded; remove its folder and load the release again")
    return pq.read_table(io.BytesIO(data), schema=REFERENCE_TABLES[version.kind][name])


def _given(version: str | None, start: date | None, end: date | None) -> Dated | None:
    if start is None:
        if version is not None or end is not None:
            raise BadInput("give --effective-from with --version and --effective-to", code="REFERENCE_VERSION_UNKNOWN")
        return None
    if end is not None and end < start:
        raise BadInput("--effective-to is before --effective-from", code="REFERENCE_VERSION_UNKNOWN")
    return Dated(version or start.isoformat(), start, end)


def _identity(kind: str, files: list[GivenFile], dated: Dated | None) -> str:
    """Of contents, not of names or order: a release downloaded twice is one release."""
    parts = [str(_READERS), kind, *sorted(f.sha256 for f in files)]
    if dated is not None:
        parts += [dated.version, str(dated.start), str(dated.end)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _check(release: Release, kind: str) -> None:
    """An empty table would pass everything."""
    main = next(iter(REFERENCE_TABLES[kind]))
    if not release.tables[main].num_rows:
        raise BadInput("the files hold no row of this kind; check --kind", code="REFERENCE_WRONG_KIND")
    for name, schema in REFERENCE_TABLES[kind].items():
        if release.tables[name].schema != schema:
            raise AssertionError(f"{kind}.{name} does not have its schema")


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _manifest(data: bytes) -> Version:
    found = json.loads(data)
    return Version(
        kind=found["kind"],
        version=found["version"],
        start=date.fromisoformat(found["start"]),
        end=date.fromisoformat(found["end"]) if found["end"] else None,
        id=found["id"],
        loaded_at=found["loaded_at"],
        files=tuple(SourceFile(**f) for f in found["files"]),
        tables=tuple(TableFile(**t) for t in found["tables"]),
    )
