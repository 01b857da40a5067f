"""Retention on a real PostgreSQL, folder and S3 with Object Lock: what goes, what stays, and a purge that is killed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from medbill.audit.tables import rows as ledger_rows
from medbill.audit.verify import verify
from medbill.errors import PolicyError, Purged, StoreUnavailable
from medbill.pipelines import deidentify, purge, receive, retention, retention_policy
from medbill.pipelines.context import Partition
from medbill.pipelines.retention_cli import app
from medbill.store.tables import (
    holds,
    inbox_files,
    object_secrets,
    partitions,
    proposals,
    quarantine,
    token_grants,
)

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("faults_world", ROOT / "tests" / "faults" / "world.py")
assert _spec is not None and _spec.loader is not None
w = sys.modules.setdefault("faults_world", importlib.util.module_from_spec(_spec))
if not hasattr(w, "Office"):
    _spec.loader.exec_module(w)

pytestmark = pytest.mark.slow
DAY = date(2026, 9, 15)
LATER = datetime.now(UTC) + timedelta(days=31)
YEARS = datetime.now(UTC) + timedelta(days=500)


def build(database: sa.Engine, home: Path, **settings: str) -> w.World:
    """A practice with one day of payments: all posted, one claim in quarantine, one file that is none."""
    office = w.Office()
    world = w.open_world(database, home, office, **settings)
    claims = [office.claim() for _ in range(3)]
    world.bill()
    world.drop("a.835", w.interchange(DAY, w.Payment(tuple(claims))))
    world.drop("no.835", b"this is no interchange, ZQNOTHING")
    world.run()
    return world


@pytest.fixture
def world(database: sa.Engine, tmp_path: Path) -> w.World:
    return build(database, tmp_path / "home")


def decided(world: w.World) -> None:
    """Nothing waits for a person any more."""
    with world.ctx.db.begin() as connection:
        connection.execute(sa.update(proposals).values(status="applied"))
        connection.execute(sa.update(holds).values(status="resolved"))


def sealed(world: w.World, zone: str = "landing") -> list[str]:
    return world.ctx.objects.list(f"{zone}/")


def purges(world: w.World) -> list[dict[str, Any]]:
    return world.rows(ledger_rows, ledger_rows.c.kind == purge.KIND)


def test_what_is_published_and_old_goes_with_its_secrets_and_the_ledger_says_so(world: w.World) -> None:
    decided(world)
    before, published = world.fingerprint(), sealed(world, "deid")
    copies = {key: world.ctx.objects.get(key) for key in sealed(world)}
    assert len(copies) == 3  # the file, its day, and the day of claims
    assert purge.run(world.ctx).erased.total() == 0  # all of it is young
    done = purge.run(world.ctx, LATER)
    assert done.erased["landing"] == 3 and not done.locked
    assert sealed(world) == [] and sealed(world, "deid") == published
    # what a backup of the objects holds is unreadable for good
    for key, copy in copies.items():
        zone, context = retention.context_of(key)
        with pytest.raises(Purged):
            world.ctx.envelopes.open_object(w.PRACTICE, zone, context, copy)
    assert {r["zone"] for r in world.rows(object_secrets)} == {"quarantine"}
    entries = purges(world)
    assert [e["outcome"] for e in entries].count("intent") == [e["outcome"] for e in entries].count("success") == 2
    assert verify(world.ctx.db).ok
    # again: nothing, and the pipelines leave the days as they are
    assert purge.run(world.ctx, LATER).erased.total() == 0
    assert len(purges(world)) == len(entries)
    world.run()
    assert {p["landed_purged_at"] for p in world.rows(partitions)} == {LATER}
    assert world.fingerprint() != before  # purged_at is new, and nothing else:
    with world.ctx.db.begin() as connection:
        connection.execute(sa.update(partitions).values(landed_purged_at=None))
        connection.execute(sa.update(inbox_files).values(purged_at=None))
    assert world.fingerprint() == before


@pytest.mark.parametrize(
    ("why", "change"),
    [
        ("proposals", lambda c: c.execute(sa.update(proposals).values(status="failed"))),
        ("held", lambda c: c.execute(sa.update(inbox_files).where(inbox_files.c.status == "landed").values(
            status="landed")) and c.execute(sa.insert(holds).values(
                practice=w.PRACTICE, claim_key="x-0", day=DAY, reason_code="X", reason="x", status="open"))),
        ("pending", lambda c: c.execute(sa.update(partitions).values(published_version="of another policy"))),
        ("quarantined", lambda c: c.execute(sa.insert(quarantine).values(
            id="q", practice=w.PRACTICE, object="remittances", day=DAY, level="claim", record_key="k",
            reason_code="X", reason="x"))),
    ],
)  # fmt: skip
def test_what_is_still_needed_stays_however_old(world: w.World, why: str, change: Any) -> None:
    decided(world)
    with world.ctx.db.begin() as connection:
        change(connection)
    done = purge.run(world.ctx, YEARS if why != "quarantined" else LATER)
    assert done.kept["landing", why] >= 1
    assert f"landing/{w.PRACTICE}/remittances/{DAY}/" in "".join(sealed(world))


def test_a_legal_hold_keeps_everything_of_its_days(world: w.World, tmp_path: Path) -> None:
    decided(world)
    policies = tmp_path / "policies"
    shutil.copytree(world.ctx.settings.policies, policies)
    text = (policies / "retention.yml").read_text()
    (policies / "retention.yml").write_text(text.replace("holds: []", f"holds: [{{practice: {w.PRACTICE}, why: m}}]"))
    held = w.open_world(world.ctx.db, tmp_path / "home", world.office, MEDBILL_POLICIES=str(policies))
    everything = world.ctx.objects.list()
    done = purge.run(held.ctx, YEARS)
    assert done.kept["landing", "hold"] == 2 and done.kept["quarantine", "hold"] == 1
    assert held.ctx.objects.list() == everything


def test_quarantine_goes_after_its_own_time_and_its_row_stays(world: w.World) -> None:
    decided(world)
    (refused,) = world.rows(quarantine)
    assert len(sealed(world, "quarantine")) == 1
    purge.run(world.ctx, LATER)
    assert len(sealed(world, "quarantine")) == 1
    assert purge.run(world.ctx, YEARS).erased["quarantine"] == 1
    assert sealed(world, "quarantine") == []
    (now,) = world.rows(quarantine)
    assert now == {**refused, "purged_at": YEARS}
    assert {f["purged_at"] for f in world.rows(inbox_files)} == {LATER, YEARS}


def test_a_late_file_of_a_purged_day_is_of_today_and_a_new_policy_says_what_it_cannot_do(
    world: w.World, tmp_path: Path
) -> None:
    decided(world)
    purge.run(world.ctx, LATER)
    late = world.office.claim()
    world.drop("late.835", w.interchange(DAY, w.Payment((late,)), control=2))
    world.bill()
    world.run()
    today = datetime.now(UTC).date()
    assert {(f["day"], f["status"]) for f in world.rows(inbox_files)} >= {(DAY, "landed"), (today, "landed")}
    posted = deidentify.read(world.ctx, Partition(w.PRACTICE, "remittances", today))
    assert posted["claims"].num_rows == 1
    # the policy changes: days whose landing was purged stay published as they are, and who asks for them is told
    policies = tmp_path / "policies"
    shutil.copytree(world.ctx.settings.policies, policies)
    with (policies / "deidentification.yml").open("a") as file:
        file.write("\n# changed\n")
    changed = w.open_world(world.ctx.db, tmp_path / "home", world.office, MEDBILL_POLICIES=str(policies))
    old = Partition(w.PRACTICE, "remittances", DAY)
    assert old not in deidentify.pending(changed.ctx)
    assert Partition(w.PRACTICE, "remittances", today) in deidentify.pending(changed.ctx)
    with pytest.raises(Purged, match="retention policy"):
        deidentify.publish(changed.ctx, [old])
    assert receive.land(world.ctx, [old]) == []
    with world.ctx.db.begin() as connection:  # as a newer reader would see it
        connection.execute(sa.update(partitions).where(partitions.c.day == DAY).values(landed_version="older"))
    assert old not in receive.pending(world.ctx, w.PRACTICE)
    with pytest.raises(Purged, match="retention policy"):
        receive.land(world.ctx, [old])


def test_superseded_versions_go_and_their_tokens_are_remembered(world: w.World) -> None:
    old = sealed(world, "deid")
    extra = world.office.claim()
    world.bill()  # the day of claims is landed and published anew
    assert len(sealed(world, "deid")) > len(old)
    now = datetime.now(UTC)
    kept = {p["published_uri"] for p in world.rows(partitions)}
    done = purge.run(world.ctx, now + timedelta(days=29))
    assert done.erased["published_superseded"] == 0 and done.erased["landing_superseded"] == 1
    done = purge.run(world.ctx, now + timedelta(days=31))
    assert done.erased["published_superseded"] >= 1
    assert {key.rpartition("/")[0] for key in sealed(world, "deid")} == kept
    assert extra.id not in "".join(world.texts())
    for p in world.rows(partitions):
        assert deidentify.read(world.ctx, Partition(p["practice"], p["object"], p["day"]))


def test_expired_grants_reports_logs_and_temporary_files_go(world: w.World, tmp_path: Path) -> None:
    home = tmp_path / "home"
    old = {home / "reports" / w.PRACTICE / "denials" / "x.html": 1, home / "airflow" / "logs" / "a" / "1.log": 1}
    old[home / "temp" / "spill"] = 1
    for path in old:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    with world.ctx.db.begin() as connection:
        connection.execute(
            sa.insert(token_grants).values(
                practice=w.PRACTICE, run="r", purpose="review", token="t", expires_at=datetime.now(UTC)
            )
        )
    done = purge.run(world.ctx, YEARS)
    assert [done.erased[rule] for rule in ("reports", "task_logs", "temp", "token_grants")] == [1, 1, 1, 1]
    assert not any(path.exists() for path in old) and world.rows(token_grants) == []


_KILLED = textwrap.dedent("""
    import os, signal, sys
    from datetime import datetime
    from medbill.pipelines import purge
    from medbill.pipelines.context import Context
    left = int(sys.argv[1])
    def step():
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    purge.run(Context.open(), datetime.fromisoformat(sys.argv[2]), step)
""")


def test_a_purge_killed_at_every_step_is_taken_up_again(database: sa.Engine, tmp_path: Path) -> None:
    world = build(database, tmp_path / "home")
    decided(world)
    published, killed = sealed(world, "deid"), 0
    url = database.url.render_as_string(hide_password=False)
    env = {**os.environ, "MEDBILL_HOME": str(tmp_path / "home"), "MEDBILL_DATABASE_URL": url}
    env["PYTHONPATH"] = str(ROOT / "include")
    for steps in range(8):
        done = subprocess.run([sys.executable, "-c", _KILLED, str(steps % 3), YEARS.isoformat()], env=env, timeout=120)
        killed += done.returncode == -signal.SIGKILL
        if done.returncode == 0:
            break
    assert killed >= 2
    purge.run(world.ctx, YEARS)
    assert sealed(world) == [] and sealed(world, "quarantine") == [] and sealed(world, "deid") == published
    assert world.rows(object_secrets) == []
    assert {p["landed_purged_at"] is not None for p in world.rows(partitions)} == {True}
    open_intents = verify(world.ctx.db, timedelta(0)).problems
    assert 0 < len(open_intents) <= killed and {p.code for p in open_intents} == {"INTENT_WITHOUT_OUTCOME"}


def test_of_two_purges_at_once_one_is_told(world: w.World) -> None:
    decided(world)

    def again() -> None:
        with pytest.raises(StoreUnavailable) as refused:
            purge.run(world.ctx, LATER)
        assert refused.value.code == "PURGE_RUNNING"

    assert purge.run(world.ctx, LATER, step=again).erased["landing"] == 3


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.mark.parametrize("bucket", ["plain", "versions", "lock"])
def test_in_a_bucket_with_versions_or_locks_nothing_readable_stays(
    database: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3_endpoint: str, bucket: str
) -> None:
    import boto3

    for name, value in (
        ("AWS_ENDPOINT_URL", s3_endpoint),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    client, name = boto3.client("s3"), f"b-{os.urandom(4).hex()}"
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=bucket == "lock")
    if bucket == "versions":
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    if bucket == "lock":
        client.put_object_lock_configuration(
            Bucket=name,
            ObjectLockConfiguration={
                "ObjectLockEnabled": "Enabled",
                "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 400}},
            },
        )
    world = build(database, tmp_path / "home", MEDBILL_OBJECTS=f"s3://{name}/zones")
    decided(world)
    keys = sealed(world)
    done = purge.run(world.ctx, LATER)
    assert done.erased["landing"] == len(keys) == 3 and sealed(world) == []
    left = client.list_object_versions(Bucket=name, Prefix="zones/landing/").get("Versions", [])
    if bucket != "lock":
        assert left == [] and done.locked == 0
        return
    assert done.locked == len(left) == 3
    for version in left:
        body = client.get_object(Bucket=name, Key=version["Key"], VersionId=version["VersionId"])["Body"].read()
        zone, context = retention.context_of(version["Key"].removeprefix("zones/"))
        with pytest.raises(Purged):
            world.ctx.envelopes.open_object(w.PRACTICE, zone, context, body)
    assert purge.run(world.ctx, LATER).erased.total() == 0  # the marker hides them: they are purged once


def test_the_command_shows_what_would_go_and_a_service_account_purges_nothing(
    world: w.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDBILL_HOME", str(world.ctx.settings.home))
    monkeypatch.setenv("MEDBILL_DATABASE_URL", world.ctx.settings.database_url)
    shown = CliRunner().invoke(app, ["show"])
    assert shown.exit_code == 0 and "landing" in shown.output and "never purged" in shown.output
    assert CliRunner().invoke(app, ["run", "--dry-run"]).exit_code == 0
    refused = CliRunner().invoke(app, ["run", "--actor", "medbill"])
    assert refused.exception is not None and refused.exception.code == "DECISION_REFUSED"
    analyst = CliRunner().invoke(app, ["run", "--actor", "Gia Moss"])
    assert analyst.exception is not None and analyst.exception.code == "ROLE_REFUSED"
    assert CliRunner().invoke(app, ["run", "--actor", "Eva Holm"]).exit_code == 0
    assert purges(world) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ledger: 6", "ledger: 5"),
        ("landing: 30", "landing: 0"),
        ("landing: 30", "landing: x"),
        ("temp: 1", ""),
        ("holds: []", "holds: [{practice: p}]"),
        ("landing_superseded: 3", "landing_superseded: 1"),
    ],
)
def test_a_policy_that_keeps_less_than_it_must_is_refused(tmp_path: Path, old: str, new: str) -> None:
    text = (ROOT / "include" / "policies" / "retention.yml").read_text()
    assert old in text
    path = tmp_path / "retention.yml"
    path.write_text(text.replace(old, new))
    with pytest.raises(PolicyError):
        retention_policy.load(path)
