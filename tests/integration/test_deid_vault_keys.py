"""Key rotation and shredding of the vault on a real PostgreSQL, also with writers at work and after a crash half-way."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
import sqlalchemy as sa

from medbill.deid import vault as vaults
from medbill.deid.vault import Rotation, Vault
from medbill.errors import StoreUnavailable, TokenRefused
from medbill.store.keys import LocalKeyring

pytestmark = pytest.mark.slow


def _all(vault: Vault, values: list[str], kind: str = "MEMBER") -> dict[str, str]:
    return dict(zip(values, vault.tokenize(kind, pa.array(values)).to_pylist(), strict=True))


def _rows(database: sa.Engine, query: str) -> list[tuple[object, ...]]:
    with database.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]


def _keys_held(database: sa.Engine) -> set[tuple[object, ...]]:
    query = (
        "SELECT purpose, version FROM medbill.data_keys WHERE practice = 'lakeside' AND purpose IN ('vault', 'index')"
    )
    return set(_rows(database, query))


def test_rotation_changes_every_stored_byte_and_no_token(
    vault: Vault, database: sa.Engine, keys: LocalKeyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vaults, "_ROTATED", 7)
    values = [f"member {n}" for n in range(40)]
    tokens = _all(vault, values)
    other = _all(Vault(database, keys, "hillside"), values)
    stored = "SELECT token, blind_index, ciphertext FROM medbill.vault_tokens WHERE practice = 'lakeside'"
    before = {row[0]: row[1:] for row in _rows(database, stored)}
    assert vault.rotate() == Rotation(values=40, left=0)
    after = {row[0]: row[1:] for row in _rows(database, stored)}
    assert before.keys() == after.keys()
    assert not {bytes(x) for row in before.values() for x in row} & {bytes(x) for row in after.values() for x in row}
    assert _keys_held(database) == {("vault", 2), ("index", 2)}
    for reader in (vault, Vault(database, keys, "lakeside")):
        assert _all(reader, values) == tokens
        assert reader.reveal(list(tokens.values())) == {token: value for value, token in tokens.items()}
    assert _all(Vault(database, keys, "hillside"), values) == other
    assert vault.rotate() == Rotation(values=40, left=0)
    assert _all(vault, values) == tokens


def test_values_stored_before_values_had_secrets_are_read_and_get_one_by_rotation(
    vault: Vault, database: sa.Engine
) -> None:
    tokens = _all(vault, ["A-1", "A-2"])
    with database.begin() as connection:
        connection.execute(sa.text("DELETE FROM medbill.vault_secrets"))
        for value, token in tokens.items():
            aad = vaults._parts("medbill.vault.v1", "lakeside", "MEMBER", token, "1")
            connection.execute(
                sa.text("UPDATE medbill.vault_tokens SET own_secret = false, ciphertext = :c WHERE token = :t"),
                {"c": vault._cipher(1).encrypt(value.encode(), [aad]), "t": token},
            )
    assert vault.reveal(list(tokens.values())) == {token: value for value, token in tokens.items()}
    assert vault.rotate() == Rotation(values=2, left=0)
    assert _rows(database, "SELECT count(*) FROM medbill.vault_secrets") == [(2,)]
    assert vault.reveal(list(tokens.values())) == {token: value for value, token in tokens.items()}


@pytest.mark.parametrize("stop_at", ["rotate_index", "epoch", "batch 1", "batch 3", "retire"])
def test_a_rotation_broken_off_anywhere_loses_nothing_and_is_taken_up(
    vault: Vault, database: sa.Engine, keys: LocalKeyring, monkeypatch: pytest.MonkeyPatch, stop_at: str
) -> None:
    monkeypatch.setattr(vaults, "_ROTATED", 5)
    values = [f"member {n}" for n in range(20)]
    tokens = _all(vault, values)

    class Killed(BaseException):
        pass

    broken = Vault(database, keys, "lakeside")
    calls = iter(range(1, 100))

    def stop(*_: object) -> None:
        raise Killed

    if stop_at == "rotate_index":
        real = broken._envelopes.rotate

        def rotate(practice: str, purpose: str) -> int:
            return stop() if purpose == "index" else real(practice, purpose)  # type: ignore[func-returns-value]

        monkeypatch.setattr(broken._envelopes, "rotate", rotate)
    elif stop_at == "epoch":
        monkeypatch.setattr(broken, "_next_epoch", stop)
    elif stop_at == "retire":
        monkeypatch.setattr(broken, "_retire", stop)
    else:
        some, last = broken._rotate_some, int(stop_at[-1])
        monkeypatch.setattr(broken, "_rotate_some", lambda g, a: some(g, a) if next(calls) < last else stop())
    with pytest.raises(Killed):
        broken.rotate()
    for reader in (vault, Vault(database, keys, "lakeside")):
        assert _all(reader, values) == tokens
        assert reader.reveal(list(tokens.values())) == {token: value for value, token in tokens.items()}
    more = _all(vault, ["new 1", *values[:3]])
    assert {k: v for k, v in more.items() if k in tokens} == {k: tokens[k] for k in values[:3]}
    assert vault.rotate().left == 0
    assert len(_keys_held(database)) == 2
    assert _all(Vault(database, keys, "lakeside"), [*values, "new 1"]) == {**tokens, **more}
    assert vault.reveal(list(more.values())) == {token: value for value, token in more.items()}


def test_rotation_and_shredding_under_concurrent_writers_keep_one_token_per_value(
    database: sa.Engine, keys: LocalKeyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vaults, "_ROTATED", 20)
    engine = sa.create_engine(database.url, pool_size=12, hide_parameters=True)
    stop = threading.Event()

    def write(worker: int) -> list[dict[str, str]]:
        mine = Vault(engine, keys, "lakeside")
        out = []
        for round_ in range(12):
            values = [f"v{n}" for n in range(round_ * 10, round_ * 10 + 40)]
            out.append(_all(mine, values if worker % 2 else values[::-1]))
        return out

    def rotate() -> int:
        mine, turns = Vault(engine, keys, "lakeside"), 0
        while not stop.is_set() or turns < 2:
            assert mine.rotate().left == 0
            turns += 1
        return turns

    with ThreadPoolExecutor(9) as pool:
        turning = pool.submit(rotate)
        try:
            written = [f.result(120) for f in [pool.submit(write, n) for n in range(8)]]
        finally:
            stop.set()
        assert turning.result(120) >= 2
    seen: dict[str, set[str]] = {}
    for tokens in (t for worker in written for t in worker):
        for value, token in tokens.items():
            seen.setdefault(value, set()).add(token)
    assert all(len(tokens) == 1 for tokens in seen.values())
    assert _rows(engine, "SELECT count(*) FROM medbill.vault_tokens") == [(len(seen),)]
    last = Vault(engine, keys, "lakeside")
    assert last.reveal([t for s in seen.values() for t in s]) == {t: v for v, s in seen.items() for t in s}
    engine.dispose()


def test_an_altered_value_keeps_its_key_and_stops_nothing_else(vault: Vault, database: sa.Engine) -> None:
    tokens = _all(vault, ["one", "two", "three"])
    with database.begin() as connection:
        connection.execute(
            sa.text("UPDATE medbill.vault_tokens SET ciphertext = 'x' WHERE token = :t"), {"t": tokens["two"]}
        )
    assert vault.rotate() == Rotation(values=2, left=1)
    assert _keys_held(database) == {("vault", 1), ("vault", 2), ("index", 1), ("index", 2)}
    assert vault.reveal([tokens["one"], tokens["three"]]) == {tokens["one"]: "one", tokens["three"]: "three"}
    assert _all(vault, ["one", "two", "three"]) == tokens


def test_a_shredded_value_is_gone_and_its_token_dead(vault: Vault, database: sa.Engine, keys: LocalKeyring) -> None:
    tokens = _all(vault, ["one", "two"])
    reader = Vault(database, keys, "lakeside")
    assert _all(reader, ["one"]) == {"one": tokens["one"]}  # and is in its cache
    backup = _rows(database, "SELECT token, ciphertext, key_version FROM medbill.vault_tokens")
    assert vault.shred([tokens["one"], tokens["one"]]) == 1
    assert vault.shred([tokens["one"]]) == 0
    with pytest.raises(TokenRefused) as refused:
        reader.reveal([tokens["one"]])
    assert refused.value.code == "TOKEN_SHREDDED"
    assert reader.reveal([tokens["two"]]) == {tokens["two"]: "two"}
    again = _all(reader, ["one"])["one"]
    assert again != tokens["one"]
    assert reader.reveal([again]) == {again: "one"}
    # a copy of the vault's table from before, put back, does not bring the value back
    with database.begin() as connection:
        for token, ciphertext, version in backup:
            connection.execute(
                sa.text(
                    "UPDATE medbill.vault_tokens SET ciphertext = :c, key_version = :v, shredded_at = NULL WHERE token = :t"
                ),
                {"c": ciphertext, "v": version, "t": token},
            )
    with pytest.raises(TokenRefused) as refused:
        Vault(database, keys, "lakeside").reveal([tokens["one"]])
    assert refused.value.code == "TOKEN_SHREDDED"


def test_another_practice_cannot_shred(vault: Vault, database: sa.Engine, keys: LocalKeyring) -> None:
    token = _all(vault, ["one"])["one"]
    assert Vault(database, keys, "hillside").shred([token]) == 0
    assert vault.reveal([token]) == {token: "one"}


def test_the_database_down_rotates_and_shreds_nothing(keys: LocalKeyring) -> None:
    down = Vault(sa.create_engine("postgresql+psycopg2://postgres@127.0.0.1:1/x?connect_timeout=1"), keys, "lakeside")
    with pytest.raises(StoreUnavailable):
        down.rotate()
    with pytest.raises(StoreUnavailable):
        down.shred(vaults._fresh_tokens("CLAIM", 1))
