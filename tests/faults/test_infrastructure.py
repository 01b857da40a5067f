"""Disk, database, ledger, keys, other runs and sudden death: whatever breaks, nothing is half-visible and a re-run ends the same.

One day of remittances is run undisturbed, then again and again with something broken. The world is rewound in between;
tokens follow from their values and what costs time is remembered, so that two runs can be compared, quickly.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa

from medbill.audit.ledger import Ledger, RunContext
from medbill.audit.verify import verify
from medbill.errors import KeyUnavailable, LedgerUnavailable, MedbillError, StoreUnavailable, TamperedData
from medbill.pipelines import deidentify, post, receive
from medbill.pipelines.context import Context, Partition
from medbill.rules import posting
from medbill.store.envelope import Envelopes
from medbill.store.keys import LocalKeyring
from medbill.store.objects import ObjectStore
from medbill.store.tables import holds, inbox_files, partitions, proposals, quarantine
from medbill.store.tables import results as results_table

_spec = importlib.util.spec_from_file_location("faults_world", Path(__file__).with_name("world.py"))
assert _spec is not None and _spec.loader is not None
w = sys.modules.setdefault("faults_world", importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(w)

pytestmark = pytest.mark.slow

DAY = date(2026, 10, 5)
#: The shortest day that ends everywhere: posted, denied, held, quarantined, and one file that is none.
FILES: dict[str, bytes] = {}
OFFICE = w.Office()


def _files() -> dict[str, bytes]:
    claim, line = OFFICE.claim, w.Line
    denied = claim(line("ZQDENA", paid=0, cas=(("CO", "50", 10_000),)), status="4")
    off = claim(line("ZQOFFB", cas=(("CO", "45", 1_000),)))
    good = w.Payment((claim(), denied, off, claim(bill=False), claim()))
    return {"ZQFILE_day.835": w.interchange(DAY, good), "ZQFILE_scan.835": b"%PDF-1.7\nZQPDF"}


FILES.update(_files())
CANARIES = OFFICE.canaries | {"ZQFILE", "ZQPDF"}


@pytest.fixture(scope="module")
def steady() -> Iterator[dict[str, Any]]:
    with w.steady_tokens(), w.remembered({}) as answers:
        yield answers


@pytest.fixture(scope="module")
def world(steady: dict[str, Any], module_database: sa.Engine, tmp_path_factory: pytest.TempPathFactory) -> w.World:
    made = w.open_world(module_database, tmp_path_factory.mktemp("home"), OFFICE)
    made.bill()
    return made


@pytest.fixture(scope="module")
def undisturbed(world: w.World) -> str:
    """The fingerprint of the day as it should be."""
    w.rewind(world, FILES)
    world.run()
    w.assert_nothing_lost(world)
    rows = {t.name: len(world.rows(t)) for t in (inbox_files, quarantine, holds, results_table)}
    assert rows == {"inbox_files": 2, "quarantine": 2, "holds": 1, "results": 2}
    assert sorted(p["kind"] for p in world.rows(proposals)) == (
        ["denial_follow_up"] + ["posting"] * 3 + ["underpayment_dispute"] * 2
    )
    return world.fingerprint()


@pytest.fixture(autouse=True)
def fresh(world: w.World, undisturbed: str) -> None:
    world.sent.clear()
    w.rewind(world, FILES)


def _says_nothing(error: BaseException) -> None:
    """Nothing of the files, names or passwords in what a log would show of an error."""
    shown = "".join(traceback.format_exception(error)).casefold()
    assert not [c for c in CANARIES if c.casefold() in shown]


# --- a fault at every step --------------------------------------------------------------------------------------------


class Switch:
    """Counts an operation, and breaks the n-th: before or after it is done, once or from then on."""

    def __init__(self, at: int = 0, *, done: bool = False, stays: bool = False) -> None:
        self.at, self.done, self.stays, self.count = at, done, stays, 0

    def run(self, operation: Callable[..., Any], error: Exception, *args: Any) -> Any:
        self.count += 1
        breaks = self.at and (self.count == self.at or (self.stays and self.count > self.at))
        if breaks and not (self.done and self.count == self.at):
            raise error
        result = operation(*args)
        if breaks:
            raise error
        return result


@contextmanager
def disk(switch: Switch) -> Iterator[Switch]:
    """Every fsync of the object store (one for an object's bytes, one for its name) goes through the switch."""
    sync = os.fsync
    os.fsync = lambda fd: switch.run(sync, OSError(errno.ENOSPC, "No space left on device"), fd)
    try:
        yield switch
    finally:
        os.fsync = sync


@contextmanager
def database(engine: sa.Engine, switch: Switch) -> Iterator[Switch]:
    """Every COMMIT of a transaction that wrote something goes through the switch, and every append to the ledger; once
    broken, every COMMIT does."""
    commit, append, wrote = engine.dialect.do_commit, Ledger._send, set()
    gone = psycopg2.OperationalError("server closed the connection unexpectedly ZQFIRSTAAAB")

    def written(_connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if re.search(r"\b(INSERT|UPDATE|DELETE)\b", statement):
            wrote.add(cursor.connection)

    def through(connection: Any) -> None:
        if connection.dbapi_connection in wrote or (switch.stays and switch.count >= switch.at > 0):
            wrote.discard(connection.dbapi_connection)
            switch.run(commit, gone, connection)
        else:
            commit(connection)

    sa.event.listen(engine, "after_cursor_execute", written)
    engine.dialect.do_commit = through
    Ledger._send = lambda ledger, payload: switch.run(append, gone, ledger, payload)
    try:
        yield switch
    finally:
        Ledger._send = append
        del engine.dialect.do_commit
        sa.event.remove(engine, "after_cursor_execute", written)


def _interrupt(world: w.World, broken: Any) -> MedbillError | None:
    """Run with something broken; what it raised."""
    try:
        with broken:
            world.run()
    except MedbillError as error:
        _says_nothing(error)
        return error
    return None


def _check_all(world: w.World, undisturbed: str, at: Callable[[int], Any], count: int, kinds: Any) -> None:
    for n in range(1, count + 1):
        w.rewind(world, FILES)
        error = _interrupt(world, at(n))
        assert isinstance(error, kinds), n
        w.assert_nothing_half_visible(world)
        world.run()
        assert world.fingerprint() == undisturbed, n
    w.assert_nothing_lost(world)
    assert world.waiting() == []


def test_disk_full_at_every_object_write(world: w.World, undisturbed: str) -> None:
    with disk(Switch()) as counting:
        world.run()
    assert counting.count >= 2 * (2 + 2 + 5 + 4 + 1)  # files, landed and refused, published, postings, denials
    _check_all(world, undisturbed, lambda n: disk(Switch(n)), counting.count, StoreUnavailable)


@pytest.mark.parametrize("done", [False, True], ids=["before_commit", "answer_lost"])
def test_database_lost_at_every_transaction(world: w.World, undisturbed: str, done: bool) -> None:
    engine = world.ctx.db
    with database(engine, Switch()) as counting:
        world.run()
    assert counting.count > 20
    broken = lambda n: database(engine, Switch(n, done=done, stays=True))  # noqa: E731
    _check_all(world, undisturbed, broken, counting.count, StoreUnavailable)


def test_the_ledger_outlives_all_of_it(world: w.World, undisturbed: str) -> None:
    """Runs that were cut off leave intents without outcome, which the verifier names; no chain is broken."""
    assert {p.code for p in verify(world.ctx.db).problems} <= {"INTENT_WITHOUT_OUTCOME"}
    w.assert_no_canary(world, CANARIES)


# --- a disk that is really full ---------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], None], Callable[[], None]]]:
    """A folder on a disk of 4 MiB, and how to fill and to clear it. Where mounting is not allowed, the kernel's error is faked."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") is not None and (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True).returncode
        == 0
    )
    filler, sync = folder / ".filler", os.fsync

    def fill() -> None:
        if mounted:
            with filler.open("wb", buffering=0) as file:
                try:
                    while file.write(b"\0" * 4096):
                        pass
                except OSError as error:
                    assert error.errno == errno.ENOSPC
        else:
            os.fsync = lambda fd: Switch(1).run(sync, OSError(errno.ENOSPC, "No space left on device"), fd)

    def clear() -> None:
        filler.unlink(missing_ok=True)
        os.fsync = sync

    yield folder, fill, clear
    clear()
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("stage", ["land", "publish", "post"])
def test_disk_full_while_writing_a_partition(world: w.World, small_disk: Any, stage: str) -> None:
    folder, fill, clear = small_disk
    shutil.copytree(world.ctx.settings.objects, folder, dirs_exist_ok=True)
    settings = replace(world.ctx.settings, objects=str(folder))
    small = w.World(Context.open(settings, RunContext(dag_id="test")), OFFICE)
    w.rewind(small, FILES)
    small.run()
    expected = small.fingerprint()
    w.rewind(small, FILES)
    small.scan()
    if stage != "land":
        small.land()
    if stage == "post":
        small.publish()
    before = small.rows(partitions), small.rows(results_table), small.ctx.objects.list()
    fill()
    with pytest.raises(StoreUnavailable, match=r"ENOSPC.*disk space") as caught:
        getattr(small, stage)()
    _says_nothing(caught.value)
    clear()
    w.assert_nothing_half_visible(small)
    assert (small.rows(partitions), small.rows(results_table)) == before[:2]
    assert small.ctx.objects.list() == before[2]
    small.run()
    assert small.fingerprint() == expected
    w.assert_nothing_lost(small)


# --- database, ledger and keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg2://postgres:ZQPDF@127.0.0.1:1/medbill",
        "postgresql+psycopg2://postgres@/ZQPDF?host=/nonexistent",
    ],
    ids=["wrong_port", "stopped_server"],
)
def test_database_down_at_start(world: w.World, undisturbed: str, url: str, tmp_path: Path) -> None:
    settings = replace(world.ctx.settings, database_url=url)
    down = w.World(Context.open(settings, RunContext(dag_id="test")), OFFICE)
    steps = [down.scan, down.land, down.publish, down.post, down.triage]
    for step in steps:
        with pytest.raises(StoreUnavailable, match="database is up") as caught:
            step()
        _says_nothing(caught.value)
    assert world.waiting() == sorted(FILES)
    world.run()
    assert world.fingerprint() == undisturbed


@pytest.fixture
def no_ledger(world: w.World) -> Iterator[Callable[[], None]]:
    """Takes the ledger's only way in away; it is back after the test."""

    def rename(old: str, new: str) -> None:
        with world.ctx.db.begin() as connection:
            connection.execute(sa.text(f"ALTER FUNCTION audit.{old}(bytea) RENAME TO {new}"))

    yield lambda: rename("append", "append_gone")
    rename("append_gone", "append")


@pytest.mark.parametrize("stage", ["scan", "land", "publish"])
def test_ledger_down_nothing_protected_is_read(
    world: w.World, no_ledger: Callable[[], None], monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    for earlier in ["scan", "land", "publish"][: ["scan", "land", "publish"].index(stage)]:
        getattr(world, earlier)()
    before = world.waiting(), world.rows(partitions), world.rows(inbox_files)
    no_ledger()
    opened: list[str] = []
    unseal, get = Envelopes.open, ObjectStore.get
    monkeypatch.setattr(Envelopes, "open", lambda *a: opened.append("envelope") or unseal(*a))
    if stage == "scan":
        monkeypatch.setattr(ObjectStore, "get", lambda *a: opened.append("inbox") or get(*a))
    with pytest.raises(LedgerUnavailable, match="no protected data may be touched") as caught:
        getattr(world, stage)()
    _says_nothing(caught.value)
    assert opened == []
    assert (world.waiting(), world.rows(partitions), world.rows(inbox_files)) == before


def _damage(kind: str, keyring: Path, elsewhere: Path) -> None:
    if kind == "missing":
        keyring.unlink()
    elif kind == "of_another_installation":
        LocalKeyring(elsewhere).data_key({}, first=True)
        shutil.copy(elsewhere, keyring)
    elif kind == "other_bytes":  # the same ids, another key
        LocalKeyring(elsewhere).data_key({}, first=True)
        theirs, ours = elsewhere.read_text(), keyring.read_text()
        keyring.write_text(ours.replace(_key(ours), _key(theirs)))
    elif kind == "cut":
        keyring.write_text(keyring.read_text()[:50])
    else:
        keyring.chmod(0o644)


def _key(text: str) -> str:
    return text.split('"keys"')[1].split('"')[3]


@pytest.mark.parametrize("kind", ["missing", "of_another_installation", "other_bytes", "cut", "readable_by_all"])
@pytest.mark.parametrize("stage", ["scan", "publish"])
def test_keyring_missing_or_wrong(world: w.World, undisturbed: str, tmp_path: Path, kind: str, stage: str) -> None:
    if stage == "publish":
        world.scan()
        world.land()
    before = world.waiting(), world.rows(partitions), world.rows(inbox_files)
    keyring = world.ctx.settings.keyring
    saved = tmp_path / "saved.json"
    shutil.copy2(keyring, saved)
    try:
        _damage(kind, keyring, tmp_path / "other.json")
        with pytest.raises(TamperedData if kind == "other_bytes" else KeyUnavailable) as caught:
            locked = Context.open(world.ctx.settings, RunContext(dag_id="test"))
            getattr(w.World(locked, OFFICE), stage)()
        _says_nothing(caught.value)
        assert (world.waiting(), world.rows(partitions), world.rows(inbox_files)) == before
        assert keyring.exists() == (kind != "missing")  # a lost one is not made anew
    finally:
        saved.replace(keyring)
    world.run()
    assert world.fingerprint() == undisturbed


# --- other runs, and sudden death -------------------------------------------------------------------------------------


def test_two_runs_over_one_inbox(world: w.World, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        f"{k}.835": w.interchange(
            DAY + timedelta(days=1 + k % 3), w.Payment((OFFICE.claim(bill=False),)), control=k + 1
        )
        for k in range(9)
    }
    world.sent.clear()
    w.rewind(world, files)
    start, between = threading.Barrier(2), threading.Barrier(2)
    refuse = receive._refuse_file

    def meet(data: bytes) -> Any:
        """Both have read the same file and found it new."""
        with suppress(threading.BrokenBarrierError):
            between.wait(timeout=2)
        return refuse(data)

    monkeypatch.setattr(receive, "_refuse_file", meet)
    received: list[receive.Received] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            own = w.World(Context.open(world.ctx.settings, RunContext(dag_id="test")), OFFICE)
            start.wait(timeout=30)
            received.append(own.scan())
            own.land()
        except BaseException as error:  # for the main thread
            failed.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert failed == [] and len(received) == 2
    assert sum(r.landed for r in received) == len(files)
    assert sum(r.held + r.quarantined + r.refused for r in received) == 0
    assert world.waiting() == []
    rows = world.rows(inbox_files)
    assert [(f["status"], f["version"]) for f in rows] == [("landed", 1)] * len(files)
    world.run()
    w.assert_nothing_lost(world)
    assert receive.pending(world.ctx, w.PRACTICE) == deidentify.pending(world.ctx) == post.pending(world.ctx) == []


def test_published_anew_while_it_is_posted_is_posted_again(world: w.World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.scan()
    world.land()
    world.publish()
    match, partition = posting.match, Partition(w.PRACTICE, "remittances", DAY)

    def slow(*inputs: Any) -> Any:
        with world.ctx.db.begin() as connection:
            connection.execute(
                sa.update(partitions).where(*partition.where(partitions)).values(content_hash="of what came meanwhile")
            )
        return match(*inputs)

    monkeypatch.setattr(posting, "match", slow)
    post.post(world.ctx, partition)
    assert post.pending(world.ctx) == [partition]


_CHILD = """
import importlib.util, pickle, sys
from pathlib import Path
from types import SimpleNamespace
spec = importlib.util.spec_from_file_location("faults_world", sys.argv[1])
w = sys.modules["faults_world"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(w)
import medbill.x12.era
from medbill.pipelines.context import Context
world = w.World(Context.open(), w.Office())
with w.steady_tokens(), w.remembered(pickle.loads(Path(sys.argv[2]).read_bytes())):
    print("ready", flush=True)
    sys.stdin.readline()
    world.scan()
    world.land()
print("done", flush=True)
"""


@pytest.mark.parametrize("seed", [3, 7, 11])
def test_killed_while_receiving_and_landing(
    world: w.World, undisturbed: str, steady: dict[str, Any], tmp_path: Path, seed: int
) -> None:
    (tmp_path / "answers").write_bytes(pickle.dumps({k: v for k, v in steady.items() if "gates" in k}))
    began = time.monotonic()
    world.scan()
    world.land()
    took = time.monotonic() - began
    w.rewind(world, FILES)
    settings = world.ctx.settings
    env = {**os.environ, "MEDBILL_HOME": str(settings.home), "MEDBILL_DATABASE_URL": settings.database_url}
    command = [sys.executable, "-c", _CHILD, str(Path(__file__).with_name("world.py")), str(tmp_path / "answers")]
    child = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None and child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    delay = random.Random(seed).uniform(0, took)
    child.stdin.write("go\n")
    child.stdin.flush()
    time.sleep(delay)
    child.send_signal(signal.SIGKILL)
    rest = child.communicate(timeout=60)[0]
    print(f"seed {seed}: killed after {delay:.3f} s of about {took:.3f} s; {rest.strip() or 'not done'}")
    # a torn part stays hidden: it is no object, and the same write succeeds beside it
    assert not [key for key in world.ctx.objects.list() if key.endswith(".part")]
    for part in Path(settings.objects).rglob(".*.part"):
        part.unlink()
    w.assert_nothing_half_visible(world)
    world.run()
    assert world.fingerprint() == undisturbed
    w.assert_nothing_lost(world)
