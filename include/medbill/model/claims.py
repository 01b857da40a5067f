"""Claims as the practice billed them, read from its billing platform."""

from __future__ import annotations

import pyarrow as pa

from medbill.model.types import MONEY, QUANTITY, STRINGS, required

#: One row per billed claim (DrChrono: one appointment). claim_id is what the practice sends as CLM01 and gets back in CLP01.
CLAIMS = pa.schema(
    [
        required("claim_id", pa.string()),
        required("platform", pa.string()),
        pa.field("patient_id", pa.string()),
        pa.field("patient_last_name", pa.string()),
        pa.field("patient_first_name", pa.string()),
        pa.field("patient_birth_date", pa.date32()),
        pa.field("member_id", pa.string()),
        pa.field("payer_id", pa.string()),
        pa.field("payer_name", pa.string()),
        pa.field("rendering_npi", pa.string()),
        pa.field("place_of_service", pa.string()),
        pa.field("service_date", pa.date32()),
        pa.field("billed_date", pa.date32()),
        pa.field("authorization_number", pa.string()),
        pa.field("billing_status", pa.string()),
        required("charge", MONEY),
    ]
)

#: One row per billed service line. line_id is what the practice sends as REF*6R and may get back in the 835.
CLAIM_LINES = pa.schema(
    [
        required("claim_id", pa.string()),
        required("line_id", pa.string()),
        required("line_number", pa.int32()),
        pa.field("procedure_code", pa.string()),
        required("modifiers", STRINGS),
        pa.field("units", QUANTITY),
        required("charge", MONEY),
        required("diagnosis_codes", STRINGS),
    ]
)

#: One row per free text about a claim, with what the record says of its patient: the de-identification searches the text
#: for it, and drops it. note_type: appointment (the visit's note) or billing (a note on the claim).
NOTES = pa.schema(
    [
        required("claim_id", pa.string()),
        required("note_id", pa.string()),
        required("note_type", pa.string()),
        pa.field("written_on", pa.date32()),
        required("text", pa.string()),
        pa.field("patient_id", pa.string()),
        pa.field("patient_last_name", pa.string()),
        pa.field("patient_first_name", pa.string()),
        pa.field("patient_birth_date", pa.date32()),
        pa.field("member_id", pa.string()),
        pa.field("authorization_number", pa.string()),
    ]
)

CLAIM_TABLES: dict[str, pa.Schema] = {"claims": CLAIMS, "claim_lines": CLAIM_LINES}
NOTE_TABLES: dict[str, pa.Schema] = {"notes": NOTES}
