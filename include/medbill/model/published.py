"""De-identified tables as published after gate 2: what the de-identification policy leaves of the landing tables.

Keys are positions in immutable files, not derived from any value: remittance_key is the first 16 hex digits of
SHA-256(file SHA-256, transaction ordinal), claim_key appends "-" and the claim's ordinal in its transaction.
Columns named *_token hold vault tokens such as "[CLAIM_7KQ2...]"; service dates are generalised to the year
(45 CFR 164.514(b)(2)(i)(C)); the payment date belongs to the payment, not to a person, and is kept.
"""

from __future__ import annotations

import pyarrow as pa

from medbill.model.types import MONEY, QUANTITY, STRINGS, required

PUBLISHED_REMITTANCES = pa.schema(
    [
        required("remittance_key", pa.string()),
        pa.field("version", pa.string()),
        pa.field("production_date", pa.date32()),
        pa.field("payment_amount", MONEY),
        pa.field("credit_debit", pa.string()),
        pa.field("payment_method", pa.string()),
        pa.field("payment_date", pa.date32()),
        pa.field("trace_token", pa.string()),
        pa.field("payer_name", pa.string()),
        pa.field("payer_id", pa.string()),
        pa.field("payee_npi", pa.string()),
        pa.field("payee_tax_id", pa.string()),  # the practice's own, by which it is paid where no NPI is given
        required("claim_count", pa.int32()),
        required("service_line_count", pa.int32()),
        required("adjustment_count", pa.int32()),
        required("charge", MONEY),
        required("paid", MONEY),
        required("provider_adjustment_amount", MONEY),
        pa.field("balance_difference", MONEY),
        required("balanced", pa.bool_()),
    ]
)

PUBLISHED_REMITTANCE_CLAIMS = pa.schema(
    [
        required("claim_key", pa.string()),
        required("remittance_key", pa.string()),
        pa.field("claim_token", pa.string()),  # of the patient control number
        pa.field("claim_status", pa.string()),
        pa.field("charge", MONEY),
        pa.field("paid", MONEY),
        pa.field("patient_responsibility", MONEY),
        pa.field("filing_indicator", pa.string()),
        pa.field("payer_claim_token", pa.string()),
        pa.field("facility_type", pa.string()),
        pa.field("frequency_code", pa.string()),
        pa.field("drg_code", pa.string()),
        pa.field("patient_last_name_token", pa.string()),
        pa.field("patient_first_name_token", pa.string()),
        pa.field("member_token", pa.string()),
        pa.field("corrected_member_token", pa.string()),
        pa.field("rendering_npi", pa.string()),
        pa.field("crossover_payer_name", pa.string()),
        pa.field("crossover_payer_id", pa.string()),
        pa.field("medical_record_token", pa.string()),
        pa.field("authorization_token", pa.string()),
        pa.field("original_reference_token", pa.string()),
        pa.field("statement_from_year", pa.int16()),
        pa.field("coverage_amount", MONEY),
        pa.field("interest", MONEY),
        pa.field("remark_codes", STRINGS),
        required("is_reversal", pa.bool_()),
        required("line_count", pa.int32()),
        required("adjustment_total", MONEY),
        pa.field("balance_difference", MONEY),
        required("balanced", pa.bool_()),
    ]
)

PUBLISHED_SERVICE_LINES = pa.schema(
    [
        required("claim_key", pa.string()),
        required("line_number", pa.int32()),
        pa.field("procedure_qualifier", pa.string()),
        pa.field("procedure_code", pa.string()),
        required("modifiers", STRINGS),
        pa.field("submitted_code", pa.string()),
        required("submitted_modifiers", STRINGS),
        pa.field("charge", MONEY),
        pa.field("paid", MONEY),
        pa.field("revenue_code", pa.string()),
        pa.field("paid_units", QUANTITY),
        pa.field("submitted_units", QUANTITY),
        pa.field("service_year", pa.int16()),
        pa.field("line_token", pa.string()),  # of REF*6R
        pa.field("rendering_npi", pa.string()),
        pa.field("allowed_amount", MONEY),
        required("remark_codes", STRINGS),
        required("adjustment_total", MONEY),
        pa.field("balance_difference", MONEY),
        required("balanced", pa.bool_()),
    ]
)

PUBLISHED_ADJUSTMENTS = pa.schema(
    [
        required("claim_key", pa.string()),
        pa.field("line_number", pa.int32()),  # null: claim level
        required("sequence", pa.int32()),  # order within the claim, from 1
        pa.field("group_code", pa.string()),
        pa.field("reason_code", pa.string()),
        pa.field("amount", MONEY),
        pa.field("quantity", QUANTITY),
    ]
)

PUBLISHED_PROVIDER_ADJUSTMENTS = pa.schema(
    [
        required("remittance_key", pa.string()),
        required("sequence", pa.int32()),
        pa.field("provider_id", pa.string()),
        pa.field("fiscal_period_end", pa.date32()),
        pa.field("reason_code", pa.string()),
        pa.field("reference_token", pa.string()),
        pa.field("amount", MONEY),
    ]
)

PUBLISHED_REMITTANCE_TABLES: dict[str, pa.Schema] = {
    "remittances": PUBLISHED_REMITTANCES,
    "claims": PUBLISHED_REMITTANCE_CLAIMS,
    "service_lines": PUBLISHED_SERVICE_LINES,
    "adjustments": PUBLISHED_ADJUSTMENTS,
    "provider_adjustments": PUBLISHED_PROVIDER_ADJUSTMENTS,
}

#: The practice's own claims. claim_token and line_token are the same tokens as in the remittance tables (same vault kind).
PUBLISHED_CLAIMS = pa.schema(
    [
        required("claim_token", pa.string()),
        required("platform", pa.string()),
        pa.field("patient_token", pa.string()),
        pa.field("member_token", pa.string()),
        pa.field("payer_id", pa.string()),
        pa.field("payer_name", pa.string()),
        pa.field("rendering_npi", pa.string()),
        pa.field("place_of_service", pa.string()),
        pa.field("service_year", pa.int16()),
        pa.field("billed_date_year", pa.int16()),
        pa.field("authorization_token", pa.string()),
        pa.field("billing_status", pa.string()),
        required("charge", MONEY),
    ]
)

PUBLISHED_CLAIM_LINES = pa.schema(
    [
        required("claim_token", pa.string()),
        required("line_token", pa.string()),
        required("line_number", pa.int32()),
        pa.field("procedure_code", pa.string()),
        required("modifiers", STRINGS),
        pa.field("units", QUANTITY),
        required("charge", MONEY),
        required("diagnosis_codes", STRINGS),
    ]
)

PUBLISHED_CLAIM_TABLES: dict[str, pa.Schema] = {"claims": PUBLISHED_CLAIMS, "claim_lines": PUBLISHED_CLAIM_LINES}

#: Free text about claims, every identifier in it a token, an age over 89 "90+", of a date at most the year.
PUBLISHED_NOTES = pa.schema(
    [
        required("claim_token", pa.string()),
        required("note_token", pa.string()),
        required("note_type", pa.string()),
        pa.field("written_year", pa.int16()),
        required("text", pa.string()),
    ]
)

PUBLISHED_NOTE_TABLES: dict[str, pa.Schema] = {"notes": PUBLISHED_NOTES}
