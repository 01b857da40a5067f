"""The engine: recognizers, the record and, where wanted, a model; then one token per identifier."""

from __future__ import annotations

import gc
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from medbill.deid.text import dates
from medbill.deid.text.errors import TextTooHard
from medbill.deid.text.note import Note
from medbill.deid.text.recognizers import NoteRecognizer, all_recognizers
from medbill.deid.text.record import Record
from medbill.deid.text.span import Span, resolve

if TYPE_CHECKING:
    from presidio_analyzer import AnalyzerEngine

#: Longest piece searched at once, and what two neighbouring pieces share so that nothing is cut in two.
PIECE = 60_000
_SHARED = 2_000
_LOOKS_LIKE_TOKEN = re.compile(r"\[\\*[A-Z][A-Z_]{1,30}_[0-9A-Z]{10,}\]")
_ALNUM = re.compile(r"[^\W_]")


class Tokenizer(Protocol):
    """What the engine needs of medbill.deid.vault.Vault."""

    def tokenize(self, kind: str, values: pa.Array | pa.ChunkedArray) -> pa.Array: ...


@dataclass(frozen=True)
class Replacement:
    """original[start:end] was replaced by token: a vault token, with a year left beside it where Safe Harbor allows, or
    "90+" for an age."""

    start: int
    end: int
    type: str
    token: str
    detector: str


@dataclass(frozen=True)
class Deidentified:
    """text: what may leave; spans: what was replaced in the original, in its order."""

    text: str
    spans: list[Replacement]


class Engine:
    """Finds identifiers in free text.

    model: None, or a name of ner.MODELS; ModelUnavailable where its package is not installed. Nothing is ever
    downloaded. One engine may serve any number of batches; it keeps word lists and the model, no text but the model's
    cache of sentences, which stays in memory.
    """

    def __init__(self, model: str | None = None, recognizers: Sequence[NoteRecognizer] | None = None) -> None:
        self.recognizers = list(all_recognizers() if recognizers is None else recognizers)
        self._ner = None
        if model is not None:
            from medbill.deid.text.ner import Ner

            self._ner = Ner(model)

    def presidio(self) -> AnalyzerEngine:
        """The same recognizers under Presidio's own engine, for its users; built without a model or a download."""
        from medbill.deid.text.presidio import analyzer

        return analyzer(self.recognizers)

    def analyze(
        self, texts: Sequence[str], records: Sequence[Mapping[str, Any] | None] | None = None
    ) -> list[list[Span]]:
        """Disjoint spans of each text, as offsets into the text as given, in order.

        records: the structured record each text belongs to, or None. Raises TextTooHard when a pattern runs out of time.
        """
        if records is not None and len(records) != len(texts):
            raise ValueError("one record (or None) for each text")
        out: list[list[Span]] = [[] for _ in texts]
        pieces: list[tuple[int, int, int, int, Note, list[Span]]] = []
        for n, text in enumerate(texts):
            record = records[n] if records is not None else None
            prepared = Record(record) if record else None
            for start, stop, low, high in _pieces(text):
                note = Note(text[start:stop])
                piece = (n, start, low, high, note, self._find(note, prepared))
                if self._ner is None:  # a piece is done with at once: a long text need not stay in memory cut up
                    _place(out, piece)
                else:
                    pieces.append(piece)
        if self._ner is not None:
            added = self._ner.find([p[4] for p in pieces], [p[5] for p in pieces])
            for piece, more in zip(pieces, added, strict=True):
                piece[5].extend(more)
        for piece in pieces:
            _place(out, piece)
        return [self._finish(texts[n], spans) for n, spans in enumerate(out)]

    def _find(self, note: Note, record: Record | None) -> list[Span]:
        found: list[Span] = []
        for recognizer in self.recognizers:
            found += recognizer.find(note)
        if record is not None:
            found += record.find(note)
        found += dates.relative(note.text, found)
        found = [s for s in found if s.end > s.start and _ALNUM.search(note.text, s.start, s.end)]
        return found

    @staticmethod
    def _finish(text: str, spans: list[Span]) -> list[Span]:
        if "[" in text:
            tokens = [m.span() for m in _LOOKS_LIKE_TOKEN.finditer(text)]
            if tokens:
                # a text that holds tokens already keeps them whole; a real finding that crosses one stays
                spans = [s for s in spans if not any(a <= s.start and s.end <= b for a, b in tokens)]
        return resolve(spans)

    def deidentify(
        self,
        texts: Sequence[str],
        records: Sequence[Mapping[str, Any] | None] | None = None,
        vault: Tokenizer | None = None,
    ) -> list[Deidentified]:
        """Texts with a token for every identifier. The vault makes the tokens; without one they are random and good for
        this call only (the same value of the same type has the same token), and nothing can be revealed later.

        Ages over 89 become "90+", a year that Safe Harbor allows stays beside its date's token, and what looks like a
        token in the text is escaped.
        """
        found = self.analyze(texts, records)
        tokenizer: Tokenizer = RunTokens() if vault is None else vault
        parts: list[list[tuple[Span, str, str, str]]] = []  # before, value, after
        wanted: dict[str, list[str]] = {}
        for text, spans in zip(texts, found, strict=True):
            row = []
            for span in spans:
                value = text[span.start : span.end]
                before, after = "", ""
                if span.type == "DATE":
                    before, value, after = _without_year(value)
                row.append((span, before, value, after))
                if span.type != "AGE":
                    wanted.setdefault(span.type, []).append(value)
            parts.append(row)
        tokens: dict[tuple[str, str], str] = {}
        for kind, values in sorted(wanted.items()):
            distinct = list(dict.fromkeys(values))
            made = tokenizer.tokenize(kind, pa.array([_storable(v) for v in distinct], pa.string())).to_pylist()
            tokens |= {(kind, v): t for v, t in zip(distinct, made, strict=True)}
        out = []
        for text, row in zip(texts, parts, strict=True):
            pieces: list[str] = []
            replaced: list[Replacement] = []
            at = 0
            for span, before, value, after in row:
                token = "90+" if span.type == "AGE" else f"{before}{tokens[span.type, value]}{after}"
                pieces += (_escaped(text[at : span.start]), token)
                replaced.append(Replacement(span.start, span.end, span.type, token, span.detector))
                at = span.end
            pieces.append(_escaped(text[at:]))
            out.append(Deidentified("".join(pieces), replaced))
        return out


