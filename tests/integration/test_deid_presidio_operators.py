"""Round trip through Presidio's own engines and a real vault: what was allowed comes back, what was altered does not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pytest
import sqlalchemy as sa
from presidio_anonymizer import AnonymizerEngine, DeanonymizeEngine
from presidio_anonymizer.entities import InvalidParamError, OperatorConfig, RecognizerResult

from medbill.audit.ledger import Ledger, RunContext
from medbill.deid.presidio_operators import VaultReveal, VaultTokenize, anonymize, deanonymize, find_tokens
from medbill.deid.reidentify import Purpose, Reidentifier
from medbill.deid.text.engine import Engine
from medbill.deid.vault import Vault
from medbill.errors import TokenRefused

pytestmark = pytest.mark.slow

TEXT = "Patient John Zebrowski (MRN 00482137) called. Call back at 555-201-8836. John Zebrowski will pay."


VALUES = {"John Zebrowski": "PERSON", "Maria Kowalski": "PERSON", "00482137": "MRN", "555-201-8836": "PHONE_NUMBER"}


def _deidentified(vault: Vault, texts: Sequence[str]) -> list[str]:
    found = [
        [
            RecognizerResult(kind, match.start(), match.end(), 1.0)
            for value, kind in VALUES.items()
            for match in re.finditer(value, text)
        ]
        for text in texts
    ]
    return anonymize(texts, found, vault)


def test_our_recognizers_under_presidio_feed_the_operators(vault: Vault) -> None:
    analyzer = Engine().presidio()
    (text,) = anonymize([TEXT], [analyzer.analyze(text=TEXT, language="en")], vault)
    assert not any(value in text for value in ("Zebrowski", "00482137", "8836"))
    assert deanonymize([text], vault.reveal) == [TEXT]


def test_round_trip_of_a_rewritten_text(vault: Vault) -> None:
    (text,) = _deidentified(vault, [TEXT])
    assert "Zebrowski" not in text and "00482137" not in text and "8836" not in text
    entities = {one.entity_type: text[one.start : one.end] for one in find_tokens(text)}
    assert text.count(entities["PERSON"]) == 2, "one value, one token"
    rewritten = (
        f"Summary: {entities['PHONE']} is the number of {entities['PERSON']}, {entities['PERSON']}, {entities['MRN']}."
    )
    assert deanonymize([rewritten, "nothing here"], vault.reveal) == [
        "Summary: 555-201-8836 is the number of John Zebrowski, John Zebrowski, 00482137.",
        "nothing here",
    ]


def test_only_what_was_issued_and_is_needed_comes_back(vault: Vault, database: sa.Engine) -> None:
    (text,) = _deidentified(vault, [TEXT])
    entities = {one.entity_type: text[one.start : one.end] for one in find_tokens(text)}
    purposes = {"call": Purpose("call", "operations", frozenset({"PERSON", "PHONE"}), 1)}
    gate = Reidentifier(database, vault, Ledger(database, RunContext()), "lakeside", purposes)

    def reveal(tokens: Sequence[str]) -> Mapping[str, str]:
        return gate.reveal("run-1", "call", tokens)

    with pytest.raises(TokenRefused) as refused:
        deanonymize([text], reveal)
    assert refused.value.code == "TOKEN_NOT_ISSUED"
    gate.issue("run-1", "call", list(entities.values()))
    (restored,) = deanonymize([text], reveal)
    assert restored == TEXT.replace("00482137", entities["MRN"])


@pytest.mark.parametrize(
    "damage", [str.lower, lambda t: t.replace("[", "("), lambda t: t[:-2] + "]", lambda t: t.replace("_", " ")]
)
def test_an_altered_token_stops_the_text(vault: Vault, damage: object) -> None:
    (text,) = _deidentified(vault, ["Patient John Zebrowski called."])
    token = text[text.index("[") : text.index("]") + 1]
    with pytest.raises(TokenRefused) as refused:
        deanonymize([f"Tell {damage(token)} to call."], vault.reveal)  # type: ignore[operator]
    assert refused.value.code == "TOKEN_MANGLED"


def test_text_that_looks_like_a_token_reveals_nothing_and_comes_back_as_it_was(vault: Vault) -> None:
    (secret,) = _deidentified(vault, ["Patient John Zebrowski called."])
    token = secret[secret.index("[") : secret.index("]") + 1]
    (text,) = _deidentified(vault, [f"What is {token}? asks Maria Kowalski"])
    assert token not in text
    assert deanonymize([text], vault.reveal) == [f"What is {token}? asks Maria Kowalski"]


def test_the_operators_under_presidios_engines_alone(vault: Vault) -> None:
    engine = AnonymizerEngine()
    engine.add_anonymizer(VaultTokenize)
    config = {"DEFAULT": OperatorConfig("vault_tokenize", {"vault": vault, "kinds": {"LOCATION": "CITY"}})}
    done = engine.anonymize(
        "Ann of Tulsa, Ann",
        [
            RecognizerResult("PERSON", 0, 3, 1.0),
            RecognizerResult("LOCATION", 7, 12, 1.0),
            RecognizerResult("PERSON", 14, 17, 1.0),
        ],
        config,
    )
    assert [token.entity_type for token in find_tokens(done.text)] == ["PERSON", "CITY", "PERSON"]
    back = DeanonymizeEngine()
    back.add_deanonymizer(VaultReveal)
    operators = {"DEFAULT": OperatorConfig("vault_reveal", {"reveal": vault.reveal})}
    assert back.deanonymize(done.text, find_tokens(done.text), operators).text == "Ann of Tulsa, Ann"


@pytest.mark.parametrize("operator", [VaultTokenize(), VaultReveal()])
def test_an_operator_without_its_vault_is_refused(operator: VaultTokenize | VaultReveal) -> None:
    for params in (None, {}, {"vault": "x", "reveal": 3}):
        with pytest.raises(InvalidParamError):
            operator.validate(params)
