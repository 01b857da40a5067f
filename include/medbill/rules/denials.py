"""Triage: what each denial of a partition is, what to do about it, by when, and what it is worth.

Rules only, from reason, remark and group codes. One row per denying adjustment of a posted claim. See
docs/rules/denials.md for the reading of each code and for what counts as recoverable.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa

from medbill.model.results import DENIALS
from medbill.rules import contracts, sql
from medbill.rules.adjustments import classify
from medbill.rules.carc import ACTIONS, CarcTable
from medbill.rules.contracts import Contracts
from medbill.rules.deadlines import Deadlines

if TYPE_CHECKING:
    import duckdb

#: Categories whose dollars are not to be had again. duplicate: they are those of the original claim, counted there.
#: timely_filing: lost unless somebody finds proof of timely filing, which no remittance shows.
NOT_RECOVERABLE = ("duplicate", "timely_filing")
#: Categories in which a patient who is held liable (group PR) may have other coverage; the rest is a benefit question.
_COVERAGE_QUESTION = ("coordination_of_benefits", "eligibility_coverage", "registration_demographic")


def triage(
    remittance: Mapping[str, pa.Table], lines: pa.Table, carcs: CarcTable, limits: Deadlines, agreed: Contracts
) -> pa.Table:
    """The denials of one partition's posted claims, sorted by priority. Schema DENIALS.

    remittance: PUBLISHED_REMITTANCE_TABLES. lines: POSTING_LINES of the same partition; claims that are held are not in
    it and are triaged once they are posted. Left out: reversals, claims a reversal in the same tables takes back, and
    denying amounts that are zero, negative, or taken back on the same line. Dollars are exact; the same input gives
    the same rows in the same order, whatever the order of its rows.
    """
    connection = sql.connect(
        remittances=remittance["remittances"],
        claims=remittance["claims"],
        service_lines=remittance["service_lines"],
        adjustments=remittance["adjustments"],
        lines=lines,
        refinements=carcs.refinement_table(),
        refinable=sql.rows({"carc": pa.string()}, [(c,) for c in sorted(carcs.refinable)]),
        corrected_only=sql.rows({"remark_code": pa.string()}, [(c,) for c in sorted(carcs.corrected_claim_only)]),
        action_kinds=sql.rows({"action": pa.string(), "kind": pa.string()}, ACTIONS.items()),
        not_recoverable=sql.rows({"category": pa.string()}, [(c,) for c in NOT_RECOVERABLE]),
        coverage_questions=sql.rows({"category": pa.string()}, [(c,) for c in _COVERAGE_QUESTION]),
        urgency=sql.rows(
            {"within_days": pa.int32(), "weight": pa.decimal128(6, 2)},
            [(u.within_days, u.weight) for u in limits.urgency],
        ),
    )
    with connection:
        classify(connection, carcs)
        contracts.expect(connection, agreed)
        taken_back = sql.rows({"claim_key": pa.string()}, [(key,) for key in _taken_back(connection)])
        connection.register("taken_back", taken_back)
        connection.execute(_REMARKS)
        connection.execute(_DENIED)
        connection.execute(_RATIOS)
        connection.register("deadlines", _deadlines(connection, limits))
        connection.execute(_RECOVERABLE)
        return sql.fetch(connection, _RANKED, DENIALS)


def _taken_back(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Claims that a later reversal takes back: same claim token and payer, opposite charge and payment.

    One reversal takes back one claim, the latest before it. Within a payment, order is the order of the file; two
    payments of one day have no order, so each may take back the other's claims.
    """
    rows = connection.execute("""
        WITH event AS (
            SELECT c.claim_key, c.claim_token, coalesce(r.payer_id, r.payer_name, '') AS payer, c.is_reversal,
                   CASE WHEN c.is_reversal THEN -c.charge ELSE c.charge END AS charge,
                   CASE WHEN c.is_reversal THEN -c.paid ELSE c.paid END AS paid,
                   coalesce(r.payment_date, r.production_date, DATE '0001-01-01') AS day, c.remittance_key,
                   coalesce(try_cast(split_part(c.claim_key, '-', -1) AS INTEGER), 0) AS ordinal
            FROM claims c JOIN remittances r USING (remittance_key)
            WHERE c.claim_token IS NOT NULL AND c.charge IS NOT NULL AND c.paid IS NOT NULL
        )
        SELECT claim_token, payer, charge, paid, is_reversal, day, remittance_key, ordinal, claim_key FROM event
        WHERE (claim_token, payer, charge, paid) IN
              (SELECT (claim_token, payer, charge, paid) FROM event WHERE is_reversal)
        ORDER BY claim_token, payer, charge, paid, day, remittance_key, ordinal, claim_key
    """).fetchall()
    originals: dict[tuple[object, ...], list[tuple[date, str, int, str]]] = {}
    reversals: dict[tuple[object, ...], list[tuple[date, str, int, str]]] = {}
    for *same, is_reversal, day, payment, ordinal, key in rows:
        (reversals if is_reversal else originals).setdefault(tuple(same), []).append((day, payment, ordinal, key))
    found: list[str] = []
    for same_key, group in reversals.items():
        left = originals.get(same_key, [])
        for day, payment, ordinal, _ in group:
            earlier = [
                (o[1] == payment, o)
                for o in left
                if o[0] < day or (o[0] == day and (o[1] != payment or o[2] < ordinal))
            ]
            if earlier:
                # of the same payment first, then the latest: a reversal is followed by its correction, not preceded
                taken = max(earlier)[1]
                left.remove(taken)
                found.append(taken[3])
    return sorted(found)


