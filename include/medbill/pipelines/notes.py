"""The free text of claims through the free-text engine: tokens in, doubtful notes out to a person.

A note is refused, alone, where it cannot be searched in time, where it speaks of several patients, and where the egress
guard still finds something after the engine. Refused notes stay sealed in the landing zone; quarantine says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from medbill.deid.text.patients import more_than_one
from medbill.model.claims import NOTES
from medbill.pipelines.context import batches

if TYPE_CHECKING:
    from medbill.deid.egress import Guard
    from medbill.deid.text.engine import Deidentified, Engine
    from medbill.deid.vault import Vault

#: Notes per batch, at most so many and of so many characters together: what one vault transaction covers, and memory.
_BATCH = 256
_BATCH_CHARACTERS = 2_000_000
#: Published notes that gate 2 looks at again.
SAMPLE = 50
#: All that a landed note has beside itself: what its record says of the patient.
RECORD_FIELDS = tuple(name for name in NOTES.names if name not in ("note_id", "note_type", "written_on", "text"))
REASONS = {
    "NOTE_TOO_HARD": "the note could not be searched for identifiers in time; read it in the platform",
    "SEVERAL_PATIENTS": "the note seems to speak of more than one patient; a person must look at it in the platform",
    "EGRESS_PATTERN": "after de-identification something in the note still has the form of an identifier",
    "EGRESS_KNOWN_VALUE": "after de-identification a value the vault knows is still in the note",
    "EGRESS_TOKEN": "the note holds a damaged token",
    "EGRESS_TOO_COMPLEX": "the note is encoded in more layers than can be looked through",
}


@dataclass(frozen=True)
class Notes:
    """table: the landed notes that may be published; texts: theirs, de-identified, in the same order. refused: note token
    -> reason code, a key of REASONS. identifiers: how many of which type were found."""

    table: pa.Table
    texts: pa.Array
    refused: dict[str, str]
    identifiers: Counter[str]


def deidentify(landed: pa.Table, vault: Vault, engine: Engine, guard: Guard) -> Notes:
    """De-identify each note with the record it was landed with. Raises what the vault raises: then nothing is published."""
    from medbill.deid.text.engine import each

    rows = landed.to_pylist()
    made: list[Deidentified | None] = []
    for some in batches(rows, lambda row: len(row["text"]), _BATCH, _BATCH_CHARACTERS):
        made += each(engine, [row["text"] for row in some], [_record(row) for row in some], vault)
    guard.refresh()  # the identifiers just found in these notes count too
    reasons: dict[int, str] = {}
    for place, (row, done) in enumerate(zip(rows, made, strict=True)):
        if (reason := _refusal(row, done, guard)) is not None:
            reasons[place] = reason
    tokens = vault.tokenize("NOTE", landed["note_id"]).to_pylist()
    kept = [done for place, done in enumerate(made) if done is not None and place not in reasons]
    return Notes(
        landed.filter(pa.array([place not in reasons for place in range(len(rows))], pa.bool_())),
        pa.array([done.text for done in kept], pa.string()),
        {str(tokens[place]): reason for place, reason in reasons.items()},
        Counter(span.type for done in made if done is not None for span in done.spans),
    )


def leaks(texts: pa.Array, guard: Guard) -> int:
    """Hits of the egress guard in a sample of published notes, spread evenly over them."""
    every = max(1, len(texts) // SAMPLE)
    return sum(guard.inspect(text).code is not None for text in texts.to_pylist()[::every])


def _refusal(row: Mapping[str, Any], done: Deidentified | None, guard: Guard) -> str | None:
    """Why a note stays behind; None: it may be published."""
    if done is None:
        return "NOTE_TOO_HARD"
    if more_than_one(row["text"], done.spans, _record(row)):
        return "SEVERAL_PATIENTS"
    return guard.inspect(done.text).code


def _record(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in RECORD_FIELDS if row[name] is not None}
