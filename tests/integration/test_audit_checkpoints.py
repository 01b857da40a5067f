"""What the checkpoints outside the database see, and what its administrator may try against them."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from medbill.audit import checkpoint as cp
from medbill.audit import seal as sealing
from medbill.audit import verify as verifier
from medbill.audit.anchor import Anchor
from medbill.audit.ledger import Event, Ledger, RunContext
from medbill.audit.seal import Places, seal
from medbill.audit.signing import Signer, load_public
from medbill.audit.verify import Report, verify
from medbill.audit.worm import worm
from medbill.errors import KeyUnavailable, LedgerUnavailable, StoreUnavailable, TamperedData
from medbill.settings import Settings

pytestmark = pytest.mark.slow

OFF = "ALTER TABLE audit.rows DISABLE TRIGGER ALL; ALTER TABLE audit.heads DISABLE TRIGGER ALL; ALTER TABLE audit.checkpoints DISABLE TRIGGER ALL;"
ON = (
    "ALTER TABLE audit.rows ENABLE ALWAYS TRIGGER append_only; ALTER TABLE audit.heads ENABLE ALWAYS TRIGGER append_only;"
    "ALTER TABLE audit.heads ENABLE ALWAYS TRIGGER one_step; ALTER TABLE audit.checkpoints ENABLE ALWAYS TRIGGER append_only"
)
KEYS = [k for k in (f"k{n}" for n in range(1000)) if hashlib.sha256(k.encode()).digest()[0] % 16 == 0]
#: What an administrator with patience does: edit a row, then recompute every later hash, and the head.
RECOMPUTE = """
DO $$
DECLARE r record; link bytea := audit.first_hash(0::smallint);
BEGIN
  UPDATE audit.rows SET actor = 'somebody',
    payload = convert_to(replace(convert_from(payload, 'UTF8'), '"actor":"medbill"', '"actor":"somebody"'), 'UTF8')
  WHERE chain = 0 AND seq = 4;
  FOR r IN SELECT * FROM audit.rows WHERE chain = 0 ORDER BY seq LOOP
    UPDATE audit.rows SET prev_hash = link,
      row_hash = audit.hash_of(r.chain, r.seq, r.recorded_at, r.payload, link) WHERE chain = 0 AND seq = r.seq;
    SELECT row_hash INTO link FROM audit.rows WHERE chain = 0 AND seq = r.seq;
  END LOOP;
  UPDATE audit.heads SET row_hash = link WHERE chain = 0;
