"""What the rules conclude: postings, holds, underpayments and denials. De-identified: tokens, codes, amounts, years."""

from __future__ import annotations

import pyarrow as pa

from medbill.model.types import MONEY, QUANTITY, STRINGS, required

#: One row per remittance claim that can be posted. paid + contractual + patient_responsibility + other + denied = charge.
POSTINGS = pa.schema(
    [
        required("claim_key", pa.string()),
        required("remittance_key", pa.string()),
        required("claim_token", pa.string()),
        pa.field("payer_id", pa.string()),
        pa.field("payer_name", pa.string()),
        pa.field("payment_date", pa.date32()),
        pa.field("trace_token", pa.string()),
        pa.field("claim_status", pa.string()),
        required("is_reversal", pa.bool_()),
        required("charge", MONEY),
        required("paid", MONEY),
        required("contractual", MONEY),  # adjustments of a contractual category (CO-45 and kin)
        required("patient_responsibility", MONEY),  # group PR
        required("denied", MONEY),  # adjustments of a denial category
        required("other", MONEY),  # the rest, e.g. OA-23
        pa.field("note", pa.string()),  # e.g. the deposit has quarantined claims; codes and counts only
    ]
)

#: How a posting is allocated to the practice's service lines; claim-level adjustments have line_number 0 and no line_token.
POSTING_LINES = pa.schema(
    [
        required("claim_key", pa.string()),
        required("line_number", pa.int32()),
        pa.field("line_token", pa.string()),
        required(
            "matched_by", pa.string()
        ),  # line_control_number, code_modifiers_charge, code_charge, position, claim_level
        pa.field("procedure_code", pa.string()),
        required("charge", MONEY),
        required("paid", MONEY),
        required("contractual", MONEY),
        required("deductible", MONEY),  # PR-1
        required("coinsurance", MONEY),  # PR-2
        required("copay", MONEY),  # PR-3
        required("patient_other", MONEY),  # other PR
        required("denied", MONEY),
        required("other", MONEY),
    ]
)

#: Remittance claims that a person must look at before anything is posted.
HOLDS = pa.schema(
    [
        required("claim_key", pa.string()),
        required("remittance_key", pa.string()),
        pa.field("claim_token", pa.string()),
        required(
            "reason_code", pa.string()
        ),  # UNMATCHED_CLAIM, AMBIGUOUS_CLAIM, OTHER_PRACTICE, CLAIM_UNBALANCED, LINES_UNMATCHED, ...
        required("reason", pa.string()),
        pa.field("charge", MONEY),
        pa.field("paid", MONEY),
    ]
)

UNDERPAYMENTS = pa.schema(
    [
        required("claim_key", pa.string()),
        required("remittance_key", pa.string()),
        required("claim_token", pa.string()),
        required("line_number", pa.int32()),
        pa.field("line_token", pa.string()),
        pa.field("payer_id", pa.string()),
        pa.field("payer_name", pa.string()),
        pa.field("payment_date", pa.date32()),
        required("contract_id", pa.string()),
        required("contract_version", pa.string()),
        required("procedure_code", pa.string()),
        required("modifiers", STRINGS),
        required("units", QUANTITY),
        required("charge", MONEY),
        required("allowed", MONEY),
        required("allowed_basis", pa.string()),  # AMT_B6 or PAID_PLUS_PATIENT
        required("expected", MONEY),
        required("variance", MONEY),  # expected - allowed, positive
        required("explanation", pa.string()),
    ]
)

#: One row per denying adjustment triplet of a claim that is not a reversal and was not reversed since.
DENIALS = pa.schema(
    [
        required("denial_key", pa.string()),  # claim_key / line_number / sequence
        required("claim_key", pa.string()),
        required("remittance_key", pa.string()),
        required("claim_token", pa.string()),
        pa.field("line_number", pa.int32()),
        pa.field("line_token", pa.string()),
        pa.field("payer_id", pa.string()),
        pa.field("payer_name", pa.string()),
        pa.field("rendering_npi", pa.string()),
        pa.field("procedure_code", pa.string()),
        required("modifiers", STRINGS),
        pa.field("payment_date", pa.date32()),
        pa.field("service_year", pa.int16()),
        required("group_code", pa.string()),
        required("reason_code", pa.string()),
        required("remark_codes", STRINGS),
        required("category", pa.string()),
        required("stage", pa.string()),
        required("action", pa.string()),
        required("appealable", pa.bool_()),  # false where only a corrected claim is allowed (MA130) or nothing is
        required("denied", MONEY),
        required("recoverable", MONEY),
        pa.field("deadline", pa.date32()),
        required("deadline_basis", pa.string()),  # which policy row gave it
        required("priority", pa.int32()),  # 1 = first; dense rank inside the partition
    ]
)
