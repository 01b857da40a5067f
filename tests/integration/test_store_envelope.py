"""Envelope encryption with data keys in a real PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from medbill.errors import KeyUnavailable, StoreUnavailable, TamperedData
from medbill.store.envelope import Envelopes, Rewrapped
from medbill.store.keys import LocalKeyring

pytestmark = pytest.mark.slow


def test_round_trip_binds_practice_purpose_and_context(database: sa.Engine, keys: LocalKeyring) -> None:
    envelopes = Envelopes(database, keys)
    sealed = envelopes.seal("lakeside", "landing", "file:1", b"SMITH*JOHN")
    assert b"SMITH" not in sealed
    assert Envelopes(database, keys).open("lakeside", "landing", "file:1", sealed) == b"SMITH*JOHN"
    assert envelopes.seal("lakeside", "landing", "file:1", b"SMITH*JOHN") != sealed
    envelopes.seal("hillside", "landing", "file:1", b"")
    envelopes.seal("lakeside", "quarantine", "file:1", b"")
    for where in (
        ("hillside", "landing", "file:1"),
        ("lakeside", "quarantine", "file:1"),
        ("lakeside", "landing", "file:2"),
    ):
        with pytest.raises(TamperedData):
            envelopes.open(*where, sealed)


def test_every_altered_byte_and_every_truncation_is_noticed(database: sa.Engine, keys: LocalKeyring) -> None:
    envelopes = Envelopes(database, keys)
    sealed = envelopes.seal("lakeside", "landing", "c", b"data")
    for at in range(len(sealed)):
        with pytest.raises((TamperedData, KeyUnavailable)):
            envelopes.open("lakeside", "landing", "c", sealed[:at] + bytes([sealed[at] ^ 0x80]) + sealed[at + 1 :])
        with pytest.raises(TamperedData):
            envelopes.open("lakeside", "landing", "c", sealed[:at])


def test_the_wrong_keyring_opens_nothing_and_makes_no_second_key(
    database: sa.Engine, keys: LocalKeyring, tmp_path: Path
) -> None:
    sealed = Envelopes(database, keys).seal("lakeside", "landing", "c", b"data")
    stranger = LocalKeyring(tmp_path / "other.json")
    stranger.data_key({}, first=True)
    for other in (Envelopes(database, stranger), Envelopes(database, LocalKeyring(tmp_path / "missing.json"))):
        with pytest.raises(KeyUnavailable):
            other.open("lakeside", "landing", "c", sealed)
        for practice in ("lakeside", "hillside"):  # hillside has no key yet, and gets none from a stranger
            with pytest.raises(KeyUnavailable):
                other.seal(practice, "landing", "c", b"data")
    assert not (tmp_path / "missing.json").exists()
    with database.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM medbill.data_keys")) == 1


def test_an_altered_wrapped_key_is_noticed(database: sa.Engine, keys: LocalKeyring) -> None:
    sealed = Envelopes(database, keys).seal("lakeside", "landing", "c", b"data")
    with database.begin() as connection:
        connection.execute(
            sa.text("UPDATE medbill.data_keys SET wrapped = set_byte(wrapped, 60, get_byte(wrapped, 60) # 1)")
        )
    with pytest.raises(TamperedData):
        Envelopes(database, keys).open("lakeside", "landing", "c", sealed)


def test_rotation_of_data_and_master_keys_keeps_everything_readable(database: sa.Engine, keys: LocalKeyring) -> None:
    envelopes = Envelopes(database, keys)
    one = envelopes.seal("lakeside", "landing", "c", b"one")
    assert envelopes.rotate("lakeside", "landing") == 2
    two = envelopes.seal("lakeside", "landing", "c", b"two")
    keys.rotate()
    assert envelopes.rewrap() == Rewrapped(keys=2, left=0)
    with database.connect() as connection:
        used = connection.scalars(sa.text("SELECT DISTINCT master_key FROM medbill.data_keys")).all()
    assert used == [keys.current]
    fresh = Envelopes(database, keys)
    assert [fresh.open("lakeside", "landing", "c", sealed) for sealed in (one, two)] == [b"one", b"two"]


def test_sixteen_first_users_agree_on_one_key(database: sa.Engine, keys: LocalKeyring) -> None:
    with ThreadPoolExecutor(16) as pool:
        found = set(pool.map(lambda _: Envelopes(database, keys).data_key("lakeside", "landing"), range(16)))
    assert len(found) == 1


def test_database_down_is_a_typed_error(keys: LocalKeyring) -> None:
    down = sa.create_engine("postgresql+psycopg2://postgres@127.0.0.1:1/x?connect_timeout=2")
    with pytest.raises(StoreUnavailable):
        Envelopes(down, keys).seal("lakeside", "landing", "c", b"data")


def test_a_lost_keyring_is_not_replaced_while_keys_are_wrapped_under_it(database: sa.Engine, tmp_path: Path) -> None:
    path = tmp_path / "keyring.json"
    Envelopes(database, LocalKeyring(path)).seal("lakeside", "landing", "c", b"data")
    path.unlink()
    with pytest.raises(KeyUnavailable, match="restore it from backup"):
        Envelopes(database, LocalKeyring(path)).seal("hillside", "landing", "c", b"data")
    assert not path.exists()


def test_eight_first_starts_at_once_make_one_keyring_that_opens_everything(database: sa.Engine, tmp_path: Path) -> None:
    path = tmp_path / "keyring.json"

    def start(k: int) -> tuple[str, bytes]:
        practice = f"practice{k % 4}"
        return practice, Envelopes(database, LocalKeyring(path)).seal(practice, "landing", "c", b"data")

    with ThreadPoolExecutor(8) as pool:
        sealed = list(pool.map(start, range(8)))
    after = Envelopes(database, LocalKeyring(path))
    assert [after.open(practice, "landing", "c", data) for practice, data in sealed] == [b"data"] * 8
    with database.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(DISTINCT master_key) FROM medbill.data_keys")) == 1