def _place(out: list[list[Span]], piece: tuple[int, int, int, int, Note, list[Span]]) -> None:
    """Add a piece's spans to its text's, as offsets into the text as given."""
    n, offset, low, high, note, found = piece
    if low == 0 and high == len(note.view.original) and note.view.same:  # the whole text, as given
        out[n] += found
        return
    for span in found:
        start, end = note.view.to_original(span.start, span.end)
        if low <= offset + start < high:
            out[n].append(Span(offset + start, offset + end, span.type, span.score, span.detector))


def each(
    engine: Engine, texts: Sequence[str], records: Sequence[Mapping[str, Any] | None], vault: Tokenizer
) -> list[Deidentified | None]:
    """Engine.deidentify() with None for a text that is too hard (TextTooHard): it does not stop the others."""
    try:
        return list(engine.deidentify(texts, records, vault))
    except TextTooHard:
        if len(texts) == 1:
            return [None]
        return [one for pair in zip(texts, records, strict=True) for one in each(engine, pair[:1], pair[1:], vault)]


def loaded(model: str | None = None) -> Engine:
    """An engine for a process whose work this is: the word lists, a million objects that never go, are taken out of the
    garbage collector's rounds, which otherwise walk through them after every few notes (a tenth of the time)."""
    engine = Engine(model)
    engine.analyze(["Loaded."])  # what is read on first use
    gc.collect()
    gc.freeze()
    return engine


def _pieces(text: str) -> list[tuple[int, int, int, int]]:
    """(start, stop, low, high): pieces of a text, and where a finding must begin to be that piece's."""
    if len(text) <= PIECE:
        return [(0, len(text), 0, len(text))]
    out = []
    start = 0
    low = 0
    while True:
        stop = min(len(text), start + PIECE)
        high = len(text) if stop == len(text) else stop - _SHARED // 2
        out.append((start, stop, low, high))
        if stop == len(text):
            return out
        low = high
        start = stop - _SHARED


def _without_year(value: str) -> tuple[str, str, str]:
    """A date as (kept before, value to hide, kept after)."""
    where = dates.year_to_keep(value)
    if where is None:
        return "", value, ""
    start, end = where
    hidden_before, hidden_after = value[:start].rstrip(" ,/-.\t"), value[end:].lstrip(" ,/-.\t")
    if hidden_before and hidden_after:
        return "", value, ""
    if hidden_before:
        return "", hidden_before, value[len(hidden_before) :]
    return value[: len(value) - len(hidden_after)], hidden_after, ""


def _storable(value: str) -> str:
    """The value as text a database can hold: no NUL, no lone surrogate."""
    return value.replace("\x00", "").encode("utf-8", "replace").decode("utf-8") or "?"


def _escaped(text: str) -> str:
    r"""As medbill.deid.vault.escape: "[CLAIM_..." that is no token of ours becomes "[\CLAIM_..."."""
    return re.sub(r"\[(\\*[A-Z][A-Z_]{1,30}_[0-9A-Z]{10,}\])", r"[\\\1", text) if "[" in text else text


class RunTokens:
    """Random tokens for one run, without a vault: what they stand for is forgotten with this object."""

    _ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

    def __init__(self) -> None:
        self._tokens: dict[tuple[str, str], str] = {}

    def tokenize(self, kind: str, values: pa.Array | pa.ChunkedArray) -> pa.Array:
        from medbill.deid.vault import check_character, normalised

        out = []
        for value in values.to_pylist():
            key = (kind, normalised(value))
            if key not in self._tokens:
                body = "".join(secrets.choice(self._ALPHABET) for _ in range(16))
                self._tokens[key] = f"[{kind}_{body}{check_character(body)}]"
            out.append(self._tokens[key])
        return pa.array(out, pa.string())
