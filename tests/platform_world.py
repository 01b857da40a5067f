"""What the tests of all platforms share: a stand-in that is served, its state and faults, and a practice's pipelines on it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pyarrow as pa
import pytest
import sqlalchemy as sa

from medbill.audit.ledger import RunContext
from medbill.errors import PlatformError
from medbill.pipelines import apply, connections, deidentify, extract, post, receive, triage
from medbill.pipelines.context import Context, Partition
from medbill.platforms import circuit
from medbill.platforms.base import Extraction, Platform
from medbill.proposals import lifecycle
from medbill.proposals.content import proposal_id
from medbill.proposals.lifecycle import Draft
from medbill.sandbox.faults import KINDS
from medbill.settings import Settings
from medbill.store import db
from medbill.store.tables import partitions, proposals

POLICIES = Path(__file__).resolve().parents[1] / "include" / "policies"
KEY = "3f0c1d52-7a41-5b8e-9d55-0c6f2f1f7a10"
ANA = "Ana Ruiz"
TODAY = date(2026, 11, 20)
START = TODAY - timedelta(days=52)
LATELY = TODAY - timedelta(days=10)  # enough where only the landing matters
#: Faults of a platform that last, each told by another error.
LASTING = ("truncate", "drift", "throttle", "expired", "reset", "garbage")


@contextmanager
def served(server: Any) -> Iterator[Any]:
    """A stand-in's server, answering until the end of the block."""
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def copied(seeded: Path, folder: Path, platform: str) -> Path:
    """A state folder of its own with what was seeded for a platform."""
    (folder / platform).mkdir(parents=True)
    for name in ("records.json", "credentials.json"):
        (folder / platform / name).write_bytes((seeded / platform / name).read_bytes())
    return folder


def fault(server: Any, **fields: Any) -> None:
    assert httpx.post(f"{server.url}/_sandbox/faults", json=fields).status_code == 201


def heal(server: Any) -> None:
    httpx.delete(f"{server.url}/_sandbox/faults")


