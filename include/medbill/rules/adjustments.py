"""Where the dollars of each adjustment belong, and whether it denies: one reading for posting, triage and pricing.

Every adjustment goes to exactly one bucket, so the buckets of a line always add up to charge less paid:

- group PR: deductible (1), coinsurance (2), copay (3), else patient_other. Also where the reason refuses the service: then
  the payer holds the patient liable, the posting moves the dollars there, and triage still lists the denial.
- contractual: reasons by which the practice agreed to the reduction (45, 253, ...), whatever other group they come with.
- denied: reasons of a denial category.
- other: what an earlier payer did (23), pricing reductions, patient reasons outside group PR, unknown reasons.

A pricing reduction or an unknown reason that leaves nothing of a line (nothing paid, nothing for the patient, no earlier
payer) is a denial by effect and goes to denied: somebody has to look at it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medbill.rules.carc import CarcTable

if TYPE_CHECKING:
    import duckdb


def classify(connection: duckdb.DuckDBPyConnection, carcs: CarcTable) -> None:
    """Create the tables `classified` and `buckets` from the views adjustments, service_lines and claims of the connection.

    classified, one row per adjustment: claim_key, line_number (0 where claim level), sequence, group_code, reason_code,
    amount, category, stage, action, denies, bucket. buckets: its sums by claim_key and line_number, one column a bucket,
    with adjusted (all of them), unclassified (count of unknown codes) and unreadable (an amount is missing).
    """
    connection.register("carcs", carcs.table())
    connection.execute(_CLASSIFIED)
    connection.execute(_BUCKETS)


_CLASSIFIED = """
    CREATE TEMP TABLE classified AS
    WITH read AS (
        SELECT a.claim_key, coalesce(a.line_number, 0) AS line_number, a.sequence,
               coalesce(upper(trim(a.group_code)), '') AS group_code,
               coalesce(upper(trim(a.reason_code)), '') AS reason_code,
               a.amount
        FROM adjustments a
    ), known AS (
        SELECT read.*, coalesce(c.category, 'unclassified') AS category, coalesce(c.stage, 'review') AS stage,
               coalesce(c.action, 'review_reason_code') AS action
        FROM read LEFT JOIN carcs c ON c.carc = read.reason_code
    ), paid AS (
        SELECT claim_key, line_number, paid FROM service_lines
        UNION ALL
        SELECT claim_key, 0, paid FROM claims
    ), claim_level AS (
        SELECT claim_key, bool_or((group_code = 'PR' AND amount <> 0) OR category = 'prior_payer_amount') AS shared
        FROM known GROUP BY claim_key
    ), line_level AS (
        SELECT claim_key, line_number,
               bool_or((group_code = 'PR' AND amount <> 0) OR category = 'prior_payer_amount') AS shared
        FROM known WHERE line_number > 0 GROUP BY claim_key, line_number
    ), effect AS (
        SELECT p.claim_key, p.line_number, p.paid = 0 AND NOT coalesce(l.shared, c.shared, false) AS nothing_left
        FROM paid p
        LEFT JOIN line_level l USING (claim_key, line_number)
        LEFT JOIN claim_level c ON c.claim_key = p.claim_key AND p.line_number = 0
    ), judged AS (
        SELECT k.*, CASE k.stage WHEN 'not_a_denial' THEN false
                                 WHEN 'review' THEN coalesce(e.nothing_left, false)
                                 ELSE true END AS denies
        FROM known k LEFT JOIN effect e USING (claim_key, line_number)
    )
    SELECT *,
           CASE WHEN group_code = 'PR' AND reason_code = '1' THEN 'deductible'
                WHEN group_code = 'PR' AND reason_code = '2' THEN 'coinsurance'
                WHEN group_code = 'PR' AND reason_code = '3' THEN 'copay'
                WHEN group_code = 'PR' THEN 'patient_other'
                WHEN category = 'contractual' THEN 'contractual'
                WHEN denies THEN 'denied'
                ELSE 'other' END AS bucket
    FROM judged
"""

_BUCKETS = """
    CREATE TEMP TABLE buckets AS
    SELECT claim_key, line_number, coalesce(sum(amount), 0) AS adjusted,
           coalesce(sum(amount) FILTER (WHERE bucket = 'contractual'), 0) AS contractual,
           coalesce(sum(amount) FILTER (WHERE bucket = 'deductible'), 0) AS deductible,
           coalesce(sum(amount) FILTER (WHERE bucket = 'coinsurance'), 0) AS coinsurance,
           coalesce(sum(amount) FILTER (WHERE bucket = 'copay'), 0) AS copay,
           coalesce(sum(amount) FILTER (WHERE bucket = 'patient_other'), 0) AS patient_other,
           coalesce(sum(amount) FILTER (WHERE bucket = 'denied'), 0) AS denied,
           coalesce(sum(amount) FILTER (WHERE bucket = 'other'), 0) AS other,
           count(*) FILTER (WHERE category = 'unclassified') AS unclassified,
           bool_or(amount IS NULL) AS unreadable
    FROM classified GROUP BY claim_key, line_number
"""
