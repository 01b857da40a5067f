"""Tables of an 835 (ASC X12 005010X221A1 and 004010X091A1), as the reader fills them.

Keys are ordinals over one read (all files given to it, in order): remittance_index counts ST/SE transactions, claim_index
CLP loops, line_index SVC loops, all from 0. They are positions, not identifiers, and carry no protected data.
Amounts keep the signs of the file: a positive adjustment reduces the payment.
"""

from __future__ import annotations

import pyarrow as pa

from medbill.model.types import MONEY, QUANTITY, STRINGS, required

#: One row per ST/SE transaction (one payment of one payer to one payee).
REMITTANCES = pa.schema(
    [
        required("remittance_index", pa.int32()),
        required("file_index", pa.int32()),  # which of the files given, from 0
        pa.field("interchange_control", pa.string()),  # ISA13
        pa.field("interchange_date", pa.date32()),  # ISA09
        pa.field("group_control", pa.string()),  # GS06
        pa.field("version", pa.string()),  # GS08
        pa.field("transaction_control", pa.string()),  # ST02
        pa.field("production_date", pa.date32()),  # DTM*405
        pa.field("handling_code", pa.string()),  # BPR01
        pa.field("payment_amount", MONEY),  # BPR02
        pa.field("credit_debit", pa.string()),  # BPR03
        pa.field("payment_method", pa.string()),  # BPR04
        pa.field("payment_date", pa.date32()),  # BPR16
        pa.field("trace_number", pa.string()),  # TRN02: check or EFT number
        pa.field("payer_trace_id", pa.string()),  # TRN03
        pa.field("payer_name", pa.string()),  # N1*PR 02
        pa.field("payer_id", pa.string()),  # N1*PR 04, else REF*2U, else TRN03
        pa.field("payee_name", pa.string()),  # N1*PE 02
        pa.field("payee_npi", pa.string()),  # N1*PE 04 where 03 is XX
        pa.field("payee_tax_id", pa.string()),  # N1*PE 04 where 03 is FI, or REF*TJ
        required("claim_count", pa.int32()),
        required("service_line_count", pa.int32()),
        required("adjustment_count", pa.int32()),
        required("charge", MONEY),  # sum of CLP03
        required("paid", MONEY),  # sum of CLP04
        required("provider_adjustment_amount", MONEY),  # sum of PLB amounts
        pa.field("balance_difference", MONEY),  # BPR02 - (sum CLP04 - sum PLB); null where an amount is unreadable
        required("balanced", pa.bool_()),  # transaction rule only
        required("complete", pa.bool_()),  # SE seen
    ]
)

#: One row per CLP loop.
REMITTANCE_CLAIMS = pa.schema(
    [
        required("remittance_index", pa.int32()),
        required("claim_index", pa.int32()),
        pa.field("patient_control_number", pa.string()),  # CLP01: the practice's own claim id
        pa.field("claim_status", pa.string()),  # CLP02
        pa.field("charge", MONEY),  # CLP03
        pa.field("paid", MONEY),  # CLP04
        pa.field("patient_responsibility", MONEY),  # CLP05 as stated by the payer
        pa.field("filing_indicator", pa.string()),  # CLP06
        pa.field("payer_claim_control_number", pa.string()),  # CLP07
        pa.field("facility_type", pa.string()),  # CLP08: place of service
        pa.field("frequency_code", pa.string()),  # CLP09
        pa.field("drg_code", pa.string()),  # CLP11
        pa.field("patient_last_name", pa.string()),  # NM1*QC
        pa.field("patient_first_name", pa.string()),
        pa.field("patient_middle_name", pa.string()),
        pa.field("patient_id", pa.string()),  # NM1*QC 09
        pa.field("insured_last_name", pa.string()),  # NM1*IL
        pa.field("insured_first_name", pa.string()),
        pa.field("insured_id", pa.string()),
        pa.field("corrected_last_name", pa.string()),  # NM1*74
        pa.field("corrected_first_name", pa.string()),
        pa.field("corrected_id", pa.string()),
        pa.field("rendering_npi", pa.string()),  # NM1*82 09 where 08 is XX
        pa.field("crossover_payer_name", pa.string()),  # NM1*TT
        pa.field("crossover_payer_id", pa.string()),
        pa.field("corrected_payer_name", pa.string()),  # NM1*PR
        pa.field("medical_record_number", pa.string()),  # REF*EA
        pa.field("group_number", pa.string()),  # REF*1L
        pa.field("authorization_number", pa.string()),  # REF*G1, REF*BB or REF*9F
        pa.field("original_reference", pa.string()),  # REF*F8
        pa.field("statement_from", pa.date32()),  # DTM*232
        pa.field("statement_to", pa.date32()),  # DTM*233
        pa.field("received_date", pa.date32()),  # DTM*050
        pa.field("coverage_expires", pa.date32()),  # DTM*036
        pa.field("coverage_amount", MONEY),  # AMT*AU
        pa.field("interest", MONEY),  # AMT*I
        pa.field("remark_codes", STRINGS),  # MIA/MOA remark codes
        required("is_reversal", pa.bool_()),  # CLP02 = 22
        required("line_count", pa.int32()),
        required("adjustment_total", MONEY),  # claim and line level
        pa.field("balance_difference", MONEY),  # CLP03 - adjustments - CLP04; null where an amount is unreadable
        required("balanced", pa.bool_()),  # claim rule and every line rule
        required("complete", pa.bool_()),  # false where the file breaks off inside this claim
    ]
)

