"""The local keyring: owner-only, versioned, bound to context."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from medbill.errors import KeyUnavailable, TamperedData
from medbill.store.keys import LocalKeyring

CONTEXT = {"practice": "lakeside", "purpose": "landing", "version": "1"}


def made_at(path: Path) -> LocalKeyring:
    """A keyring that is there: its first data key was made."""
    keyring = LocalKeyring(path)
    keyring.data_key(CONTEXT, first=True)
    return keyring


def test_round_trip_and_rights(tmp_path: Path) -> None:
    keyring = LocalKeyring(tmp_path / "sub" / "keyring.json")
    made = keyring.data_key(CONTEXT, first=True)
    assert LocalKeyring(tmp_path / "sub" / "keyring.json").unwrap(made.wrapped, CONTEXT) == made.plaintext
    assert (tmp_path / "sub" / "keyring.json").stat().st_mode & 0o777 == 0o600
    assert made.plaintext not in made.wrapped
    assert made.plaintext.hex() not in repr(made)
    assert repr(made.plaintext) not in repr(made)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_a_keyring_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "keyring.json"
    made_at(path)
    path.chmod(mode)
    with pytest.raises(KeyUnavailable, match="others"):
        LocalKeyring(path)


def test_another_context_does_not_unwrap(tmp_path: Path) -> None:
    keyring = made_at(tmp_path / "keyring.json")
    made = keyring.data_key(CONTEXT)
    with pytest.raises(TamperedData):
        keyring.unwrap(made.wrapped, {**CONTEXT, "practice": "hillside"})


def test_every_altered_or_missing_byte_is_noticed(tmp_path: Path) -> None:
    keyring = made_at(tmp_path / "keyring.json")
    wrapped = keyring.data_key(CONTEXT).wrapped
    for at in range(len(wrapped)):
        with pytest.raises((TamperedData, KeyUnavailable)):
            keyring.unwrap(wrapped[:at] + bytes([wrapped[at] ^ 1]) + wrapped[at + 1 :], CONTEXT)
        with pytest.raises((TamperedData, KeyUnavailable)):
            keyring.unwrap(wrapped[:at], CONTEXT)


def test_another_keyring_cannot_unwrap(tmp_path: Path) -> None:
    made = made_at(tmp_path / "a.json").data_key(CONTEXT)
    with pytest.raises(KeyUnavailable, match="lacks"):
        made_at(tmp_path / "b.json").unwrap(made.wrapped, CONTEXT)


def test_rotation_keeps_old_keys_readable_also_in_other_processes(tmp_path: Path) -> None:
    first, second = made_at(tmp_path / "k.json"), LocalKeyring(tmp_path / "k.json")
    old = first.data_key(CONTEXT)
    assert first.rotate().endswith("/2")
    new = first.data_key(CONTEXT)
    assert new.master_key != old.master_key
    assert second.data_key(CONTEXT).master_key == new.master_key  # also where the other process rotated
    assert second.unwrap(new.wrapped, CONTEXT) == new.plaintext
    assert first.unwrap(old.wrapped, CONTEXT) == old.plaintext
    again = first.rewrap(old.wrapped, CONTEXT)
    assert (again.plaintext, again.master_key) == (old.plaintext, first.current)


def test_eight_processes_starting_at_once_share_one_keyring(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        rings = list(pool.map(lambda _: made_at(tmp_path / "k.json"), range(8)))
    assert len({ring.current for ring in rings}) == 1
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda ring: ring.rotate(), rings))) == 8  # no rotation is lost
    assert len(json.loads((tmp_path / "k.json").read_text())["keys"]) == 9
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".k.json.") and p.suffix != ".lock"] == []


def test_a_missing_keyring_is_refused_and_not_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "keyring.json"
    wrapped = made_at(path).data_key(CONTEXT).wrapped
    path.unlink()
    keyring = LocalKeyring(path)
    for use in (
        lambda: keyring.unwrap(wrapped, CONTEXT),
        lambda: keyring.data_key(CONTEXT),
        lambda: keyring.rewrap(wrapped, CONTEXT),
        keyring.rotate,
        lambda: keyring.current,
    ):
        with pytest.raises(KeyUnavailable, match="restore it from backup"):
            use()
    assert not path.exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"format":1,"id":"x","current":1,"keys":{}}',
        '{"format":1,"id":"x","current":1,"keys":{"x/1":"AA=="}}',
    ],
)
def test_a_damaged_keyring_is_refused_and_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keyring.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(KeyUnavailable, match="damaged"):
        LocalKeyring(path)
    assert path.read_text() == text