END $$"""
CUT = """
DELETE FROM audit.rows WHERE chain = 0 AND seq > 5;
UPDATE audit.heads SET seq = 5, row_hash = (SELECT row_hash FROM audit.rows WHERE chain = 0 AND seq = 5) WHERE chain = 0"""


class Sealed:
    """A ledger of eight rows in chain 0 and some elsewhere, sealed by three checkpoints, the last a sign of life."""

    def __init__(self, db: sa.Engine, folder: Path) -> None:
        self.db, self.folder, self.key = db, folder / "checkpoints", folder / "keys" / "audit_signing.pem"
        self.store = worm(str(self.folder))
        self.ledger = Ledger(db, RunContext(dag_id="d", run_id="r"))
        self.write(KEYS[:5])
        self.seal()
        self.write([*KEYS[5:8], "elsewhere"])
        self.seal()
        self.seal()

    def write(self, keys: list[str]) -> None:
        for key in keys:
            event = Event("read", "landing.read", "payment", "lakeside", "x", details={"n": 4}, idempotency_key=key)
            self.ledger.record(event)

    def seal(self) -> cp.Checkpoint:
        return seal(self.db, self.store, self.key)

    def verify(self, **arguments: Any) -> Report:
        anchor = Anchor(self.store, load_public(self.key.with_suffix(".pub")))
        return verify(self.db, anchor=anchor, **arguments)

    def codes(self) -> set[str]:
        return {problem.code for problem in self.verify().problems}

    def sql(self, statement: str) -> None:
        with self.db.begin() as connection:
            connection.exec_driver_sql(f"{OFF}{statement};{ON}")

    def file(self, number: int) -> Path:
        return self.folder / cp.name(number)


@pytest.fixture
def sealed(database: sa.Engine, tmp_path: Path) -> Sealed:
    return Sealed(database, tmp_path)


def test_an_untouched_ledger_fits_its_checkpoints(sealed: Sealed) -> None:
    report = sealed.verify()
    assert (report.problems, report.warnings) == ([], [])
    assert (report.rows, report.sealed, report.checkpoints) == (9, 9, 3)
    assert [path.stat().st_mode & 0o777 for path in sorted(sealed.folder.iterdir())] == [0o444] * 3
    assert sealed.key.stat().st_mode & 0o777 == 0o600
    assert verify(sealed.db, anchor=Anchor(sealed.store)).ok  # trusting the first checkpoint's key
    again = sealed.verify(workers=2)
    assert (again.rows, again.problems) == (9, [])


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("UPDATE audit.rows SET actor = 'somebody' WHERE chain = 0 AND seq = 4", {"ALTERED_COLUMN"}),
        ("UPDATE audit.rows SET recorded_at = recorded_at + interval '1 microsecond' WHERE seq = 4", {"ALTERED_ROW"}),
        ("UPDATE audit.rows SET recorded_at = '-infinity' WHERE seq = 4", {"ALTERED_ROW"}),
        ("UPDATE audit.rows SET payload = '\\xff' WHERE chain = 0 AND seq = 4", {"ALTERED_ROW", "ALTERED_COLUMN"}),
        ("DELETE FROM audit.rows WHERE chain = 0 AND seq = 4", {"GAP"}),
        (
            "ALTER TABLE audit.rows DROP CONSTRAINT rows_seq_check; UPDATE audit.rows SET seq = -seq WHERE seq IN (3, 4);"
            " UPDATE audit.rows SET seq = 7 + seq WHERE seq < 0",
            {"ALTERED_ROW", "BROKEN_LINK"},
        ),
        (
            "ALTER TABLE audit.rows DROP CONSTRAINT rows_chain_check; UPDATE audit.rows SET chain = 16 WHERE chain <> 0",
            {"WRONG_CHAIN", "SEALED_ROWS_MISSING"},
        ),
        (CUT, {"SEALED_ROWS_MISSING"}),
        ("DELETE FROM audit.rows; UPDATE audit.heads SET seq = 0, row_hash = audit.first_hash(chain)", {"SEALED_ROWS_MISSING"}),
        (RECOMPUTE, {"SEALED_ROWS_CHANGED"}),
        ("DELETE FROM audit.checkpoints WHERE number = 1", set()),  # the copies are not what counts
        ("UPDATE audit.checkpoints SET content = 'x' WHERE number = 2", {"CHECKPOINT_FORKED"}),
    ],
)  # fmt: skip
def test_the_databases_administrator_is_noticed(sealed: Sealed, statement: str, expected: set[str]) -> None:
    sealed.sql(statement)
    found = sealed.codes()
    assert found == expected if statement in (CUT, RECOMPUTE) else expected <= found
    if statement in (CUT, RECOMPUTE):
        assert verify(sealed.db).ok  # without the checkpoints nobody would know


def test_rows_put_where_rows_were_cut_do_not_hide_it(sealed: Sealed) -> None:
    sealed.sql(CUT)
    sealed.write(KEYS[20:30])
    assert verify(sealed.db).ok
    assert sealed.codes() == {"SEALED_ROWS_CHANGED"}


@pytest.mark.parametrize("statement", [CUT, RECOMPUTE])
def test_nothing_is_sealed_over_an_altered_ledger(sealed: Sealed, statement: str) -> None:
    sealed.sql(statement)
    with pytest.raises(TamperedData) as caught:
        sealed.seal()
    assert caught.value.code == "LEDGER_ALTERED"
    assert not sealed.file(4).exists()


def _resign(sealed: Sealed, start: int, key: Path, *, relink: bool = True) -> None:
    """Rewrite the checkpoints from number `start` on over what the database says now, as an attacker with a key would."""
    kept = [cp.parse(copy.content) for copy in sealed.store.copies()]
    for old in kept[start - 1 :]:
        sealed.file(old.number).unlink()
    previous = kept[start - 2] if start > 1 else None
    for old in kept[start - 1 :]:
        made = cp.make(previous, old.sealed_at, old.chains, Signer.load(key, first=True))
        assert sealed.store.put_new(made.name, made.content)
        previous = made if relink else old


def test_another_signer_is_noticed(sealed: Sealed, tmp_path: Path) -> None:
    _resign(sealed, 2, tmp_path / "other" / "key.pem")
    assert {"SIGNER_CHANGED", "CHECKPOINT_FORKED"} <= sealed.codes()  # the copies differ as well
    _resign(sealed, 1, tmp_path / "other" / "key.pem")
    assert "SIGNER_CHANGED" in sealed.codes()
    # nobody pinned the key, and the copies went too: only a pinned key tells
    sealed.sql("DELETE FROM audit.checkpoints")
    assert verify(sealed.db, anchor=Anchor(sealed.store)).ok
    assert "SIGNER_CHANGED" in sealed.codes()


def test_a_sealer_with_another_key_is_refused(sealed: Sealed, tmp_path: Path) -> None:
    sealed.key.unlink()
    with pytest.raises(KeyUnavailable):  # a lost key is not made anew
        sealed.seal()
    Signer.load(sealed.key, first=True)
    with pytest.raises(KeyUnavailable) as caught:
        sealed.seal()
    assert caught.value.code == "SIGNER_CHANGED"
    sealed.key.chmod(0o640)
    with pytest.raises(KeyUnavailable, match="others"):
        sealed.seal()


def test_a_fork_by_the_signer_is_noticed(sealed: Sealed) -> None:
    with sealed.db.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE audit.checkpoints DISABLE TRIGGER ALL; DELETE FROM audit.checkpoints")
        connection.exec_driver_sql(ON)
    _resign(sealed, 2, sealed.key, relink=False)
    third = cp.parse(sealed.file(3).read_bytes())
    assert third.previous is not None
    second = cp.parse(sealed.file(2).read_bytes())
    other = cp.make(cp.parse(sealed.file(1).read_bytes()), second.sealed_at + timedelta(seconds=1), second.chains,
                    Signer.load(sealed.key, first=False))  # fmt: skip
    sealed.file(2).unlink()
    sealed.store.put_new(other.name, other.content)
    assert sealed.codes() == {"CHECKPOINT_FORKED"}


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_missing_checkpoint_is_noticed(sealed: Sealed, number: int) -> None:
    sealed.file(number).unlink()
    assert sealed.codes() == {"CHECKPOINT_MISSING"}
    if number == 3:
        with pytest.raises(TamperedData) as caught:
            sealed.seal()
        assert caught.value.code == "CHECKPOINT_MISSING"


def test_all_checkpoints_gone_is_noticed(sealed: Sealed) -> None:
    shutil.rmtree(sealed.folder)
    assert sealed.codes() == {"CHECKPOINT_MISSING"}
    with pytest.raises(TamperedData):
        sealed.seal()


@pytest.mark.parametrize("edit", [
    lambda data: data.replace(b'"number":2', b'"number":3'),
    lambda data: data[:-10] + b"\n",
    lambda data: b"",
    lambda data: data.replace(b"\n", b" \n", 1),
    lambda data: b"\xff" + data,
])  # fmt: skip
def test_an_edited_checkpoint_is_noticed(sealed: Sealed, edit: Callable[[bytes], bytes]) -> None:
    path = sealed.file(2)
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(edit(content))
    assert {"CHECKPOINT_FORGED", "CHECKPOINT_FORKED"} == sealed.codes()


def test_checkpoints_exchanged_are_noticed(sealed: Sealed) -> None:
    one, two = sealed.file(1), sealed.file(2)
    one.rename(two.with_suffix(".x"))
    two.rename(one)
    two.with_suffix(".x").rename(two)
    assert "CHECKPOINT_FORGED" in sealed.codes()


def test_an_open_transaction_is_sealed_once_it_is_committed(sealed: Sealed) -> None:
    payload = sealed.ledger._payload(
        Event("read", "a", "payment", "lakeside", "r", idempotency_key=KEYS[40]), "success",
        "00000000-0000-7000-8000-000000000000", None,
    )  # fmt: skip
    with sa.create_engine(sealed.db.url).connect() as holder:
        holder.execute(sa.text("SELECT audit.append(:p)"), {"p": payload})
        sealed.write(["k-other-chain-1", "elsewhere-2"])
        assert sealed.seal().rows == 11  # what others committed meanwhile, not what is open
        holder.commit()
    assert sealed.seal().rows == 12
    assert sealed.verify().problems == []


def test_a_sealer_that_died_before_the_copy_is_healed(sealed: Sealed) -> None:
    sealed.sql("DELETE FROM audit.checkpoints WHERE number = 3")
    assert sealed.verify().ok
    sealed.seal()
    with sealed.db.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM audit.checkpoints")) == 4
    report = sealed.verify()
    assert (report.problems, report.warnings) == ([], [])


def test_a_sealer_that_dies_after_the_put_forks_nothing(sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    sealed.write(["before"])
    with monkeypatch.context() as patched:
        patched.setattr(sealing, "_copy", dies)
        with pytest.raises(KeyboardInterrupt):
            sealed.seal()
    left = sealed.file(4).read_bytes()
    sealed.write(["after"])
    assert (sealed.seal().number, sealed.file(4).read_bytes()) == (5, left)
    report = sealed.verify()
    assert (report.problems, report.warnings, report.sealed) == ([], [], 11)


def test_a_long_transaction_elsewhere_does_not_hold_up_the_sealing(sealed: Sealed) -> None:
    """Nothing here goes by transaction ids. What does wait is told: UNSEALED, and the writers of its chain are refused."""
    with sa.create_engine(sealed.db.url).connect() as long:
        long.execute(sa.text("SELECT pg_current_xact_id()"))
        long.execute(sa.text("CREATE TABLE public.long_work (x integer)"))
        sealed.write(["while it runs"])
        assert sealed.seal().rows == 10
        report = sealed.verify()
        assert (report.problems, report.warnings, report.sealed) == ([], [], 10)
        long.rollback()


def test_a_writer_that_hangs_stops_its_chain_only_and_not_for_long(sealed: Sealed) -> None:
    event = Event("read", "a", "payment", "lakeside", "r", idempotency_key=KEYS[40])
    payload = sealed.ledger._payload(event, "success", "00000000-0000-7000-8000-000000000000", None)
    with sa.create_engine(sealed.db.url).connect() as holder:
        holder.execute(sa.text("SELECT audit.append(:p)"), {"p": payload})
        began = time.monotonic()
        with pytest.raises(LedgerUnavailable, match="55P03"):
            sealed.write([KEYS[41]])
        assert 9 < time.monotonic() - began < 30
        sealed.write(["k-other-chain-1"])
        holder.rollback()
    sealed.write([KEYS[41]])
    sealed.seal()
    assert (sealed.verify().problems, sealed.verify().rows) == ([], 11)


def test_of_two_sealers_at_once_both_get_a_number(sealed: Sealed) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: sealed.seal().number, range(4)))
    assert sorted(made) == [4, 5, 6, 7]
    assert sealed.verify().problems == []


def test_a_number_that_is_taken_is_not_written_over(sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    stale = sealed.store.copies()[1]
    monkeypatch.setattr(sealed.store, "last", lambda: stale)
    sealed.sql("DELETE FROM audit.checkpoints")
    with pytest.raises(StoreUnavailable) as caught:
        sealed.seal()
    assert caught.value.code == "CHECKPOINT_TAKEN"


def test_storage_that_is_full_leaves_the_ledger_as_it_was(sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import os

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreUnavailable, match="ENOSPC"):
        sealed.seal()
    monkeypatch.undo()
    assert sealed.seal().number == 4
    assert len(list(sealed.folder.iterdir())) == 4


def test_late_checkpoints_are_warned_of(sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier, "WINDOW", timedelta(seconds=-60))
    report = sealed.verify()
    assert report.ok
    assert [w.code for w in report.warnings] == ["HEARTBEAT_MISSING"]  # the sign of life had no rows waiting
    sealed.write(["late"])
    assert [w.code for w in sealed.verify().warnings] == ["HEARTBEAT_MISSING", "UNSEALED"]


def test_the_auditor_verifies_and_the_sealer_seals_and_neither_may_more(sealed: Sealed) -> None:
    for login, role in (("t_auditor", "medbill_auditor"), ("t_sealer", "medbill_audit_sealer")):
        with sealed.db.begin() as connection:
            connection.exec_driver_sql(
                f"DO $$ BEGIN CREATE ROLE {login} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$; GRANT {role} TO {login}"
            )
    auditor, sealer = (
        sa.create_engine(sealed.db.url.set(username=name), poolclass=sa.NullPool) for name in ("t_auditor", "t_sealer")
    )
    report = verify(auditor, anchor=Anchor(sealed.store), workers=2)
    assert (report.rows, report.problems) == (9, [])
    with pytest.raises(StoreUnavailable, match="42501"):
        seal(auditor, sealed.store, sealed.key)
    sealed.file(4).unlink()  # storage was written before the database refused
    assert seal(sealer, sealed.store, sealed.key).number == 4
    for engine in (auditor, sealer):
        for statement in ("DELETE FROM audit.checkpoints", "UPDATE audit.rows SET actor = 'x'", "TRUNCATE audit.rows"):
            with pytest.raises(sa.exc.DBAPIError) as caught, engine.begin() as connection:
                connection.exec_driver_sql(statement)
            assert caught.value.orig.pgcode == "42501"


def test_places_follow_the_settings(tmp_path: Path) -> None:
    places = Places.of(Settings.from_env({"MEDBILL_HOME": str(tmp_path)}), {})
    assert places == Places(
        str(tmp_path / "checkpoints"), tmp_path / "audit_signing.pem", tmp_path / "audit_signing.pub"
    )
    remote = Settings.from_env({"MEDBILL_HOME": str(tmp_path), "MEDBILL_OBJECTS": "s3://b/zone/"})
    assert Places.of(remote, {}).checkpoints == "s3://b/zone/checkpoints"
    assert Places.of(remote, {"MEDBILL_CHECKPOINTS": "/mnt/worm"}).checkpoints == "/mnt/worm"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="worm", ObjectLockEnabledForBucket=True)
    yield client
    server.stop()


def test_s3_with_object_lock(bucket: Any, database: sa.Engine, tmp_path: Path) -> None:
    from botocore.exceptions import ClientError

    ledger, store, key = Ledger(database, RunContext()), worm("s3://worm/audit"), tmp_path / "k.pem"
    ledger.record(Event("read", "a", "payment", "p", "r"))
    first, second = seal(database, store, key), seal(database, store, key)
    assert verify(database, anchor=Anchor(store)).problems == []
    assert store.put_new(first.name, b"other") is False
    [version] = bucket.list_object_versions(Bucket="worm", Prefix=f"audit/{first.name}")["Versions"]
    head = bucket.head_object(Bucket="worm", Key=f"audit/{first.name}")
    assert head["ObjectLockMode"] == "COMPLIANCE"
    kept = head["ObjectLockRetainUntilDate"] - datetime.now(head["ObjectLockRetainUntilDate"].tzinfo)
    assert kept > timedelta(days=6 * 365)
    with pytest.raises(ClientError):
        bucket.delete_object(Bucket="worm", Key=f"audit/{first.name}", VersionId=version["VersionId"])
    # what Object Lock lets through is told: a further version, a delete marker, an object without retention
    bucket.put_object(Bucket="worm", Key=f"audit/{first.name}", Body=b"other")
    assert [p.code for p in verify(database, anchor=Anchor(store)).problems] == ["CHECKPOINT_FORKED"]
    bucket.delete_object(Bucket="worm", Key=f"audit/{second.name}")
    report = verify(database, anchor=Anchor(store))
    assert [p.code for p in report.problems] == ["CHECKPOINT_FORKED"] * 2
    assert report.checkpoints == 2
    third = cp.make(second, second.sealed_at, second.chains, Signer.load(key, first=False))
    bucket.put_object(Bucket="worm", Key=f"audit/{third.name}", Body=third.content)
    assert "CHECKPOINT_UNLOCKED" in {p.code for p in verify(database, anchor=Anchor(store)).problems}
    with pytest.raises(StoreUnavailable, match="NoSuchBucket"):
        worm("s3://nowhere/x").last()