# A line's own remark codes, and those of the claim that decide something; a claim-level denial has the claim's.
_REMARKS = """
    CREATE TEMP TABLE remarks AS
    WITH telling AS (
        SELECT remark_code FROM refinements UNION SELECT remark_code FROM corrected_only
    ), stated AS (
        SELECT claim_key, line_number, upper(trim(unnest(remark_codes))) AS remark_code, 1 AS level FROM service_lines
        UNION ALL
        SELECT claim_key, 0, upper(trim(unnest(remark_codes))), 1 FROM claims
        UNION ALL
        SELECT l.claim_key, l.line_number, c.remark_code, 2
        FROM service_lines l
        JOIN (SELECT claim_key, upper(trim(unnest(remark_codes))) AS remark_code FROM claims) c USING (claim_key)
        WHERE c.remark_code IN (SELECT remark_code FROM telling)
    )
    SELECT claim_key, line_number, remark_code, min(level) AS level FROM stated
    WHERE remark_code IS NOT NULL AND remark_code <> '' GROUP BY ALL;
"""

# net: what is left of a reason on a line after the payer took some of it back there
_DENIED = """
    CREATE TEMP TABLE denied AS
    WITH netted AS (
        SELECT a.*, sum(amount) OVER same AS net, min(amount) OVER same AS least_amount,
               min(CASE WHEN amount > 0 THEN sequence END) OVER same AS first_positive
        FROM classified a
        WHERE a.denies
        WINDOW same AS (PARTITION BY claim_key, line_number, group_code, reason_code)
    ), counted AS (
        SELECT * EXCLUDE (net, least_amount, first_positive, amount),
               CASE WHEN least_amount < 0 THEN net ELSE amount END AS amount
        FROM netted
        WHERE amount > 0 AND net > 0 AND (least_amount >= 0 OR sequence = first_positive)
    ), codes AS (
        SELECT claim_key, line_number, list_sort(list(remark_code)) AS remark_codes,
               bool_or(remark_code IN (SELECT remark_code FROM corrected_only)) AS corrected_only
        FROM remarks GROUP BY ALL
    ), refined AS (
        SELECT r.claim_key, r.line_number, arg_min(f, r.level * 100000 + f.position) AS f
        FROM remarks r JOIN refinements f USING (remark_code) GROUP BY ALL
    ), read AS (
        SELECT c.claim_key, c.line_number, c.sequence, c.group_code, c.reason_code, c.amount,
               CASE WHEN u.carc IS NULL THEN c.category ELSE coalesce(f.f.category, c.category) END AS category,
               CASE WHEN u.carc IS NULL THEN c.stage ELSE coalesce(f.f.stage, c.stage) END AS stage,
               CASE WHEN u.carc IS NULL THEN c.action ELSE coalesce(f.f.action, c.action) END AS action,
               coalesce(k.remark_codes, []) AS remark_codes, coalesce(k.corrected_only, false) AS corrected_only
        FROM counted c
        LEFT JOIN refinable u ON u.carc = c.reason_code
        LEFT JOIN refined f ON f.claim_key = c.claim_key AND f.line_number = c.line_number
        LEFT JOIN codes k ON k.claim_key = c.claim_key AND k.line_number = c.line_number
    ), acted AS (
        SELECT * REPLACE (
            CASE WHEN corrected_only THEN 'corrected_claim'
                 WHEN group_code = 'PR' AND category IN (SELECT category FROM coverage_questions)
                 THEN 'verify_coverage_or_bill_patient'
                 WHEN group_code = 'PR' THEN 'benefit_review_or_bill_patient'
                 ELSE action END AS action)
        FROM read
    )
    SELECT d.*, c.remittance_key, c.claim_token, c.claim_status, c.filing_indicator, r.payer_id, r.payer_name,
           coalesce(r.payer_id, r.payer_name, '') AS payer, r.payment_date, p.line_token,
           coalesce(l.rendering_npi, c.rendering_npi) AS rendering_npi, b.code AS procedure_code,
           coalesce(b.modifiers, []) AS modifiers, coalesce(l.service_year, c.statement_from_year) AS service_year,
           k.kind, NOT d.corrected_only AND k.kind IS NOT NULL AS appealable,
           coalesce(p.paid + p.deductible + p.coinsurance + p.copay, 0) AS settled
    FROM acted d
    JOIN claims c ON c.claim_key = d.claim_key AND NOT c.is_reversal
    JOIN remittances r ON r.remittance_key = c.remittance_key
    JOIN action_kinds k ON k.action = d.action
    JOIN lines p ON p.claim_key = d.claim_key AND p.line_number = d.line_number
    LEFT JOIN service_lines l ON l.claim_key = d.claim_key AND l.line_number = d.line_number
    LEFT JOIN billing b ON b.claim_key = d.claim_key AND b.line_number = d.line_number
    WHERE d.claim_key NOT IN (SELECT claim_key FROM taken_back);
"""