#: One row per SVC loop.
SERVICE_LINES = pa.schema(
    [
        required("remittance_index", pa.int32()),
        required("claim_index", pa.int32()),
        required("line_index", pa.int32()),
        required("line_number", pa.int32()),  # within the claim, from 1
        pa.field("procedure_qualifier", pa.string()),  # SVC01-1: HC, AD, NU, N4, ...
        pa.field("procedure_code", pa.string()),  # SVC01-2
        required("modifiers", STRINGS),  # SVC01-3..6, empty list where none
        pa.field("submitted_code", pa.string()),  # SVC06-2 where the payer changed the code
        required("submitted_modifiers", STRINGS),
        pa.field("charge", MONEY),  # SVC02
        pa.field("paid", MONEY),  # SVC03
        pa.field("revenue_code", pa.string()),  # SVC04
        pa.field("paid_units", QUANTITY),  # SVC05; 1 where absent (TR3 default)
        pa.field("submitted_units", QUANTITY),  # SVC07
        pa.field("service_from", pa.date32()),  # DTM*472 or 150
        pa.field("service_to", pa.date32()),  # DTM*151
        pa.field("line_control_number", pa.string()),  # REF*6R
        pa.field("rendering_npi", pa.string()),  # REF*HPI
        pa.field("allowed_amount", MONEY),  # AMT*B6
        required("remark_codes", STRINGS),  # LQ*HE / LQ*RX
        required("adjustment_total", MONEY),
        pa.field("balance_difference", MONEY),  # SVC02 - adjustments - SVC03
        required("balanced", pa.bool_()),
    ]
)

#: One row per CAS triplet, claim or line level.
ADJUSTMENTS = pa.schema(
    [
        required("remittance_index", pa.int32()),
        required("claim_index", pa.int32()),
        pa.field("line_index", pa.int32()),  # null: claim level
        pa.field("group_code", pa.string()),  # CO, PR, OA, PI, CR
        pa.field("reason_code", pa.string()),  # CARC
        pa.field("amount", MONEY),
        pa.field("quantity", QUANTITY),
    ]
)

#: One row per PLB pair.
PROVIDER_ADJUSTMENTS = pa.schema(
    [
        required("remittance_index", pa.int32()),
        pa.field("provider_id", pa.string()),  # PLB01
        pa.field("fiscal_period_end", pa.date32()),  # PLB02
        pa.field("reason_code", pa.string()),  # PLB03-1
        pa.field("reference", pa.string()),  # PLB03-2
        pa.field("amount", MONEY),
    ]
)

#: What the reader noticed. `place` is a position (transaction, claim, segment numbers); message carries no value from the file
#: except code values of public code sets.
PROBLEMS = pa.schema(
    [
        required("code", pa.string()),
        required("severity", pa.string()),  # error: data unusable or does not balance; warning; info
        required("place", pa.string()),
        required("message", pa.string()),
        pa.field("remittance_index", pa.int32()),
        pa.field("claim_index", pa.int32()),
        pa.field("line_index", pa.int32()),
    ]
)

#: name of the Parquet file and table -> schema
ERA_TABLES: dict[str, pa.Schema] = {
    "remittances": REMITTANCES,
    "claims": REMITTANCE_CLAIMS,
    "service_lines": SERVICE_LINES,
    "adjustments": ADJUSTMENTS,
    "provider_adjustments": PROVIDER_ADJUSTMENTS,
    "problems": PROBLEMS,
}
