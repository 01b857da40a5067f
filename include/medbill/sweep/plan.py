"""Where a deployment keeps bytes: the places of the embedded stack by itself, those of another as it is told.

Every place has a name. One that is not there and was not waived counts as not searched.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medbill.errors import BadInput
from medbill.settings import Settings
from medbill.stack.files import Home
from medbill.stack.postgres import Postgres
from medbill.store.objects import ObjectStore
from medbill.sweep import databases, places
from medbill.sweep.databases import Door
from medbill.sweep.places import Item, Left, Place, Plan, Unreachable

#: Where Airflow keeps what tasks, people and DAG authors hand it: each is a place of the report.
AIRFLOW_DOORS = (
    Door("XCom", ("xcom",)),
    Door("rendered fields", ("rendered_task_instance_fields",)),
    Door("conf of runs", ("dag_run",)),
    Door("audit log", ("log",)),
    Door("asset events", ("asset_event", "asset_dag_run_queue", "partitioned_asset_key_log")),
    Door("HITL", ("hitl_detail", "hitl_detail_history")),
    Door("serialized DAGs", ("serialized_dag", "dag_code")),
    Door("task instances", ("task_instance", "task_instance_history", "task_map", "task_state_store")),
    Door("notes", ("task_instance_note", "dag_run_note")),
    Door("import errors", ("import_error", "dag_warning")),
    Door("callbacks and triggers", ("callback", "deadline", "deadline_alert", "trigger")),
    Door("connections and variables", ("connection", "variable")),
)
MEDBILL_DOORS = (
    Door("ledger", ("rows",)),
    Door("proposals and outbox", ("proposals", "outbox")),
    Door("quarantine and holds", ("quarantine", "holds")),
    Door("vault", ("vault_tokens",)),
)
#: In the sandbox's folder: what the made-up platforms themselves hold, as real ones would, and what they were made from.
_PLATFORM_ITSELF = (
    "practice.json",
    "records.json",
    "truth.json",
    "seeded.json",
    "credentials.json",
    "canaries.jsonl",
    "state.sqlite",
    "state.sqlite-wal",
    "state.sqlite-shm",
)
_TELL = "say where with --place NAME=WHERE, or why not with --without NAME=REASON"


@dataclass(frozen=True)
class Told:
    """What the command line says. where: name of a place -> folder, file, s3:// prefix or postgresql:// URL.

    without: name of a place -> why it is not searched. temp: folders for temporary files; the system's where empty.
    """

    where: Mapping[str, Sequence[str]] = field(default_factory=dict)
    without: Mapping[str, str] = field(default_factory=dict)
    temp: Sequence[Path] = ()


def plan(settings: Settings, canaries: Path, told: Told | None = None) -> Plan:
    """Everything that is to be searched. canaries: their file, which is left out. Raises BadInput for an unknown name in
    `without`."""
    told = told or Told()
    home = Home(settings.home)
    by_name = _defaults(settings, home, told, canaries)
    for name, where in told.where.items():
        by_name[name] = [_told(name, settings, one) for one in where]
    unknown = told.without.keys() - by_name.keys()
    if unknown:
        raise BadInput(f"there is no place of this name: {', '.join(sorted(unknown))}", code="SWEEP_PLACE")
    left = [Left(name, reason) for name, reason in sorted(told.without.items())]
    left += [
        Left("canaries", "the file of canaries itself"),
        Left("inbox", "files as they came, until they are sealed; the source of what is searched"),
    ]
    if home.sandbox.exists():
        left.append(Left("sandbox", f"what the made-up platforms hold: {', '.join(_PLATFORM_ITSELF)}"))
    return Plan([place for name, own in by_name.items() if name not in told.without for place in own], left)


def _defaults(settings: Settings, home: Home, told: Told, canaries: Path) -> dict[str, list[Place]]:
    embedded = (home.path / "stack.json").exists()
    postgres = Postgres(home)
    urls = {
        name: postgres.url(name, login="postgres") if embedded else os.environ.get(f"MEDBILL_SWEEP_{name.upper()}_URL")
        for name in ("airflow", "medbill")
    }
    found: dict[str, list[Place]] = {}
    for name, doors in (("airflow", AIRFLOW_DOORS), ("medbill", MEDBILL_DOORS)):
        url = urls[name]
        found[f"{name}-database"] = (
            databases.places(f"{name} database", url, doors)
            if url
            else [_missing(f"{name} database", f"{name}-database")]
        )
    task_logs, own_log = home.airflow / "logs", postgres.log
    found["task-logs"] = [_folder("task logs", task_logs, embedded, "task-logs")]
    found["component-logs"] = [
        _folder("component logs and stdout", home.logs, embedded, "component-logs", frozenset({own_log}))
    ]
    found["postgres-log"] = [
        places.files("PostgreSQL's log", lambda: [own_log], filled=True)
        if embedded
        else _missing("PostgreSQL's log", "postgres-log")
    ]
    found["postgres-files"] = [_folder("PostgreSQL's files, with its WAL", postgres.data, embedded, "postgres-files")]
    found["lineage"] = [_folder("lineage events", home.lineage.parent, embedded, "lineage")]
    found["objects"] = _zones(settings.objects)
    found["quality"] = [places.folder("quality results and data docs", settings.great_expectations, filled=True)]
    found["reports"] = [places.folder("reports", settings.reports, filled=True)]
    temp = [p.resolve() for p in told.temp or [Path(tempfile.gettempdir())]]
    kept = {canaries.resolve(), home.path, Path(settings.objects), Path(settings.inbox), settings.reports}
    found["temp"] = [
        places.folder(f"temporary files {n}", path, without=frozenset(kept)) for n, path in enumerate(temp, 1)
    ]
    if embedded:
        elsewhere = {home.airflow / "logs", home.logs, postgres.data, home.lineage.parent, settings.reports}
        elsewhere |= {Path(settings.objects), Path(settings.inbox), canaries.resolve(), *temp}
        own = {path for path in home.sandbox.rglob("*") if path.name in _PLATFORM_ITSELF}
        found["home"] = [places.folder("the rest of medbill's home", home.path, without=frozenset(elsewhere | own))]
    return found


def _zones(root: str) -> list[Place]:
    """A place for each zone of the object store; sealed zones too, since they must not show a plain value either."""
    if root.startswith("s3://"):
        zones = sorted({key.split("/", 1)[0] for key in ObjectStore(root).list()})
        return [places.objects(f"objects: {zone}", root, f"{zone}/") for zone in zones] or [_empty()]
    top = Path(root)
    zones = sorted(p.name for p in top.iterdir() if p.is_dir()) if top.is_dir() else []
    found = [places.folder(f"objects: {zone}", top / zone) for zone in zones]
    found.append(places.folder("objects: outside the zones", top, without=frozenset(top / z for z in zones)))
    return found if zones else [_empty()]


def _empty() -> Place:
    return _missing("objects", "objects")


def _folder(title: str, path: Path, embedded: bool, name: str, without: frozenset[Path] = frozenset()) -> Place:
    return places.folder(title, path, without=without, filled=True) if embedded else _missing(title, name)


def _missing(title: str, name: str) -> Place:
    def items() -> Iterator[Item]:
        raise Unreachable(f"nobody said where {name} is: {_TELL}")

    return Place(title, items)


def _told(name: str, settings: Settings, where: str) -> Place:
    if where.startswith("s3://"):
        return places.objects(f"{name}: objects", where, filled=True)
    path = Path(where)
    if path.is_file():
        return places.files(f"{name}: {path.name}", lambda: [path], filled=True)
    return places.folder(f"{name}: {path.name}", path, filled=True)
