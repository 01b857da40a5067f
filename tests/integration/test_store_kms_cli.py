"""`medbill keys` over both key services: what it shows, what it moves, what it leaves in the ledger."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner, Result

from medbill.cli import app
from medbill.errors import BadInput, DecisionRefused, KeyUnavailable
from medbill.settings import Settings
from medbill.stack.environment import medbill_env
from medbill.store.envelope import Envelopes
from medbill.store.keys import LocalKeyring, open_keys

pytestmark = pytest.mark.slow
ACTOR = ["--actor", "Finn Aro"]


@pytest.fixture
def home(database: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDBILL_DATABASE_URL", database.url.render_as_string(hide_password=False))
    monkeypatch.setenv("MEDBILL_HOME", str(tmp_path))
    for name in ("MEDBILL_KEYRING", "MEDBILL_ACTOR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def keys(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["keys", *arguments])


def ledger(database: sa.Engine) -> list[str]:
    """The rows' canonical JSON, oldest first."""
    with database.connect() as connection:
        query = "SELECT convert_from(payload, 'UTF8') FROM audit.rows ORDER BY recorded_at, seq"
        return list(connection.scalars(sa.text(query)))


def outcomes(database: sa.Engine) -> list[str]:
    return [json.loads(row)["outcome"] for row in ledger(database)]


def test_status_and_rotation_of_a_local_keyring(home: Path, database: sa.Engine) -> None:
    envelopes = Envelopes(database, LocalKeyring(home / "keyring.json"))
    sealed = envelopes.seal("lakeside", "landing", "c", b"one")
    envelopes.rotate("lakeside", "landing")
    envelopes.seal("hillside", "quarantine", "c", b"two")
    first = LocalKeyring(home / "keyring.json").current
    shown = json.loads(keys("status", "--json", "--check").output)
    assert shown["current_master_key"] == first
    assert [(k["practice"], k["purpose"], k["version"], k["master_key"], k["opens"]) for k in shown["data_keys"]] == [
        ("hillside", "quarantine", 1, first, "yes"),
        ("lakeside", "landing", 1, first, "yes"),
        ("lakeside", "landing", 2, first, "yes"),
    ]
    done = keys("rotate", *ACTOR)
    second = LocalKeyring(home / "keyring.json").current
    assert done.exit_code == 0 and "3 data keys" in done.output and second.endswith("/2")
    assert {k["master_key"] for k in json.loads(keys("status", "--json").output)["data_keys"]} == {second}
    assert Envelopes(database, LocalKeyring(home / "keyring.json")).open("lakeside", "landing", "c", sealed) == b"one"
    text = keys("status")
    assert f"wrapping now: {second}" in text.output and "quarantine" in text.output
    for line in json.loads((home / "keyring.json").read_text())["keys"].values():
        for printed in (text.output, done.output, *ledger(database)):
            assert line not in printed and base64.b64decode(line).hex() not in printed
    assert outcomes(database) == ["intent", "success"]