# What a payer allows of a dollar charged, from the lines it paid as the only or first payer in these tables.
_RATIOS = """
    CREATE TEMP TABLE ratios AS
    WITH counted AS (
        SELECT coalesce(r.payer_id, r.payer_name, '') AS payer, l.charge,
               coalesce(l.allowed_amount, p.paid + p.deductible + p.coinsurance + p.copay) AS allowed
        FROM lines p
        JOIN claims c ON c.claim_key = p.claim_key AND NOT c.is_reversal
        JOIN remittances r USING (remittance_key)
        JOIN service_lines l ON l.claim_key = p.claim_key AND l.line_number = p.line_number
        WHERE p.denied = 0 AND p.patient_other = 0 AND l.charge > 0
              AND p.claim_key NOT IN (SELECT claim_key FROM secondary)
    )
    SELECT payer, (sum(least(allowed, charge))::DECIMAL(18, 2) * 100)::HUGEINT AS allowed,
           (sum(charge)::DECIMAL(18, 2) * 100)::HUGEINT AS charge
    FROM counted WHERE allowed > 0 GROUP BY payer;
"""


def _deadlines(connection: duckdb.DuckDBPyConnection, limits: Deadlines) -> pa.Table:
    """Days and basis for each payer, filing indicator and kind of filing that occurs."""
    wanted = connection.execute("""
        SELECT DISTINCT coalesce(payer_id, ''), coalesce(filing_indicator, ''), kind
        FROM denied WHERE kind IS NOT NULL ORDER BY ALL
    """).fetchall()
    return sql.rows(
        {
            "payer_id": pa.string(),
            "filing_indicator": pa.string(),
            "kind": pa.string(),
            "days": pa.int32(),
            "basis": pa.string(),
        },
        [(p, f, k, limit.days, limit.basis) for p, f, k in wanted if (limit := limits.limit(p or None, f or None, k))],
    )


# Dollars of a line are handed to its denials in the order of the file, so several reasons never count them twice.
_RECOVERABLE = """
    CREATE TEMP TABLE valued AS
    WITH able AS (
        SELECT d.*, CASE WHEN category IN (SELECT category FROM not_recoverable) THEN 0 ELSE amount END AS at_stake,
               claim_key IN (SELECT claim_key FROM secondary) AS secondary
        FROM denied d
    ), summed AS (
        SELECT *, (sum(at_stake) OVER line)::DECIMAL(18, 2) AS line_at_stake,
               coalesce(sum(at_stake) OVER (line ORDER BY sequence ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)
                   AS before
        FROM able
        WINDOW line AS (PARTITION BY claim_key, line_number)
    ), estimated AS (
        SELECT s.*, CASE WHEN s.secondary THEN s.line_at_stake
                         WHEN e.expected IS NOT NULL THEN greatest(e.expected - s.settled, 0)
                         WHEN r.charge IS NOT NULL
                         THEN ((((s.line_at_stake * 100)::HUGEINT * r.allowed * 2 + r.charge) // (r.charge * 2))
                               ::DECIMAL(20, 0) * 0.01)::DECIMAL(18, 2)
                         ELSE s.line_at_stake END AS estimate
        FROM summed s
        LEFT JOIN expected e USING (claim_key, line_number)
        LEFT JOIN ratios r USING (payer)
    )
    SELECT *, greatest(0, least(at_stake, least(estimate, line_at_stake) - before))::DECIMAL(18, 2) AS recoverable
    FROM estimated;
"""


_RANKED = """
    WITH dated AS (
        SELECT v.*, (v.payment_date + t.days)::DATE AS deadline,
               CASE WHEN v.kind IS NULL THEN 'none: nothing to file'
                    WHEN v.payment_date IS NULL THEN 'none: no payment date'
                    ELSE t.basis END AS deadline_basis,
               max(v.payment_date) OVER () AS as_of
        FROM valued v
        LEFT JOIN deadlines t ON t.payer_id = coalesce(v.payer_id, '')
             AND t.filing_indicator = coalesce(v.filing_indicator, '') AND t.kind = v.kind
    ), weighed AS (
        SELECT d.*,
               recoverable * coalesce((SELECT arg_min(u.weight, u.within_days) FROM urgency u
                                       WHERE d.deadline - d.as_of <= u.within_days), 1) AS score,
               claim_key || '/' || line_number || '/' || sequence AS denial_key
        FROM dated d
    )
    SELECT * EXCLUDE (amount), amount AS denied,
           row_number() OVER (ORDER BY score DESC, recoverable DESC, deadline NULLS LAST, amount DESC, denial_key)
               AS priority
    FROM weighed ORDER BY priority
"""
