"""The vault on a real PostgreSQL: one token per value whoever asks, and no way back but the right one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa

from medbill.deid import vault as vaults
from medbill.deid.vault import Vault, is_token, token_kind
from medbill.errors import KeyUnavailable, StoreUnavailable, TamperedData, TokenRefused
from medbill.store.envelope import Envelopes
from medbill.store.keys import LocalKeyring

pytestmark = pytest.mark.slow


def _one(vault: Vault, kind: str, value: str) -> str:
    token = vault.tokenize(kind, pa.array([value]))[0].as_py()
    assert isinstance(token, str)
    return token


def test_one_token_per_value_kind_and_practice(vault: Vault, database: sa.Engine, keys: LocalKeyring) -> None:
    tokens = vault.tokenize("PERSON", pa.chunked_array([["Ann", None, "Bob"], ["Ann", " ", ""]])).to_pylist()
    assert tokens[0] == tokens[3] != tokens[2]
    assert tokens[1] is tokens[4] is tokens[5] is None
    assert is_token(tokens[0]) and token_kind(tokens[0]) == "PERSON"
    assert vault.tokenize("PERSON", pa.array(["Ann"])).to_pylist() == [tokens[0]]
    assert Vault(database, keys, "lakeside").tokenize("PERSON", pa.array(["Ann"])).to_pylist() == [tokens[0]]
    assert _one(vault, "MEMBER", "Ann") != tokens[0]
    assert _one(Vault(database, keys, "hillside"), "PERSON", "Ann") != tokens[0]


def test_spellings_of_one_value_share_a_token_and_reveal_the_first(vault: Vault) -> None:
    token = _one(vault, "PERSON", "José  Núñez")
    for spelling in ("JOSÉ NÚÑEZ", "Jose\u0301 Nu\u0301n\u0303ez", " josé núñez\t"):
        assert _one(vault, "PERSON", spelling) == token
    assert _one(vault, "PERSON", "Jose Nunez") != token
    assert vault.reveal([token]) == {token: "José  Núñez"}


def test_nothing_in_the_database_shows_the_value_and_the_token_is_not_made_from_it(
    database: sa.Engine, keys: LocalKeyring, tmp_path: Path
) -> None:
    first = _one(Vault(database, keys, "lakeside"), "PERSON", "Zebrowski")
    with database.begin() as connection:
        row = connection.execute(
            sa.text("SELECT vault_tokens::text, ciphertext, blind_index FROM medbill.vault_tokens")
        ).one()
        assert "zebrowski" not in row[0].lower()
        assert b"zebrowski" not in bytes(row[1]).lower() + bytes(row[2]).lower()
        connection.execute(sa.text("DELETE FROM medbill.vault_tokens; DELETE FROM medbill.data_keys"))
    assert _one(Vault(database, keys, "lakeside"), "PERSON", "Zebrowski") != first


def test_sixteen_concurrent_writers_give_one_token_per_value(database: sa.Engine, keys: LocalKeyring) -> None:
    values = [f"member {n}" for n in range(400)]
    engine = sa.create_engine(database.url, pool_size=16, hide_parameters=True)
    start = threading.Barrier(16)

    def write(shift: int) -> dict[str, str]:
        mine = values[shift * 20 :] + values[: shift * 20]
        start.wait()
        return dict(
            zip(mine, Vault(engine, keys, "lakeside").tokenize("MEMBER", pa.array(mine)).to_pylist(), strict=True)
        )

    with ThreadPoolExecutor(16) as pool:
        maps = list(pool.map(write, range(16)))
    engine.dispose()
    assert all(m == maps[0] for m in maps)
    assert len(set(maps[0].values())) == 400
    with database.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM medbill.vault_tokens")) == 400
    assert Vault(database, keys, "lakeside").reveal(list(maps[0].values())) == {t: v for v, t in maps[0].items()}


def test_a_token_that_is_taken_already_is_drawn_again(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = _one(vault, "CLAIM", "1")
    real, drawn = vaults._fresh_tokens, []

    def fresh(kind: str, count: int) -> list[str]:
        drawn.append(count)
        return [taken] * count if len(drawn) == 1 else real(kind, count)

    monkeypatch.setattr(vaults, "_fresh_tokens", fresh)
    assert _one(vault, "CLAIM", "2") != taken
    assert drawn == [1, 1]


def test_a_bounded_cache_forgets_but_the_vault_does_not(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = vaults._Cache(50)
    monkeypatch.setattr(vaults, "_cache", cache)
    values = pa.array([str(n) for n in range(300)])
    first = vault.tokenize("CLAIM", values)
    assert vault.tokenize("CLAIM", values).equals(first)
    assert len(cache._tokens) <= 50


def test_text_that_looks_like_a_token_is_a_value_like_any_other(vault: Vault) -> None:
    token = _one(vault, "CLAIM", "1001")
    disguised = _one(vault, "CLAIM", token)
    assert disguised != token
    assert vault.reveal([disguised]) == {disguised: token}


def _refused(vault: Vault, tokens: list[str], issued: list[str] | None = None) -> str:
    with pytest.raises(TokenRefused) as caught:
        vault.reveal(tokens, issued)
    assert not any(token in str(caught.value) for token in tokens if token)
    return caught.value.code


def test_unknown_altered_foreign_and_unissued_tokens_are_refused(
    vault: Vault, database: sa.Engine, keys: LocalKeyring
) -> None:
    good = _one(vault, "CLAIM", "1001")
    other = _one(vault, "CLAIM", "1002")
    foreign = _one(Vault(database, keys, "hillside"), "CLAIM", "1001")
    altered = good[:-3] + ("0" if good[-3] != "0" else "1") + good[-2:]
    for mangled in (altered, good.lower(), good[1:], "", "1001", good + " "):
        assert _refused(vault, [good, mangled]) == "TOKEN_MANGLED"
    assert _refused(vault, [good, vaults._fresh_tokens("CLAIM", 1)[0]]) == "TOKEN_UNKNOWN"
    assert _refused(vault, [good.replace("CLAIM", "LINE")]) == "TOKEN_UNKNOWN"
    assert _refused(vault, [good, foreign]) == "TOKEN_FOREIGN"
    assert _refused(vault, [good, other], issued=[good]) == "TOKEN_NOT_ISSUED"
    assert vault.reveal([good, good], issued=[good, other]) == {good: "1001"}
    assert vault.reveal([]) == {}


@pytest.mark.parametrize(
    "change",
    [
        "ciphertext = set_byte(ciphertext, 3, get_byte(ciphertext, 3) # 1)",
        "ciphertext = (SELECT ciphertext FROM medbill.vault_tokens o WHERE o.token <> v.token)",
        "ciphertext = ''",
        "kind = 'LINE'",
    ],
)
def test_an_altered_row_reveals_nothing(vault: Vault, database: sa.Engine, change: str) -> None:
    token = _one(vault, "CLAIM", "1001")
    _one(vault, "CLAIM", "1002")
    with database.begin() as connection:
        connection.execute(sa.text(f"UPDATE medbill.vault_tokens v SET {change} WHERE token = :t"), {"t": token})
    with pytest.raises(TamperedData):
        vault.reveal([token])


def test_exchanged_tokens_reveal_nothing(vault: Vault, database: sa.Engine) -> None:
    a, b = _one(vault, "CLAIM", "1001"), _one(vault, "CLAIM", "1002")
    with database.begin() as connection:
        for old, new in ((a, "x"), (b, a), ("x", b)):
            connection.execute(
                sa.text("UPDATE medbill.vault_tokens SET token = :n WHERE token = :o"), {"n": new, "o": old}
            )
    with pytest.raises(TamperedData):
        vault.reveal([a])


def test_the_wrong_keyring_opens_nothing_and_makes_nothing(
    vault: Vault, database: sa.Engine, keys: LocalKeyring, tmp_path: Path
) -> None:
    token = _one(vault, "CLAIM", "1001")
    stranger = Vault(database, LocalKeyring(tmp_path / "other.json"), "lakeside")
    with pytest.raises(KeyUnavailable):
        stranger.reveal([token])
    with pytest.raises(KeyUnavailable):
        stranger.tokenize("CLAIM", pa.array(["1001"]))


def test_values_under_old_and_new_data_keys_are_both_revealed(
    vault: Vault, database: sa.Engine, keys: LocalKeyring
) -> None:
    old = _one(vault, "CLAIM", "1001")
    envelopes = Envelopes(database, keys)
    assert envelopes.rotate("lakeside", "vault") == 2
    fresh = Vault(database, keys, "lakeside")
    new = _one(fresh, "CLAIM", "1002")
    assert fresh.reveal([old, new]) == {old: "1001", new: "1002"}
    assert _one(fresh, "CLAIM", "1001") == old


def test_vault_down_fails_closed(keys: LocalKeyring) -> None:
    down = sa.create_engine("postgresql+psycopg2://postgres@127.0.0.1:1/x?connect_timeout=1")
    vault = Vault(down, keys, "lakeside")
    with pytest.raises(StoreUnavailable):
        vault.tokenize("CLAIM", pa.array(["1001"]))
    with pytest.raises(StoreUnavailable):
        vault.reveal(vaults._fresh_tokens("CLAIM", 1))


@pytest.mark.parametrize("kind", ["", "claim", "C", "CLAIM_", "_CLAIM", "CLAIM]", "CLAIM 1"])
def test_a_kind_is_capital_letters(vault: Vault, kind: str) -> None:
    with pytest.raises(ValueError, match="kind"):
        vault.tokenize(kind, pa.array(["x"]))
