"""The vault for users of Presidio: an anonymizing operator that gives tokens, a deanonymizing one that takes them back.

Presidio's own operators know no consistent, reversible pseudonym: `hash` cannot be taken back, `encrypt` gives another
text each time. These do what the engine of medbill.deid.text does for our own recognizers, without its rules for ages and
years: under Presidio a date or an age is tokenised whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from presidio_analyzer import RecognizerResult as Analyzed
from presidio_anonymizer import AnonymizerEngine, DeanonymizeEngine
from presidio_anonymizer.entities import InvalidParamError, OperatorConfig, OperatorResult, RecognizerResult
from presidio_anonymizer.operators import Operator, OperatorType

from medbill.deid.reidentify import tokens_in
from medbill.deid.text.engine import Tokenizer
from medbill.deid.vault import escape, is_token, token_kind, unescape

#: Tokens to values, all or TokenRefused; tokens whose value is not wanted may be left out.
Reveal = Callable[[Sequence[str]], Mapping[str, str]]
#: Presidio's names of entities that the vault has a kind for; any other entity is a kind of its own.
KINDS = {
    "PHONE_NUMBER": "PHONE", "EMAIL_ADDRESS": "EMAIL", "US_SSN": "SSN", "DATE_TIME": "DATE", "IP_ADDRESS": "IP",
    "MEDICAL_LICENSE": "LICENSE", "US_DRIVER_LICENSE": "LICENSE", "US_NPI": "NPI", "US_MBI": "MEMBER",
    "CREDIT_CARD": "ACCOUNT", "US_BANK_NUMBER": "ACCOUNT",
}  # fmt: skip
#: The entity of text that only looks like a token.
LOOK_ALIKE = "LOOK_ALIKE"
_LOOKS_LIKE = re.compile(r"\[\\*[A-Z][A-Z_]{1,30}_[0-9A-Z]{10,}\]")
_ESCAPED = re.compile(r"\[\\+[A-Z][A-Z_]{1,30}_[0-9A-Z]{10,}\]")


class VaultTokenize(Operator):
    """Anonymizer "vault_tokenize": the token of a value; the same value of the same entity type has the same.

    params: vault, a Vault (or a Batch of one); kinds, optional, entity type -> vault kind, beside KINDS. Text that looks
    like a token is escaped where the entity is LOOK_ALIKE. Raises as Vault.tokenize.
    """

    def operate(self, text: str = "", params: dict[str, Any] | None = None) -> str:
        params = params or {}
        if params["entity_type"] == LOOK_ALIKE:
            return str(escape(pa.array([text]))[0].as_py())
        token = params["vault"].tokenize(_kind(params["entity_type"], params.get("kinds")), pa.array([_text(text)]))[0]
        return str(token.as_py() or text)  # blank text has no token

    def validate(self, params: dict[str, Any] | None = None) -> None:
        if not params or not hasattr(params.get("vault"), "tokenize"):
            raise InvalidParamError("vault_tokenize needs a vault")

    def operator_name(self) -> str:
        return "vault_tokenize"

    def operator_type(self) -> OperatorType:
        return OperatorType.Anonymize


class VaultReveal(Operator):
    """Deanonymizer "vault_reveal": the value of a token. Entities are those of find_tokens().

    params: reveal, e.g. functools.partial(Reidentifier.reveal, run, purpose), or a Revealed of it. A token whose value
    the purpose does not need stays. Raises TokenRefused for a token that is unknown, foreign or not issued.
    """

    def operate(self, text: str = "", params: dict[str, Any] | None = None) -> str:
        params = params or {}
        if params.get("entity_type") == LOOK_ALIKE:
            return unescape(text)
        return str(params["reveal"]([text]).get(text, text))

    def validate(self, params: dict[str, Any] | None = None) -> None:
        if not params or not callable(params.get("reveal")):
            raise InvalidParamError("vault_reveal needs reveal, which gives the values of tokens")

    def operator_name(self) -> str:
        return "vault_reveal"

    def operator_type(self) -> OperatorType:
        return OperatorType.Deanonymize


class Batch:
    """A vault that has looked up the values of a batch of texts at once; anything else it still asks for one by one."""

    def __init__(self, vault: Tokenizer) -> None:
        self._vault = vault
        self._known: dict[tuple[str, str], str | None] = {}

    def prepare(self, kind: str, values: Sequence[str]) -> None:
        wanted = [value for value in dict.fromkeys(values) if (kind, value) not in self._known]
        if wanted:
            tokens = self._vault.tokenize(kind, pa.array(wanted, pa.string())).to_pylist()
            self._known |= {(kind, value): token for value, token in zip(wanted, tokens, strict=True)}

    def tokenize(self, kind: str, values: pa.Array | pa.ChunkedArray) -> pa.Array:
        asked = values.to_pylist()
        self.prepare(kind, [value for value in asked if value is not None])
        return pa.array([None if value is None else self._known[kind, value] for value in asked], pa.string())


class Revealed:
    """A reveal that asked once for all tokens of a batch of texts: one look-up, one act in the ledger."""

    def __init__(self, reveal: Reveal, tokens: Sequence[str]) -> None:
        self._tokens = frozenset(tokens)
        self._values = dict(reveal(list(dict.fromkeys(tokens)))) if tokens else {}
        self._reveal = reveal

    def __call__(self, tokens: Sequence[str]) -> Mapping[str, str]:
        return self._values if self._tokens.issuperset(tokens) else self._reveal(tokens)


def find_tokens(text: str) -> list[OperatorResult]:
    """The tokens of a text wherever they stand now, as the entities DeanonymizeEngine needs.

    A model moves, repeats and drops tokens, so the offsets of anonymizing are worth nothing. Text that was escaped is an
    entity LOOK_ALIKE. Raises TokenRefused (TOKEN_MANGLED) where anything was a token and is none any more.
    """
    found = []
    at = 0
    for token in tokens_in(text):
        at = text.index(token, at)
        found.append(OperatorResult(at, at + len(token), token_kind(token), token))
        at += len(token)
    found += [OperatorResult(*match.span(), LOOK_ALIKE, match[0]) for match in _ESCAPED.finditer(text)]
    return sorted(found, key=lambda entity: entity.start)


def anonymize(
    texts: Sequence[str],
    results: Sequence[Sequence[Analyzed | RecognizerResult]],
    vault: Tokenizer,
    engine: AnonymizerEngine | None = None,
    kinds: Mapping[str, str] | None = None,
) -> list[str]:
    """Texts with tokens in the place of what the analyzer found, by way of AnonymizerEngine; one look-up for each kind.

    What looks like a token already is escaped, so that no text from outside can ask for a value.
    """
    make: Any = AnonymizerEngine
    chosen: AnonymizerEngine = engine or make()
    chosen.add_anonymizer(VaultTokenize)
    batch = Batch(vault)
    wanted: dict[str, list[str]] = {}
    for text, found in zip(texts, results, strict=True):
        for one in found:
            wanted.setdefault(_kind(one.entity_type, kinds), []).append(_text(text[one.start : one.end]))
    for kind, values in sorted(wanted.items()):
        batch.prepare(kind, values)
    operators = {"DEFAULT": OperatorConfig("vault_tokenize", {"vault": batch, "kinds": kinds})}
    out = []
    for text, found in zip(texts, results, strict=True):
        entities = [RecognizerResult(one.entity_type, one.start, one.end, one.score) for one in found]
        entities += [RecognizerResult(LOOK_ALIKE, *match.span(), 1.0) for match in _LOOKS_LIKE.finditer(text)]
        out.append(chosen.anonymize(text, entities, operators).text)
    return out


def deanonymize(texts: Sequence[str], reveal: Reveal, engine: DeanonymizeEngine | None = None) -> list[str]:
    """Texts with values in the place of their tokens, by way of DeanonymizeEngine; all of them or, with TokenRefused, none.

    reveal is called once, with every token of the texts.
    """
    make: Any = DeanonymizeEngine
    chosen: DeanonymizeEngine = engine or make()
    chosen.add_deanonymizer(VaultReveal)
    found = [find_tokens(text) for text in texts]
    tokens = [text[one.start : one.end] for text, some in zip(texts, found, strict=True) for one in some]
    revealed = Revealed(reveal, [token for token in tokens if is_token(token)])
    operators = {"DEFAULT": OperatorConfig("vault_reveal", {"reveal": revealed})}
    return [chosen.deanonymize(text, some, operators).text for text, some in zip(texts, found, strict=True)]


def _kind(entity_type: str, kinds: Mapping[str, str] | None) -> str:
    return (kinds or {}).get(entity_type) or KINDS.get(entity_type, entity_type)


def _text(value: str) -> str:
    """The value as the database can hold it: no NUL, no lone surrogate."""
    return value.replace("\x00", "").encode("utf-8", "replace").decode()
