"""The key that signs checkpoints is handed over: by the old one and the new one together, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import rfc8785
import sqlalchemy as sa
from typer.testing import CliRunner

from medbill.audit import checkpoint as cp
from medbill.audit import find
from medbill.audit import seal as sealing
from medbill.audit.anchor import Anchor
from medbill.audit.cli import app
from medbill.audit.ledger import Event, Ledger, RunContext
from medbill.audit.roles import Roles
from medbill.audit.seal import rotate, seal
from medbill.audit.signing import Signer, load_public, public_path, successor_path
from medbill.audit.verify import verify
from medbill.audit.worm import worm
from medbill.errors import DecisionRefused, KeyUnavailable, TamperedData
from medbill.settings import Settings

pytestmark = pytest.mark.slow


class World:
    """A ledger with one checkpoint, its signer's public half kept apart, as on the verifier's machine."""

    def __init__(self, db: sa.Engine, folder: Path) -> None:
        self.db, self.key, self.folder = db, folder / "audit_signing.pem", folder / "checkpoints"
        self.store = worm(str(self.folder))
        self.write()
        self.seal()
        self.first = load_public(public_path(self.key))

    def write(self) -> None:
        Ledger(self.db, RunContext()).record(Event("read", "landing.read", "payment", "lakeside", "x"))

    def seal(self) -> cp.Checkpoint:
        return seal(self.db, self.store, self.key)

    def rotate(self) -> cp.Checkpoint:
        return rotate(self.db, self.store, self.key)

    def codes(self, pinned: bytes | None) -> set[str]:
        return {problem.code for problem in verify(self.db, anchor=Anchor(self.store, pinned)).problems}

    def replace(self, made: cp.Checkpoint) -> None:
        """Put a checkpoint into storage in the place of another, and take away those behind it, copies and all."""
        for path in sorted(self.folder.iterdir()):
            if path.name >= made.name:
                path.unlink()
        with self.db.begin() as connection:
            connection.exec_driver_sql(
                f"ALTER TABLE audit.checkpoints DISABLE TRIGGER ALL; DELETE FROM audit.checkpoints WHERE number >= {made.number};"
                "ALTER TABLE audit.checkpoints ENABLE ALWAYS TRIGGER append_only"
            )
        assert self.store.put_new(made.name, made.content)


@pytest.fixture
def world(database: sa.Engine, tmp_path: Path) -> World:
    return World(database, tmp_path)


def test_the_declared_successor_is_accepted_whichever_key_is_pinned(world: World) -> None:
    old = Signer.load(world.key, first=False)
    made = world.rotate()
    new = Signer.load(world.key, first=False)
    assert (made.signer, made.successor) == (old.public, new.public)
    assert old.public != new.public
    world.write()
    assert world.seal().signer == new.public
    again = world.rotate()
    world.write()
    world.seal()
    third = load_public(public_path(world.key))
    assert again.successor == third
    for pinned in (None, old.public, new.public, third):
        assert world.codes(pinned) == set()
    assert world.key.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in world.key.parent.glob("audit_signing*")) == [
        "audit_signing.pem",
        "audit_signing.pub",
    ]


def test_another_signer_is_refused_before_and_after_a_rotation(world: World, tmp_path: Path) -> None:
    old = Signer.load(world.key, first=False)
    first, handed = cp.parse(world.store.copies()[0].content), world.rotate()
    stranger = Signer.load(tmp_path / "stranger.pem", first=True)
    for signer in (stranger, old):  # the old key has nothing to say any more either
        world.replace(cp.make(handed, handed.sealed_at, handed.chains, signer))
        for pinned in (None, world.first, handed.successor):
            assert world.codes(pinned) == {"SIGNER_CHANGED"}
        with pytest.raises(KeyUnavailable) as caught:
            world.seal()
        assert caught.value.code == "SIGNER_CHANGED"
    # without the handing over, the key that took over is a stranger too
    new = Signer.load(world.key, first=False)
    world.replace(cp.make(first, handed.sealed_at, handed.chains, new))
    for pinned in (None, world.first, new.public):
        assert world.codes(pinned) == {"SIGNER_CHANGED"}


def test_a_history_of_a_stranger_is_not_that_of_the_pinned_successor(world: World, tmp_path: Path) -> None:
    """Whoever rewrites everything cannot name the pinned key: it would have to sign that it takes over from the stranger."""
    handed = world.rotate()
    pinned = handed.successor
    stranger = Signer.load(tmp_path / "stranger.pem", first=True)
    forged = cp.make(None, handed.sealed_at, handed.chains, stranger)
    body = json.loads(forged.content.split(b"\n")[0])
    body["successor"] = json.loads(handed.content.split(b"\n")[0])["successor"]
    line = rfc8785.dumps(body)
    signature = stranger.sign(b"medbill.audit.checkpoint.v1\n" + line).hex().encode()
    with pytest.raises(TamperedData):
        cp.parse(line + b"\n" + signature + b"\n")
    world.replace(forged)
    assert world.codes(pinned) == {"SIGNER_CHANGED"}


def test_a_rotation_that_died_before_the_key_was_in_place_is_finished(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(_: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(sealing, "take_over", dies)
        with pytest.raises(KeyboardInterrupt):
            world.rotate()
    assert successor_path(world.key).exists()
    made = world.seal()
    assert made.number == 3
    assert made.signer == load_public(public_path(world.key)) != world.first
    assert not successor_path(world.key).exists()
    assert world.codes(world.first) == set()


def test_a_rotation_that_died_before_the_checkpoint_changes_nothing(world: World) -> None:
    Signer.load(successor_path(world.key), first=True)  # made, and not named by any checkpoint
    assert world.seal().signer == world.first
    handed = world.rotate()
    assert handed.successor == world.seal().signer
    assert world.codes(world.first) == set()


def test_a_lost_successor_stops_the_sealing(world: World) -> None:
    old = world.key.read_bytes()
    world.rotate()
    world.key.write_bytes(old)
    with pytest.raises(KeyUnavailable) as caught:
        world.seal()
    assert caught.value.code == "SIGNER_CHANGED"


def test_the_command_needs_a_person_and_leaves_its_rows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        "MEDBILL_DATABASE_URL": world.db.url.render_as_string(hide_password=False),
        "MEDBILL_HOME": str(world.key.parent),
        "MEDBILL_AUDIT_KEY": str(world.key),
        "MEDBILL_CHECKPOINTS": str(world.folder),
        "MEDBILL_ACTOR": "medbill",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    refused = CliRunner().invoke(app, ["rotate-signing-key"])
    assert isinstance(refused.exception, DecisionRefused)
    assert world.seal().signer == world.first
    keeper = next(
        person.login
        for person in Roles.load(Settings.from_env().policies).people
        if any("keys" in role.commands for role in person.roles)
    )
    monkeypatch.setenv("MEDBILL_ACTOR", keeper)
    done = CliRunner().invoke(app, ["rotate-signing-key"])
    assert done.exit_code == 0, done.output
    now = load_public(public_path(world.key))
    assert now != world.first
    assert now.hex() in done.output
    assert world.seal().signer == now
    [told] = find.newest(world.db, find.Search(kind="audit.rotate_signing_key", outcome="success"), 9)
    details = json.loads(told["payload"])["details"]
    assert (details["former"], details["successor"], told["on_behalf_of"]) == (world.first.hex(), now.hex(), keeper)
    assert CliRunner().invoke(app, ["verify"]).exit_code == 0
