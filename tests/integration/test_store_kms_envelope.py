"""Envelopes and the vault over AWS KMS (tests/kms_strict.py) and a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from medbill.deid.vault import Vault
from medbill.errors import KeyUnavailable, MedbillError, TamperedData
from medbill.store.envelope import Envelopes, Rewrapped
from medbill.store.keys import LocalKeyring
from medbill.store.kms import KmsKeys, parse

pytestmark = pytest.mark.slow


def stored(database: sa.Engine, query: str) -> Any:
    with database.connect() as connection:
        return connection.scalar(sa.text(query))


def test_round_trip_and_context(database: sa.Engine, kms: Any) -> None:
    key = kms.key()
    sealed = Envelopes(database, KmsKeys(key)).seal("lakeside", "landing", "file:1", b"SMITH*JOHN")
    again = Envelopes(database, KmsKeys(key))
    assert again.open("lakeside", "landing", "file:1", sealed) == b"SMITH*JOHN"
    with pytest.raises(TamperedData):
        again.open("lakeside", "landing", "file:2", sealed)
    asked = len(kms.calls)
    assert again.open("lakeside", "landing", "file:1", sealed) == b"SMITH*JOHN"
    assert len(kms.calls) == asked  # a data key is unwrapped once
    assert stored(database, "SELECT master_key FROM medbill.data_keys") == key


def test_swapped_rows_open_nothing(database: sa.Engine, kms: Any) -> None:
    keys = KmsKeys(kms.key())
    envelopes = Envelopes(database, keys)
    sealed = {who: envelopes.seal(who, "landing", "c", b"data") for who in ("lakeside", "hillside")}
    with database.begin() as connection:
        connection.execute(
            sa.text(
                "UPDATE medbill.data_keys a SET wrapped = b.wrapped FROM medbill.data_keys b"
                " WHERE a.practice <> b.practice"
            )
        )
    for who, data in sealed.items():
        with pytest.raises(TamperedData):
            Envelopes(database, keys).open(who, "landing", "c", data)


@pytest.mark.parametrize("how", ["disabled", "condemned", "denied", "away"])
def test_sealed_stays_sealed_while_the_key_cannot_be_used(database: sa.Engine, kms: Any, how: str) -> None:
    key = kms.key()
    keys = KmsKeys(key)
    sealed = Envelopes(database, keys).seal("lakeside", "landing", "c", b"data")
    tokens = Vault(database, keys, "lakeside").tokenize("PERSON", pa.array(["Quillsworth"])).to_pylist()
    before = stored(database, "SELECT count(*) FROM medbill.data_keys")
    spoil: dict[str, Callable[[], object]] = {
        "disabled": lambda: kms.disable(key),
        "condemned": lambda: kms.condemn(key),
        "denied": lambda: setattr(kms, "refuse", "AccessDeniedException"),
        "away": lambda: setattr(kms, "down", True),
    }
    spoil[how]()
    for use in (
        lambda: Envelopes(database, keys).open("lakeside", "landing", "c", sealed),
        lambda: Envelopes(database, keys).seal("lakeside", "landing", "c", b"more"),
        lambda: Envelopes(database, keys).seal("hillside", "landing", "c", b"first of another practice"),
        lambda: Envelopes(database, keys).rewrap(),
        lambda: Vault(database, keys, "lakeside").tokenize("PERSON", pa.array(["Ostrander"])),
        lambda: Vault(database, keys, "lakeside").reveal(tokens),
    ):
        with pytest.raises(KeyUnavailable) as caught:
            use()
        assert "Quillsworth" not in str(caught.value) and "lakeside" not in str(caught.value)
    assert stored(database, "SELECT count(*) FROM medbill.data_keys") == before
    assert stored(database, "SELECT count(*) FROM medbill.vault_tokens") == 1
    if how == "condemned":
        kms.spare(key)
    kms.enable(key)
    kms.reset()
    assert Envelopes(database, keys).open("lakeside", "landing", "c", sealed) == b"data"
    assert Vault(database, keys, "lakeside").reveal(tokens) == {tokens[0]: "Quillsworth"}


def test_another_kms_key_or_a_keyring_opens_nothing_and_makes_no_second_master(
    database: sa.Engine, kms: Any, tmp_path: Path
) -> None:
    sealed = Envelopes(database, KmsKeys(kms.key())).seal("lakeside", "landing", "c", b"data")
    local = LocalKeyring(tmp_path / "keyring.json")
    for other in (KmsKeys(kms.key()), local):
        with pytest.raises(KeyUnavailable) as opening:
            Envelopes(database, other).open("lakeside", "landing", "c", sealed)
        with pytest.raises(KeyUnavailable) as sealing:
            Envelopes(database, other).seal("hillside", "landing", "c", b"data")
        assert {opening.value.code, sealing.value.code} == {"KEY_OTHER"}
    assert not (tmp_path / "keyring.json").exists()
    assert stored(database, "SELECT count(*) FROM medbill.data_keys") == 1


def test_move_to_a_new_kms_key_and_retire_the_old(database: sa.Engine, kms: Any) -> None:
    one, two = kms.key(), kms.key()
    first = Envelopes(database, KmsKeys(one))
    sealed = first.seal("lakeside", "landing", "c", b"data")
    kms.admin.rotate_key_on_demand(KeyId=one)
    first.rotate("lakeside", "landing")
    later = first.seal("lakeside", "landing", "c", b"later")
    assert Envelopes(database, parse(f"kms://{two}?former={one}")).rewrap() == Rewrapped(keys=2, left=0)
    assert {row.master_key for row in first.versions()} == {two}
    kms.condemn(one)
    after = Envelopes(database, KmsKeys(two))
    assert [after.open("lakeside", "landing", "c", data) for data in (sealed, later)] == [b"data", b"later"]


def test_a_rewrap_that_breaks_off_changes_nothing(database: sa.Engine, kms: Any) -> None:
    one, two = kms.key(), kms.key()
    first = Envelopes(database, KmsKeys(one))
    first.seal("lakeside", "landing", "c", b"data")
    kms.disable(two)
    with pytest.raises(KeyUnavailable):
        Envelopes(database, parse(f"kms://{two}?former={one}")).rewrap()
    assert {row.master_key for row in first.versions()} == {one}


def test_a_role_that_may_wrap_and_not_unwrap_overwrites_nothing(database: sa.Engine, kms: Any, tmp_path: Path) -> None:
    one, two, local = kms.key(), kms.key(), LocalKeyring(tmp_path / "keyring.json")
    first = Envelopes(database, KmsKeys(one))
    first.seal("lakeside", "landing", "c", b"data")
    kms.denied = {"Decrypt"}
    with pytest.raises(KeyUnavailable) as caught:
        Envelopes(database, parse(f"kms://{two}?former={one}")).rewrap()
    assert caught.value.code == "KEY_DENIED" and "ReEncrypt" in kms.calls
    assert {row.master_key for row in first.versions()} == {one}
    with pytest.raises(KeyUnavailable):
        KmsKeys(two).wrap(local.data_key({}, first=True).plaintext, {})


def test_a_damaged_row_stops_itself_not_the_rewrap(database: sa.Engine, kms: Any) -> None:
    envelopes = Envelopes(database, KmsKeys(kms.key()))
    sealed = envelopes.seal("lakeside", "landing", "c", b"data")
    envelopes.seal("hillside", "landing", "c", b"data")
    with database.begin() as connection:
        connection.execute(
            sa.text(
                "UPDATE medbill.data_keys SET wrapped = set_byte(wrapped, 80, get_byte(wrapped, 80) # 1)"
                " WHERE practice = 'hillside'"
            )
        )
    assert envelopes.rewrap() == Rewrapped(keys=1, left=1)
    assert (
        Envelopes(database, KmsKeys(envelopes.versions()[1].master_key)).open("lakeside", "landing", "c", sealed)
        == b"data"
    )


def test_sixteen_first_users_agree_on_one_key(database: sa.Engine, kms: Any) -> None:
    keys = KmsKeys(kms.key())
    with ThreadPoolExecutor(16) as pool:
        found = set(pool.map(lambda _: Envelopes(database, keys).data_key("lakeside", "landing"), range(16)))
    assert len(found) == 1
    assert stored(database, "SELECT count(*) FROM medbill.data_keys") == 1


def test_writers_go_on_while_keys_are_rewrapped(database: sa.Engine, kms: Any) -> None:
    one, two = kms.key(), kms.key()
    Envelopes(database, KmsKeys(one)).seal("practice0", "landing", "c", b"data")
    both = parse(f"kms://{two}?former={one}")

    def write(k: int) -> tuple[str, bytes]:
        who = f"practice{k}"
        return who, Envelopes(database, both).seal(who, "landing", "c", b"data")

    with ThreadPoolExecutor(8) as pool:
        rewraps = [pool.submit(Envelopes(database, both).rewrap) for _ in range(2)]
        sealed = list(pool.map(write, range(6)))
        assert all(done.result().left == 0 for done in rewraps)
    after = Envelopes(database, KmsKeys(two))
    assert all(after.open(who, "landing", "c", data) == b"data" for who, data in sealed)
    assert {row.master_key for row in after.versions()} == {two}


def test_vault_end_to_end(database: sa.Engine, kms: Any) -> None:
    keys = KmsKeys(kms.key())
    values = pa.array(["Quillsworth", "Ostrander", None, "quillsworth "])
    tokens = Vault(database, keys, "lakeside").tokenize("PERSON", values).to_pylist()
    assert tokens[0] == tokens[3] and tokens[2] is None
    assert Vault(database, keys, "lakeside").tokenize("PERSON", values).to_pylist() == tokens
    done = Vault(database, keys, "lakeside").rotate()
    assert (done.values, done.left) == (2, 0)
    assert Vault(database, keys, "lakeside").reveal(tokens[:2]) == dict(
        zip(tokens[:2], ["Quillsworth", "Ostrander"], strict=True)
    )
    with pytest.raises(MedbillError):
        Vault(database, keys, "hillside").reveal(tokens[:1])
