"""What every pipeline needs, opened once per task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from medbill.audit.ledger import Ledger, RunContext
from medbill.audit.people import require_person
from medbill.deid.vault import Vault
from medbill.settings import Settings
from medbill.store import db, tables_io
from medbill.store.envelope import Envelopes
from medbill.store.keys import KeyService, open_keys
from medbill.store.objects import ObjectStore


@dataclass(frozen=True)
class Context:
    settings: Settings
    db: sa.Engine
    objects: ObjectStore
    keys: KeyService
    envelopes: Envelopes
    ledger: Ledger

    @staticmethod
    def open(settings: Settings | None = None, run: RunContext | None = None) -> Context:
        """Everything from the environment; the ledger rows carry the Airflow run found there."""
        settings = settings or Settings.from_env()
        engine = db.engine(settings.database_url)
        keys = open_keys(settings)
        return Context(
            settings=settings,
            db=engine,
            objects=ObjectStore(settings.objects),
            keys=keys,
            envelopes=Envelopes(engine, keys),
            ledger=Ledger(engine, run or RunContext.from_env()),
        )

    @staticmethod
    def for_person(actor: str, settings: Settings | None = None) -> Context:
        """As open(), with every ledger row on behalf of a person. Raises DecisionRefused where actor names none."""
        return Context.open(settings, replace(RunContext.from_env(), on_behalf_of=require_person(actor)))

    def vault(self, practice: str) -> Vault:
        return Vault(self.db, self.keys, practice)

    def land(self, partition: Partition, version: str, payload: bytes) -> str:
        """Seal what tables_io.seal_tables() gave as a landed version of a partition; returns its URI."""
        sealed = self.envelopes.seal_object(partition.practice, "landing", partition.context(version), payload)
        return self.objects.put(partition.landed_key(version), sealed)

    def landed(self, partition: Partition, version: str) -> dict[str, pa.Table]:
        """The tables of a landed version. Raises TamperedData where they are not those that were sealed, Purged where
        their key was shredded."""
        sealed = self.objects.get(partition.landed_key(version))
        return tables_io.open_tables(
            self.envelopes.open_object(partition.practice, "landing", partition.context(version), sealed)
        )

    def landed_file(self, practice: str, sha256: str) -> bytes:
        """An inbox file as it came, from the landing zone. Raises TamperedData where it is not what was sealed."""
        sealed = self.objects.get(f"landing/{practice}/files/{sha256}.sealed")
        return self.envelopes.open_object(practice, "landing", f"file:{sha256}", sealed)


@dataclass(frozen=True)
class Partition:
    """Practice x object x day: the unit of work, and all that tasks hand to each other."""

    practice: str
    object: str
    day: date

    def ref(self) -> dict[str, str]:
        return {"practice": self.practice, "object": self.object, "day": self.day.isoformat()}

    @staticmethod
    def of(ref: dict[str, str]) -> Partition:
        return Partition(ref["practice"], ref["object"], date.fromisoformat(ref["day"]))

    def key(self, zone: str, version: str) -> str:
        """Object key of one version of this partition in a zone."""
        return f"{zone}/{self.practice}/{self.object}/{self.day.isoformat()}/{version}"

    def landed_key(self, version: str) -> str:
        """Object key of a landed, sealed version."""
        return self.key("landing", version) + ".sealed"

    def context(self, version: str) -> str:
        """What a landed version is sealed for: it opens as nothing else."""
        return f"{self.object}:{self.day}:{version}"

    def where(self, table: sa.Table) -> list[sa.ColumnElement[bool]]:
        """The conditions that pick this partition's row of a table keyed by practice, object and day."""
        return [table.c.practice == self.practice, table.c.object == self.object, table.c.day == self.day]


T = TypeVar("T")
_BATCH_ITEMS = 16
_BATCH_BYTES = 64 * 1024 * 1024


def batches(
    items: Iterable[T], size: Callable[[T], int], most: int = _BATCH_ITEMS, room: int = _BATCH_BYTES
) -> Iterator[list[T]]:
    """Items to work on together, in order: at most so many, and together no larger than room, unless one alone is.

    By default partitions to gate together (a gate has a fixed cost), small enough for one task's memory.
    """
    batch: list[T] = []
    filled = 0
    for item in items:
        if batch and (len(batch) == most or filled + size(item) > room):
            yield batch
            batch, filled = [], 0
        batch.append(item)
        filled += size(item)
    if batch:
        yield batch


def column_sum(table: pa.Table, column: str) -> Decimal:
    """Exact sum of a money column; 0.00 where it is empty."""
    total: Decimal | None = pc.sum(table[column]).as_py()
    return total if total is not None else Decimal("0.00")
