"""From tokens back to values on a real vault: what was issued, to whom and what for, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa

from medbill.audit.ledger import Ledger, RunContext
from medbill.audit.verify import verify
from medbill.deid import reidentify
from medbill.deid.reidentify import Reidentifier
from medbill.deid.text.engine import Engine
from medbill.deid.vault import Vault, _fresh_tokens
from medbill.errors import MedbillError, TokenRefused
from medbill.settings import Settings
from medbill.store.keys import LocalKeyring

pytestmark = pytest.mark.slow
NOTE = (
    "Spoke with Theodora Quackenbush (MRN 88213047) on 03/14/2026 about CPT 99213, DX E11.9, $125.00. "
    "Call back at (415) 555-0137; see also [CLAIM_0123456789ABCDEF0]."
)


@pytest.fixture
def purposes() -> dict[str, reidentify.Purpose]:
    return reidentify.load(Settings.from_env({}).policies / "reidentification.yml")


@pytest.fixture
def door(database: sa.Engine, vault: Vault, purposes: dict[str, reidentify.Purpose]) -> Reidentifier:
    return Reidentifier(database, vault, Ledger(database, RunContext()), "lakeside", purposes)


def _tokens(vault: Vault, kind: str, *values: str) -> list[str]:
    return [str(token) for token in vault.tokenize(kind, pa.array(values)).to_pylist()]


def _refused(act: object, *arguments: object) -> str:
    with pytest.raises(MedbillError) as refused:
        act(*arguments)  # type: ignore[operator]
    return refused.value.code


def test_a_text_goes_out_is_rewritten_and_comes_back_exactly_as_far_as_it_may(vault: Vault, door: Reidentifier) -> None:
    out = Engine().deidentify([NOTE], [None], vault)[0]
    tokens = reidentify.tokens_in(out.text)
    for hidden in ("Theodora", "Quackenbush", "88213047", "555-0137", "03/14"):
        assert hidden not in out.text
    assert {"99213", "E11.9"} <= set(out.text.replace(",", " ").split())
    door.issue("run 1", "review", tokens)
    door.issue("run 1", "patient_statement", tokens)
    # a model's answer: sentences in another order, tokens said twice, new words
    first, _, rest = out.text.partition(". Call back")
    rewritten = f"Call back{rest} Summary for {tokens[0]}: {first}. Thank you, {tokens[0]}."
    whole = door.restore("run 1", "review", [rewritten])[0]
    first_clear, _, rest_clear = NOTE.partition(". Call back")
    name = "Theodora Quackenbush"
    assert whole == f"Call back{rest_clear} Summary for {name}: {first_clear}. Thank you, {name}."
    part = door.restore("run 1", "patient_statement", [rewritten])[0]
    assert name in part and "555-0137" in part and "88213047" not in part and "[MRN_" in part
    assert door.restore("run 1", "review", [out.text]) == [NOTE]


def test_only_tokens_issued_to_the_run_for_the_purpose_in_time(
    vault: Vault, door: Reidentifier, database: sa.Engine
) -> None:
    name, other = _tokens(vault, "PERSON", "Ann", "Bob")
    assert door.issue("run 1", "review", [name]) == 1
    assert door.issue("run 1", "review", [name]) == 0
    assert door.reveal("run 1", "review", [name, name]) == {name: "Ann"}
    for run, purpose, token in (
        ("run 1", "review", other),
        ("run 2", "review", name),
        ("run 1", "payer_letter", name),
    ):
        assert _refused(door.reveal, run, purpose, [token]) == "TOKEN_NOT_ISSUED"
        assert _refused(door.restore, run, purpose, [f"Dear {token}"]) == "TOKEN_NOT_ISSUED"
    assert _refused(door.restore, "run 1", "review", [f"{name} and {other}"]) == "TOKEN_NOT_ISSUED"
    assert _refused(door.reveal, "run 1", "curiosity", [name]) == "PURPOSE_UNKNOWN"
    assert _refused(door.issue, "run 1", "curiosity", [name]) == "PURPOSE_UNKNOWN"
    with database.begin() as connection:
        connection.execute(sa.text("UPDATE medbill.token_grants SET expires_at = now() - interval '1 second'"))
    assert _refused(door.reveal, "run 1", "review", [name]) == "TOKEN_NOT_ISSUED"


def test_kinds_a_purpose_does_not_need_are_neither_issued_nor_revealed(vault: Vault, door: Reidentifier) -> None:
    (claim,), (name,) = _tokens(vault, "CLAIM", "1001"), _tokens(vault, "PERSON", "Ann")
    assert door.issue("run 1", "write_back", [claim, name]) == 1
    assert door.reveal("run 1", "write_back", [claim, name]) == {claim: "1001"}
    assert door.restore("run 1", "write_back", [f"{name}: claim {claim}"]) == [f"{name}: claim 1001"]


def test_unknown_foreign_and_shredded_tokens_are_refused_even_where_they_were_issued(
    vault: Vault, door: Reidentifier, database: sa.Engine, tmp_path: Path
) -> None:
    unknown = _fresh_tokens("PERSON", 1)
    foreign = _tokens(Vault(database, LocalKeyring(tmp_path / "keyring.json"), "hillside"), "PERSON", "Ann")
    gone = _tokens(vault, "PERSON", "Bob")
    for tokens in (unknown, foreign, gone):
        door.issue("run 1", "review", tokens)
    vault.shred(gone)
    assert _refused(door.reveal, "run 1", "review", unknown) == "TOKEN_UNKNOWN"
    assert _refused(door.reveal, "run 1", "review", foreign) == "TOKEN_FOREIGN"
    assert _refused(door.reveal, "run 1", "review", gone) == "TOKEN_NOT_ISSUED"  # its grants went with it
    door.issue("run 1", "review", gone)
    assert _refused(door.reveal, "run 1", "review", gone) == "TOKEN_SHREDDED"


def test_a_token_altered_in_any_way_is_refused_not_left_over(vault: Vault, door: Reidentifier) -> None:
    (token,) = _tokens(vault, "PERSON", "Ann")
    door.issue("run 1", "review", [token])
    body = token[1:-1]
    changed = body[:-1] + ("0" if body[-1] != "0" else "1")
    for altered in (
        f"[{body.lower()}]",
        f"[{body[:-1]}]",
        f"[{changed}]",
        f"[ {body} ]",
        f"[{body.replace('_', ' ')}]",
        f"[{body.replace('_', '-')}]",
        body,
        f"({body})",
        f"{body}]",
        f"[{body}",
        f"[{body}0]",
    ):
        with pytest.raises(TokenRefused) as refused:
            door.restore("run 1", "review", [f"{token} Dear {altered}, hello"])
        assert refused.value.code == "TOKEN_MANGLED", altered
        assert body not in str(refused.value)


def test_a_value_that_looks_like_a_token_or_an_escape_comes_back_as_it_was(vault: Vault, door: Reidentifier) -> None:
    values = ["[CLAIM_0123456789ABCDEF0]", r"[\CLAIM_0123456789ABCDEF0]", r"a\b [x]"]
    tokens = _tokens(vault, "REFERENCE", *values)
    door.issue("run 1", "review", tokens)
    assert door.restore("run 1", "review", ["|".join(tokens)]) == ["|".join(values)]


def test_every_issue_reveal_and_refusal_is_in_the_ledger_without_a_value(
    vault: Vault, door: Reidentifier, database: sa.Engine
) -> None:
    (token,) = _tokens(vault, "PERSON", "Zebrowski")
    door.issue("run 1", "review", [token])
    door.reveal("run 1", "review", [token])
    door.restore("run 1", "review", [f"Dear {token}"])
    _refused(door.restore, "run 2", "review", [f"Dear {token}"])
    with database.connect() as connection:
        rows = connection.execute(sa.text("SELECT kind, outcome, purpose, payload FROM audit.rows")).all()
    assert sorted((r.kind, r.outcome) for r in rows) == [
        ("token.issue", "intent"),
        ("token.issue", "success"),
        ("token.restore", "failure"),
        ("token.restore", "intent"),
        ("token.restore", "intent"),
        ("token.restore", "success"),
        ("token.reveal", "intent"),
        ("token.reveal", "success"),
    ]
    assert {r.purpose for r in rows} == {"operations"}
    details = [json.loads(bytes(r.payload))["details"] for r in rows if r.outcome == "failure"]
    assert details == [{"for": "review", "error": "TOKEN_NOT_ISSUED"}]
    assert not any(b"zebrowski" in bytes(r.payload).lower() for r in rows)
    assert verify(database).problems == []


def test_without_the_ledger_nothing_is_revealed(vault: Vault, door: Reidentifier, database: sa.Engine) -> None:
    (token,) = _tokens(vault, "PERSON", "Ann")
    door.issue("run 1", "review", [token])
    with database.begin() as connection:
        connection.execute(sa.text("ALTER FUNCTION audit.append(bytea) RENAME TO gone"))
    assert _refused(door.reveal, "run 1", "review", [token]) == "LEDGER_UNAVAILABLE"
    assert _refused(door.restore, "run 1", "review", [token]) == "LEDGER_UNAVAILABLE"


@pytest.mark.parametrize(
    "text",
    [
        "purposes: {}",
        "purposes: {Review: {use: payment, kinds: all, days: 1}}",
        "purposes: {review: {use: payment, kinds: all}}",
        "purposes: {review: {use: payment, kinds: [person], days: 1}}",
        "purposes: {review: {use: payment, kinds: [], days: 1}}",
        "purposes: {review: {use: 1, kinds: all, days: 1}}",
        "purposes: {review: {use: payment, kinds: all, days: 0}}",
        "purposes: {review: {use: payment, kinds: all, days: yes}}",
        "purposes: [review]",
        "}",
    ],
)
def test_a_policy_that_is_wrong_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "reidentification.yml"
    path.write_text(text)
    assert _refused(reidentify.load, path) == "POLICY_INVALID"


def test_the_policy_of_the_product_is_right(purposes: dict[str, reidentify.Purpose]) -> None:
    assert purposes["write_back"].kinds == {"CLAIM", "LINE", "TRACE"}
