"""The recognizers as Presidio knows them. One finds by method find(), on a Note that all of them share; analyze() is the
same for Presidio's own engine."""

from __future__ import annotations

from typing import Any

from presidio_analyzer import EntityRecognizer, RecognizerResult
from presidio_analyzer.nlp_engine import NlpArtifacts

from medbill.deid.text import dates, identifiers, people, places
from medbill.deid.text.note import Note
from medbill.deid.text.span import Span


class NoteRecognizer(EntityRecognizer):
    """Base of all recognizers here: subclasses name their types and implement find()."""

    types: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__(supported_entities=list(self.types), supported_language="en", version="1")

    def load(self) -> None:
        """Nothing to load: word lists are read when first needed."""

    def find(self, note: Note) -> list[Span]:
        """Spans as offsets into note.text."""
        raise AssertionError("a recognizer implements find()")

    def analyze(self, text: str, entities: list[str], nlp_artifacts: NlpArtifacts | None = None) -> list[Any]:
        note = Note(text)
        results = []
        for span in self.find(note):
            if span.type in entities and span.end > span.start:
                start, end = note.view.to_original(span.start, span.end)
                results.append(RecognizerResult(entity_type=span.type, start=start, end=end, score=span.score))
        return results


class People(NoteRecognizer):
    types = ("PERSON",)

    def find(self, note: Note) -> list[Span]:
        return people.find(note)


class Places(NoteRecognizer):
    types = ("ADDRESS", "CITY", "COUNTY", "ZIP", "FACILITY", "EMPLOYER")

    def find(self, note: Note) -> list[Span]:
        return places.find(note)


class Dates(NoteRecognizer):
    types = ("DATE", "AGE")

    def find(self, note: Note) -> list[Span]:
        return dates.find(note)


class Identifiers(NoteRecognizer):
    types = (
        "PHONE", "FAX", "EMAIL", "SSN", "MRN", "MEMBER", "ACCOUNT", "CLAIM", "AUTHORIZATION", "LICENSE", "DEA", "NPI",
        "TAX_ID", "VIN", "PLATE", "DEVICE", "URL", "IP", "BIOMETRIC", "PHOTO", "REFERENCE",
    )  # fmt: skip

    def find(self, note: Note) -> list[Span]:
        return identifiers.find(note)


def all_recognizers() -> list[NoteRecognizer]:
    return [People(), Places(), Dates(), Identifiers()]
