"""Claims as JSON Lines (docs/rules/scrub.md has the fields), to the tables the scrubber reads.

What cannot be read is left empty, and the scrubber says that it is missing; a record that is no claim stays one record,
marked unreadable. No record stops another.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from datetime import date
from decimal import Decimal, InvalidOperation
from itertools import islice
from typing import Any

import pyarrow as pa

from medbill.model.scrub import SCRUB_CLAIMS, SCRUB_LINES

#: A claim as JSON text, or read already; None is one that could not be read.
Record = str | dict[str, Any] | None

_POINTER = re.compile(r"[1-9]|1[0-2]|[A-L]")
#: Claims of one patient may be anywhere in a file; it is cut only where it is larger than this.
BATCH_CLAIMS = 400_000
_LONGEST = 10_000


def batches(records: Iterable[Record], most: int = BATCH_CLAIMS) -> Iterator[tuple[pa.Table, pa.Table]]:
    """(claims, lines) of at most so many records; blank lines are no records."""
    source = (record for record in records if not isinstance(record, str) or record.strip())
    while chunk := list(islice(source, most)):
        yield tables(chunk)


def tables(records: Iterable[Record]) -> tuple[pa.Table, pa.Table]:
    """The claims and lines of records, one claim each."""
    claims: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []
    for index, record in enumerate(records):
        claims.append(_claim(index, _parsed(record), lines))
    return pa.Table.from_pylist(claims, schema=SCRUB_CLAIMS), pa.Table.from_pylist(lines, schema=SCRUB_LINES)


def _parsed(record: Record) -> dict[str, Any] | None:
    if not isinstance(record, str):
        return record
    try:
        found = json.loads(record, parse_float=Decimal)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _claim(index: int, record: dict[str, Any] | None, lines: list[dict[str, Any]]) -> dict[str, Any]:
    readable = record is not None
    record = record or {}
    patient = record.get("patient")
    patient = patient if isinstance(patient, dict) else {}
    diagnoses = _texts(record.get("diagnoses"))
    found = record.get("lines")
    given = [line if isinstance(line, dict) else {} for line in (found if isinstance(found, list) else [])]
    items = [_number(line.get("line_item")) for line in given]
    if len(set(items)) < len(items) or not all(n is not None and 0 <= n < 2**20 and n == int(n) for n in items):
        items = [Decimal(n) for n in range(1, len(given) + 1)]  # by position, where they do not number the lines
    for item, line in zip(items, given, strict=True):
        lines.append(_line(index, int(item or 0), line, diagnoses))
    age = _number(patient.get("age_years"))
    return {
        "claim_index": index,
        "claim_id": _text(record.get("claim_id")),
        "practice": _text(record.get("practice")),
        "payer_id": _text(record.get("payer_id")),
        "claim_type": _text(record.get("claim_type")),
        "patient_id": _text(patient.get("id")),
        "patient_age_years": int(age) if age is not None and 0 <= age < 1000 else None,
        "patient_sex": _text(patient.get("sex")),
        "place_of_service": _text(record.get("place_of_service")),
        "state": _text(record.get("state")),
        "mac": _text(record.get("mac")),
        "authorization": _text(record.get("authorization")),
        "referring_npi": _text(record.get("referring_npi")),
        "billing_npi": _text(record.get("billing_npi")),
        "diagnoses": diagnoses,
        "readable": readable,
    }


def _line(index: int, item: int, line: dict[str, Any], diagnoses: list[str]) -> dict[str, Any]:
    return {
        "claim_index": index,
        "line_item": item,
        "code": _text(line.get("code")),
        "modifiers": _texts(line.get("modifiers")),
        "units": _quantity(line.get("units"), 3),
        "charge": _quantity(line.get("charge"), 2),
        "date_of_service": _day(line.get("date_of_service")),
        "diagnoses": _pointed(line.get("diagnoses"), diagnoses),
        "rendering_npi": _text(line.get("rendering_npi")),
    }


def _pointed(value: object, diagnoses: list[str]) -> list[str]:
    """Codes, or pointers into the claim's list (1 to 12, A to L) as a claim form has them."""
    found = []
    for text in _texts(value):
        if _POINTER.fullmatch(text.upper()):
            at = int(text) if text.isdigit() else ord(text.upper()) - 64
            if at <= len(diagnoses):
                found.append(diagnoses[at - 1])
            continue
        found.append(text)
    return found


def _text(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value).strip() if isinstance(value, str) or abs(value) < 10**18 else ""
    usable = text and len(text) <= _LONGEST and text.isprintable()
    return text if usable else None


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        return []
    return [text for item in value if (text := _text(item)) is not None]


def _number(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        return None
    try:
        number = Decimal(str(value).strip()) if not isinstance(value, int) or abs(value) < 10**18 else Decimal("NaN")
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _quantity(value: object, decimals: int) -> Decimal | None:
    """Exact; with more decimals than the schema has, or beyond 18 digits, it is unreadable."""
    number = _number(value)
    if number is None or abs(number) >= 10 ** (18 - decimals):
        return None
    scaled = number.quantize(Decimal(1).scaleb(-decimals))
    return scaled if scaled == number else None


def _day(value: object) -> date | None:
    if not isinstance(value, str) or not re.fullmatch(r"\d{4}-?\d{2}-?\d{2}", value.strip()):
        return None
    try:
        return date.fromisoformat(value.strip())
    except ValueError:
        return None
