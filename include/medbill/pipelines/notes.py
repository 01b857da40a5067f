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

from medbill.deid.text.errors import TextTooHard
from medbill.deid.text.patients import more_than_one

if TYPE_CHECKING:
    from medbill.deid.egress import Guard
    from medbill.deid.text.engine import Engine
    from medbill.deid.vault import Vault

#: Notes per batch, at most so many and of so many characters together: what one vault transaction covers, and memory.
_BATCH = 256
_BATCH_CHARACTERS = 2_000_000
#: Published notes that gate 2 looks at again.
SAMPLE = 50
RECORD_FIELDS = (
    "claim_id",
    "patient_id",
    "patient_last_name",
    "patient_first_name",
    "patient_birth_date",
    "member_id",
    "authorization_number",
)
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
    rows = landed.to_pylist()
    texts: list[str | None] = []
    reasons: dict[int, str] = {}
    found: Counter[str] = Counter()
    at = 0
    while at < len(rows):
        stop, size = at, 0
        while (
            stop < len(rows)
            and stop - at < _BATCH
            and (stop == at or size + len(rows[stop]["text"]) < _BATCH_CHARACTERS)
        ):
            size += len(rows[stop]["text"])
            stop += 1
        for row, (text, reason, kinds) in enumerate(_batch(rows[at:stop], vault, engine), at):
            texts.append(text)
            found.update(kinds)
            if reason is not None:
                reasons[row] = reason
        at = stop
    guard.refresh()  # the identifiers just found in these notes count too
    for row, text in enumerate(texts):
        if text is not None and row not in reasons and (code := guard.inspect(text).code) is not None:
            reasons[row] = code
    tokens = vault.tokenize("NOTE", landed["note_id"]).to_pylist()
    keep = pa.array([row not in reasons for row in range(len(rows))], pa.bool_())
    return Notes(
        landed.filter(keep),
        pa.array([text for row, text in enumerate(texts) if row not in reasons], pa.string()),
        {str(tokens[row]): reason for row, reason in reasons.items()},
        found,
    )


def leaks(texts: pa.Array, guard: Guard) -> int:
    """Hits of the egress guard in a sample of published notes, spread evenly over them."""
    every = max(1, len(texts) // SAMPLE)
    return sum(guard.inspect(text).code is not None for text in texts.to_pylist()[::every])


def _batch(rows: list[dict[str, Any]], vault: Vault, engine: Engine) -> list[tuple[str | None, str | None, list[str]]]:
    """(text, reason it is refused for, types found) of each row; one that is too hard does not stop the others."""
    try:
        made = engine.deidentify([row["text"] for row in rows], [_record(row) for row in rows], vault)
    except TextTooHard:
        if len(rows) == 1:
            return [(None, "NOTE_TOO_HARD", [])]
        return [one for row in rows for one in _batch([row], vault, engine)]
    return [
        (
            done.text,
            "SEVERAL_PATIENTS" if more_than_one(row["text"], done.spans, _record(row)) else None,
            [span.type for span in done.spans],
        )
        for row, done in zip(rows, made, strict=True)
    ]


def _record(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in RECORD_FIELDS if row[name] is not None}
