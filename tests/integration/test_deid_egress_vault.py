"""The egress guard over a real vault and ledger: what the vault learns it knows, what is shredded it forgets."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa

from medbill.audit.ledger import Ledger, RunContext
from medbill.audit.tables import rows
from medbill.audit.verify import verify
from medbill.deid.egress import EgressRefused, Guard
from medbill.deid.vault import Vault
from medbill.errors import MedbillError, StoreUnavailable
from medbill.store.keys import LocalKeyring

pytestmark = pytest.mark.slow


@pytest.fixture
def guard(database: sa.Engine, vault: Vault) -> Guard:
    return Guard.of(vault, Ledger(database, RunContext()), max_age=0)


def _rows(database: sa.Engine, kind: str) -> list[tuple[str, dict[str, object]]]:
    with database.begin() as connection:
        found = connection.execute(sa.select(rows.c.outcome, rows.c.payload).where(rows.c.kind == kind))
        return [(row.outcome, json.loads(bytes(row.payload)).get("details", {})) for row in found]


def _known(guard: Guard, text: str) -> bool:
    return bool(guard.inspect(text).known)


def test_values_are_known_as_soon_as_they_are_in_the_vault(vault: Vault, guard: Guard) -> None:
    assert not _known(guard, "Zebrowski 00482137")
    vault.tokenize("PERSON", pa.array(["Zebrowski"]))
    assert _known(guard, "Zebrowski")
    vault.tokenize("MRN", pa.array(["00482137"]))
    assert _known(guard, "00482137") and _known(guard, "ZEBROWSKI")


def test_values_of_another_practice_are_not_its_business(database: sa.Engine, tmp_path: Path, guard: Guard) -> None:
    Vault(database, LocalKeyring(tmp_path / "keyring.json"), "hillside").tokenize("PERSON", pa.array(["Zebrowski"]))
    assert not _known(guard, "Zebrowski")


def test_shredded_values_are_forgotten_and_the_others_kept(vault: Vault, guard: Guard) -> None:
    tokens = vault.tokenize("PERSON", pa.array(["Zebrowski", "Okonkwo"])).to_pylist()
    assert _known(guard, "Zebrowski") and _known(guard, "Okonkwo")
    vault.shred([tokens[0]])
    assert not _known(guard, "Zebrowski") and _known(guard, "Okonkwo")
    vault.rotate()
    assert _known(guard, "Okonkwo")


def test_reading_the_vault_and_refusing_are_in_the_ledger(database: sa.Engine, vault: Vault, guard: Guard) -> None:
    vault.tokenize("PERSON", pa.array(["Zebrowski", "Okonkwo"]))
    guard.check("nothing here", destination="model:gpt", purpose="operations")
    guard.check("nothing here either", destination="model:gpt", purpose="operations")
    with pytest.raises(EgressRefused):
        guard.check("Zebrowski", destination="model:gpt", purpose="operations")
    assert sorted(outcome for outcome, _ in _rows(database, "egress.index")) == ["intent", "success"]
    ((outcome, details),) = _rows(database, "egress.refuse")
    assert outcome == "failure"
    assert details == {"code": "EGRESS_KNOWN_VALUE", "kinds": ["PERSON"], "counts": [1], "damaged_tokens": 0}
    assert verify(database).problems == []


def test_without_the_vault_its_key_or_the_ledger_nothing_goes_out(
    database: sa.Engine, vault: Vault, guard: Guard, tmp_path: Path
) -> None:
    vault.tokenize("PERSON", pa.array(["Zebrowski"]))
    other = Vault(database, LocalKeyring(tmp_path / "other.json"), "lakeside")
    with pytest.raises(MedbillError):
        Guard.of(other, Ledger(database, RunContext())).check("x", destination="report", purpose="operations")
    with database.begin() as connection:
        connection.execute(sa.text("ALTER TABLE medbill.vault_tokens RENAME TO gone"))
    with pytest.raises(StoreUnavailable):
        guard.check("x", destination="report", purpose="operations")
    with database.begin() as connection:
        connection.execute(sa.text("ALTER TABLE medbill.gone RENAME TO vault_tokens"))
    with pytest.raises(EgressRefused):
        guard.check("Zebrowski", destination="report", purpose="operations")
    with database.begin() as connection:
        connection.execute(sa.text("DROP FUNCTION audit.append CASCADE"))
    with pytest.raises(StoreUnavailable):
        guard.check("Zebrowski", destination="report", purpose="operations")


def test_a_large_vault_is_read_once_and_then_only_what_is_new(vault: Vault, guard: Guard) -> None:
    vault.tokenize("MEMBER", pa.array([f"XQ{n:07d}" for n in range(30_000)]))
    assert _known(guard, "member XQ0029999")
    vault.tokenize("MEMBER", pa.array(["XQ9000001"]))
    began = time.process_time()
    assert _known(guard, "member XQ9000001")
    assert time.process_time() - began < 2
