"""What the claim scrubber reads and what it finds."""

from __future__ import annotations

import pyarrow as pa

from medbill.model.types import MONEY, QUANTITY, STRINGS, required

#: One row per claim to check; claim_index is its position, by which lines and issues name it (a claim_id may come twice).
SCRUB_CLAIMS = pa.schema(
    [
        required("claim_index", pa.int32()),
        pa.field("claim_id", pa.string()),
        pa.field("practice", pa.string()),
        pa.field("payer_id", pa.string()),
        pa.field("claim_type", pa.string()),  # professional (also where null), institutional or dme
        pa.field("patient_id", pa.string()),  # any stable key; without one nothing is checked across claims
        pa.field("patient_age_years", pa.int32()),
        pa.field("patient_sex", pa.string()),  # M or F; anything else decides nothing
        pa.field("place_of_service", pa.string()),
        pa.field("state", pa.string()),
        pa.field("mac", pa.string()),  # contractor number of a Medicare claim
        pa.field("authorization", pa.string()),
        pa.field("referring_npi", pa.string()),
        pa.field("billing_npi", pa.string()),
        required("diagnoses", STRINGS),
        required("readable", pa.bool_()),  # false: the record is no claim at all
    ]
)

SCRUB_LINES = pa.schema(
    [
        required("claim_index", pa.int32()),
        required("line_item", pa.int32()),  # different on every line of a claim, from 0 to 2**20 - 1
        pa.field("code", pa.string()),
        required("modifiers", STRINGS),
        pa.field("units", QUANTITY),
        pa.field("charge", MONEY),
        pa.field("date_of_service", pa.date32()),
        required("diagnoses", STRINGS),  # codes; empty: those of the claim
        pa.field("rendering_npi", pa.string()),
    ]
)

ISSUE_TYPES = frozenset(
    {
        "NCCI_edit",
        "MUE",
        "add_on",
        "medical_necessity",
        "modifier",
        "duplicate",
        "coding",
        "demographic",
        "payer_rule",
        "authorization",
        "timely_filing",
        "missing_information",
    }
)

#: One row per finding. severity: error (the claim fails), warning (a person looks), info (said, decides nothing).
#: evidence: JSON with codes, dates, table, version and official row. message holds codes and no date.
SCRUB_ISSUES = pa.schema(
    [
        required("claim_index", pa.int32()),
        pa.field("claim_id", pa.string()),
        pa.field("line_item", pa.int32()),  # null: the claim as a whole
        pa.field("code", pa.string()),
        required("issue_type", pa.string()),
        required("severity", pa.string()),
        required("rule_id", pa.string()),
        required("rule_version", pa.string()),
        required("message", pa.string()),
        required("evidence", pa.string()),
        required("action", pa.string()),
    ]
)

SCRUB_RESULTS = pa.schema(
    [
        required("claim_index", pa.int32()),
        pa.field("claim_id", pa.string()),
        required("validation_result", pa.string()),  # pass, needs_review, fail
        required("errors", pa.int32()),
        required("warnings", pa.int32()),
    ]
)

#: Result partition of published claims (pipelines.scrub). held: nothing but tables that are not loaded stands in its way.
SCRUBBED_CLAIMS = pa.schema(
    [
        required("claim_token", pa.string()),
        pa.field("payer_id", pa.string()),
        pa.field("payer_name", pa.string()),
        required("charge", MONEY),
        required("validation_result", pa.string()),  # pass, needs_review, fail
        required("held", pa.bool_()),
        required("errors", pa.int32()),
        required("warnings", pa.int32()),
        required("missing_tables", STRINGS),  # kinds of reference data no release of which covers the day
    ]
)

#: Its findings, as SCRUB_ISSUES but by token, and without dates of the patient in evidence.
SCRUBBED_ISSUES = pa.schema(
    [required("claim_token", pa.string()), *(f for f in SCRUB_ISSUES if f.name not in ("claim_index", "claim_id"))]
)