def written(server: Any, resource: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{server.url}/_sandbox/written").json()[resource]
    return found


def same(found: Extraction, wanted: Extraction) -> bool:
    return found.tables == wanted.tables and found.notes.equals(wanted.notes) and found.refused == wanted.refused


def at_once(count: int, extraction: Callable[[], Extraction]) -> list[Extraction]:
    """What so many threads extract at the same time."""
    found: list[Extraction] = []
    threads = [threading.Thread(target=lambda: found.append(extraction())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def refused_without_values(
    platform: Platform, start: date, end: date, code: str, log: pytest.LogCaptureFixture, secrets: Sequence[str]
) -> None:
    """The extraction fails with this code, and neither its error nor the log says any of the secrets."""
    log.set_level("DEBUG")
    with pytest.raises(PlatformError) as error:
        platform.extract(start, end)
    assert error.value.code == code and error.value.__cause__ is None
    assert not any(word in str(error.value) + log.text for word in secrets)


def untried_faults(test: str) -> list[str]:
    """Fault switches a file of tests does not name; DrChrono's two envelopes are no other platform's."""
    source = Path(test).read_text()
    return [kind for kind in KINDS - {"data_envelope"} if f'"{kind}"' not in source]


@dataclass
class World:
    """A practice from its platform to proposals and back, on a real database; a platform says what its connection is."""

    ctx: Context
    server: Any
    practice: ClassVar[str]
    platform: ClassVar[str]

    @property
    def connection(self) -> dict[str, Any]:
        raise AssertionError("a platform says how it is reached")

    def client(self) -> Any:
        return connections.client(self.ctx, self.practice, self.connection)

    def extract(self, start: date = START, end: date = TODAY) -> list[Partition]:
        with self.client() as source:
            return extract.extract(self.ctx, self.practice, self.platform, source, start, end)

    def apply(self) -> Any:
        with self.client() as writer:
            return apply.apply(self.ctx, self.practice, writer)

    def fault(self, **fields: Any) -> None:
        fault(self.server, **fields)

    def heal(self) -> None:
        heal(self.server)

    def written(self, resource: str) -> list[dict[str, Any]]:
        return written(self.server, resource)

    def rows(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> list[dict[str, Any]]:
        with self.ctx.db.connect() as connection:
            return [dict(r) for r in connection.execute(sa.select(table).where(*where)).mappings()]

    def states(self, chosen: Sequence[dict[str, Any]]) -> set[str]:
        return {p["status"] for p in self.rows(proposals, proposals.c.id.in_([c["id"] for c in chosen]))}

    def landed(self, object_name: str) -> dict[date, str]:
        return {p["day"]: p["landed_version"] for p in self.rows(partitions, partitions.c.object == object_name)}

    def approve(self, id: str) -> None:
        with db.transaction(self.ctx.db, self.practice) as connection:
            shown = lifecycle.show(connection, id)
            lifecycle.approve(connection, id, shown["content_hash"], ANA)

    def proposed(self) -> list[dict[str, Any]]:
        """What the pipelines propose of the whole practice: a posting and a follow-up of a denial."""
        assert self.extract()
        assert self.extract() == []  # nothing changed: nothing is landed again
        receive.scan(self.ctx, self.practice)
        receive.land(self.ctx, receive.pending(self.ctx, self.practice))
        deidentify.publish(self.ctx, deidentify.pending(self.ctx))
        for partition in post.pending(self.ctx):
            post.post(self.ctx, partition)
        for partition in triage.pending(self.ctx):
            triage.triage(self.ctx, partition)
        found = self.rows(proposals, proposals.c.practice == self.practice)
        assert len(found) > 20
        return [next(p for p in found if p["kind"] == kind) for kind in ("posting", "denial_follow_up")]

    def approved_posting(self, claim: str) -> None:
        """One approved posting proposal on a claim of the platform."""
        token = self.ctx.vault(self.practice).tokenize("CLAIM", pa.array([claim]))[0].as_py()
        money = {"charge": "100.00", "paid": "80.00", "contractual": "20.00", "denied": "0.00", "other": "0.00"}
        posting = {"payer_name": "Acme", "payment_date": "2026-11-02", "is_reversal": False, "claim_token": token}
        payload = {"posting": {**money, "patient_responsibility": "0.00", **posting}, "lines": []}
        draft = Draft(self.practice, "posting", date(2026, 11, 2), token, "k-0", "Post 80.00", Decimal(80), 20, payload)
        with db.transaction(self.ctx.db, self.practice) as connection:
            lifecycle.propose(connection, [draft])
        self.approve(proposal_id(self.practice, "posting", "k-0"))

    def rest_is_over(self) -> None:
        """As if the time had passed that a write-back of unknown outcome is left alone."""
        with self.ctx.db.begin() as connection:
            connection.execute(
                sa.text("UPDATE medbill.outbox SET lease_until = clock_timestamp() - interval '1 second'")
            )

    def fields_asked_for(self) -> list[str]:
        """The fields an extraction was to read, as its intent in the ledger says."""
        with self.ctx.db.connect() as connection:
            payloads = connection.execute(
                sa.text("SELECT convert_from(payload, 'UTF8') FROM audit.rows WHERE kind = 'platform.extract'")
            ).scalars()
            intent = json.loads(next(p for p in payloads if '"outcome":"intent"' in p))
        fields: list[str] = intent["details"]["fields"]
        return fields

    def lasts_in_a_fault(self, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> None:
        """What was landed stays; the watermark does too; when the fault is over the same is found, nothing is landed twice."""
        monkeypatch.setattr(circuit, "FIRST", timedelta(0))
        monkeypatch.setattr(circuit, "TRIAL", timedelta(0))
        self.extract(LATELY)
        before = self.landed("claims"), self.landed("notes")
        assert before[0] and before[1]
        self.fault(times=200, **fields)
        with pytest.raises(PlatformError):
            self.extract(LATELY)
        assert (self.landed("claims"), self.landed("notes")) == before
        self.heal()
        assert self.extract(LATELY) == [] and (self.landed("claims"), self.landed("notes")) == before


def context(home: Path, database: sa.Engine, inbox: Path) -> Context:
    settings = Settings.from_env(
        {
            "MEDBILL_HOME": str(home),
            "MEDBILL_DATABASE_URL": database.url.render_as_string(hide_password=False),
            "MEDBILL_INBOX": str(inbox),
            "MEDBILL_INBOX_SETTLE": "0",
            "MEDBILL_INBOX_PATIENCE": "0",
        }
    )
    return Context.open(settings, RunContext(service="medbill", dag_id="test"))