def test_rotation_needs_a_person_and_the_ledger(
    home: Path, database: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    Envelopes(database, LocalKeyring(home / "keyring.json")).seal("lakeside", "landing", "c", b"one")
    before = (home / "keyring.json").read_bytes()
    assert isinstance(keys("rotate", "--actor", "airflow").exception, DecisionRefused)
    monkeypatch.setenv("MEDBILL_DATABASE_URL", "postgresql+psycopg2://postgres@127.0.0.1:1/x?connect_timeout=2")
    assert keys("rotate", *ACTOR).exit_code == 1
    assert (home / "keyring.json").read_bytes() == before


def test_a_lost_keyring_is_shown_and_not_made_anew(home: Path, database: sa.Engine) -> None:
    Envelopes(database, LocalKeyring(home / "keyring.json")).seal("lakeside", "landing", "c", b"one")
    (home / "keyring.json").unlink()
    shown = keys("status", "--check")
    assert shown.exit_code == 1 and "the keyring is missing" in shown.output and "KEY_UNAVAILABLE" in shown.output
    assert isinstance(keys("rotate", *ACTOR).exception, KeyUnavailable)
    assert not (home / "keyring.json").exists()
    assert outcomes(database) == ["intent", "failure"]


def test_create_makes_a_keyring_once(home: Path, database: sa.Engine) -> None:
    path = home / "made" / "keyring.json"
    made = keys("create", str(path))
    assert made.exit_code == 0 and path.stat().st_mode & 0o777 == 0o600
    assert LocalKeyring(path).current in made.output
    before = path.read_bytes()
    assert isinstance(keys("create", str(path)).exception, BadInput)
    assert path.read_bytes() == before
    assert Envelopes(database, LocalKeyring(path)).seal("lakeside", "landing", "c", b"one")


def test_status_and_move_between_kms_keys(
    home: Path, database: sa.Engine, kms: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = kms.key(), kms.key()
    address = f"kms://{one}"
    monkeypatch.setenv("MEDBILL_KEYRING", address)
    settings = Settings.from_env()
    assert medbill_env(settings)["MEDBILL_KEYRING"] == address  # the stack's processes get it unchanged
    sealed = Envelopes(database, open_keys(settings)).seal("lakeside", "landing", "c", b"one")
    kms.calls.clear()
    assert one in keys("status").output and kms.calls == []
    kms.disable(one)
    checked = keys("status", "--check")
    assert checked.exit_code == 1 and "KEY_DISABLED" in checked.output
    kms.enable(one)
    monkeypatch.setenv("MEDBILL_KEYRING", f"kms://{two}?former={one}")
    done = keys("rotate", *ACTOR)
    assert done.exit_code == 0 and "1 data keys wrapped anew" in done.output
    assert not any(call.startswith(("Create", "Rotate")) for call in kms.calls)
    kms.condemn(one)
    monkeypatch.setenv("MEDBILL_KEYRING", f"kms://{two}")
    assert keys("status", "--check").exit_code == 0
    assert Envelopes(database, open_keys(Settings.from_env())).open("lakeside", "landing", "c", sealed) == b"one"
    assert outcomes(database) == ["intent", "success"]
    assert json.loads(ledger(database)[-1])["details"] == {"keys": 1, "left": 0, "master_key": two}
    assert not (home / "keyring.json").exists()


def test_a_damaged_data_key_is_counted_and_named(home: Path, database: sa.Engine) -> None:
    envelopes = Envelopes(database, LocalKeyring(home / "keyring.json"))
    for who in ("lakeside", "hillside"):
        envelopes.seal(who, "landing", "c", b"one")
    with database.begin() as connection:
        connection.execute(
            sa.text(
                "UPDATE medbill.data_keys SET wrapped = set_byte(wrapped, 60, get_byte(wrapped, 60) # 1)"
                " WHERE practice = 'hillside'"
            )
        )
    done = keys("rotate", *ACTOR)
    assert done.exit_code == 1 and "1 data keys wrapped anew" in done.output and "1 are damaged" in done.output
    shown = {k["practice"]: k["opens"] for k in json.loads(keys("status", "--check", "--json").output)["data_keys"]}
    assert shown == {"hillside": "TAMPERED_DATA", "lakeside": "yes"}


@pytest.mark.parametrize("to", ["kms", "file"])
def test_a_move_between_a_keyring_and_kms(
    home: Path, database: sa.Engine, kms: Any, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    keys("create", str(home / "own.json"))
    old, new = f"kms://{kms.key()}", str(home / "own.json")
    if to == "kms":
        old, new = new, old
    monkeypatch.setenv("MEDBILL_KEYRING", old)
    sealed = Envelopes(database, open_keys(Settings.from_env())).seal("lakeside", "landing", "c", b"one")
    monkeypatch.setenv("MEDBILL_KEYRING", new)
    alone = keys("rotate", *ACTOR).exception
    assert isinstance(alone, KeyUnavailable) and alone.code == "KEY_OTHER"
    for _ in range(2):  # again changes nothing: what moved is not asked of the old service
        done = keys("rotate", *ACTOR, "--former", old)
        assert done.exit_code == 0 and "1 data keys wrapped anew" in done.output
    (home / "own.json").unlink() if to == "kms" else setattr(kms, "down", True)
    assert keys("status", "--check").exit_code == 0
    assert Envelopes(database, open_keys(Settings.from_env())).open("lakeside", "landing", "c", sealed) == b"one"
    monkeypatch.setenv("MEDBILL_KEYRING", old)
    kms.reset()
    with pytest.raises(KeyUnavailable):  # a process that was left on the old service makes no second series
        Envelopes(database, open_keys(Settings.from_env())).seal("hillside", "landing", "c", b"one")


def test_a_move_with_the_wrong_former_service_changes_nothing(home: Path, database: sa.Engine) -> None:
    Envelopes(database, LocalKeyring(home / "keyring.json")).seal("lakeside", "landing", "c", b"one")
    for name in ("one.json", "two.json"):
        keys("create", str(home / name))
    before = [key.master_key for key in Envelopes(database, LocalKeyring(home / "one.json")).versions()]
    done = CliRunner(env={"MEDBILL_KEYRING": str(home / "one.json")}).invoke(
        app, ["keys", "rotate", *ACTOR, "--former", str(home / "two.json")]
    )
    assert isinstance(done.exception, KeyUnavailable) and done.exception.code == "KEY_OTHER"
    after = Envelopes(database, LocalKeyring(home / "one.json")).versions()
    assert [key.master_key for key in after] == before
