"""Posting: which billed claim and lines a remittance claim pays, and how its dollars are to be allocated.

Set-based over one partition. Every published remittance claim ends in postings or in holds, never in both. Lines are
matched in the order billing offices use: the practice's own line number (REF*6R), then code, modifiers and charge, then
code and charge, then the single line that is left. Balance rules: X221A1 section 1.10.2.1. See docs/rules/posting.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import pyarrow as pa
import pyarrow.compute as pc

from medbill.errors import BadInput
from medbill.model.results import HOLDS, POSTING_LINES, POSTINGS
from medbill.rules import sql
from medbill.rules.adjustments import classify
from medbill.rules.carc import CarcTable
from medbill.settings import Practice

#: Why a claim is held, for the person who looks at it; the first that applies, in this order.
HOLD_REASONS = {
    "REMITTANCE_MISSING": "the payment this claim belongs to is not among the published ones",
    "PAYEE_NOT_STATED": "the remittance names no payee by NPI or tax id, so whose payment it is cannot be told",
    "OTHER_PRACTICE": "the payee is not this practice; the payment belongs to somebody else",
    "PAYMENT_REPEATED": "the payer sent this payment before, under the same trace number and with the same content; the first"
    " one is the one to post",
    "PAYMENT_CHANGED": "the payer sent a payment of this trace number before, with other content; compare the two, and post by"
    " hand what only this one has",
    "MISSING_CLAIM_ID": "the payer returned no claim number of the practice (CLP01)",
    "TRANSACTION_UNBALANCED": "the payment is not the sum of its claims less provider adjustments",
    "CLAIM_UNBALANCED": "charge less adjustments is not the amount paid, on the claim or on one of its lines",
    "PREDETERMINATION": "a price given in advance (claim status 25); nothing was paid and nothing is to be posted",
    "AMBIGUOUS_CLAIM": "the claim number belongs to more than one claim of the practice",
    "UNMATCHED_CLAIM": "the practice has billed no claim with this number, as far as was extracted",
    "LINE_CHARGE_DIFFERS": "a line comes back under the practice's line number with another charge",
    "LINES_UNMATCHED": "a line cannot be matched to one line the practice billed",
}

#: Holds that another state of the practice's own claims may resolve.
OF_PRACTICE_CLAIMS = frozenset({"AMBIGUOUS_CLAIM", "UNMATCHED_CLAIM", "LINE_CHARGE_DIFFERS", "LINES_UNMATCHED"})


@dataclass(frozen=True)
class PostingResult:
    """postings: one row per claim to post. lines: its allocation. holds: every other claim. Sorted by key, one chunk."""

    postings: pa.Table
    lines: pa.Table
    holds: pa.Table


#: Ways to match, in order: the key both lines must share (position in `keys`), the name of the way, whether the key must
#: leave no choice between billed lines, whether it is only for a claim with one line left.
_PASSES = (
    {"key": 1, "matched_by": "line_control_number", "alone": False, "last": False},
    {"key": 2, "matched_by": "code_modifiers_charge", "alone": False, "last": False},
    {"key": 3, "matched_by": "code_charge", "alone": True, "last": False},
    {"key": 4, "matched_by": "code_charge", "alone": True, "last": False},
    {"key": 5, "matched_by": "position", "alone": True, "last": True},
)


def match(
    remittance: Mapping[str, pa.Table],
    claims: Mapping[str, pa.Table],
    practice: Practice,
    carcs: CarcTable,
    quarantined_by_remittance: Mapping[str, int],
    repeated: Mapping[str, str] = MappingProxyType({}),
) -> PostingResult:
    """Match one partition's published remittance claims to the practice's published claims.

    remittance: PUBLISHED_REMITTANCE_TABLES. claims: PUBLISHED_CLAIM_TABLES, at least those the remittance names.
    quarantined_by_remittance: claims in quarantine by remittance key; their deposits get a note.
    repeated: PAYMENT_REPEATED or PAYMENT_CHANGED by remittance key, of payments that came before in another transaction.
    For each posting line, paid + contractual + deductible + coinsurance + copay + patient_other + denied + other is its
    charge, and the lines of a claim add up to its posting. Row order of the input does not matter.
    Raises BadInput where a claim key occurs twice: the input is not one published partition.
    """
    keys = remittance["claims"]["claim_key"]
    if pc.count_distinct(keys).as_py() != len(keys):
        raise BadInput("a claim key occurs twice; give one published version of a partition", code="DUPLICATE_KEY")
    connection = sql.connect(
        remittances=remittance["remittances"],
        claims=remittance["claims"],
        service_lines=remittance["service_lines"],
        adjustments=remittance["adjustments"],
        billed_claims=claims["claims"],
        billed_lines=claims["claim_lines"],
        payees=sql.rows({"payee": pa.string()}, [(p,) for p in sorted(practice.npis | practice.tax_ids)]),
        quarantined=sql.rows(
            {"remittance_key": pa.string(), "claims": pa.int64()}, sorted(quarantined_by_remittance.items())
        ),
        repeated=sql.rows({"remittance_key": pa.string(), "reason_code": pa.string()}, sorted(repeated.items())),
        hold_reasons=sql.rows({"reason_code": pa.string(), "reason": pa.string()}, HOLD_REASONS.items()),
    )
    with connection:
        classify(connection, carcs)
        connection.execute(_CLAIMS)
        connection.execute(_LINES)
        for step in _PASSES:
            if connection.execute(_LEFT).fetchone() is None:
                break
            connection.execute(_MATCH, step)
        connection.execute(_HELD)
        connection.execute(_ALLOCATED)
        return PostingResult(
            postings=sql.fetch(connection, _POSTINGS, POSTINGS),
            lines=sql.fetch(connection, "SELECT * FROM allocated ORDER BY claim_key, line_number", POSTING_LINES),
            holds=sql.fetch(connection, _HOLDS, HOLDS),
        )


_CLAIMS = """
    CREATE TEMP TABLE line_balance AS
    SELECT l.claim_key, count(*) AS line_count, sum(l.charge) AS charge, sum(l.paid) AS paid,
           bool_or(l.charge IS NULL OR l.paid IS NULL OR NOT l.balanced
                   OR l.charge - coalesce(b.adjusted, 0) <> l.paid) AS off
    FROM service_lines l LEFT JOIN buckets b USING (claim_key, line_number)
    GROUP BY l.claim_key;

    CREATE TEMP TABLE claim_balance AS
    SELECT b.claim_key, sum(b.adjusted) AS adjusted,
           bool_or(b.unreadable OR (b.line_number > 0 AND l.line_number IS NULL)) AS off
    FROM buckets b LEFT JOIN service_lines l USING (claim_key, line_number)
    GROUP BY b.claim_key;

    CREATE TEMP TABLE claim AS
    WITH billed AS (SELECT claim_token, count(*) AS claims FROM billed_claims GROUP BY claim_token)
    SELECT c.claim_key, c.remittance_key, c.claim_token, c.claim_status, c.is_reversal, c.charge, c.paid,
           c.patient_responsibility, coalesce(l.line_count, 0) AS lines_given, coalesce(l.charge, 0) AS lines_charge,
           coalesce(l.paid, 0) AS lines_paid,
           CASE WHEN r.remittance_key IS NULL THEN 'REMITTANCE_MISSING'
                WHEN EXISTS (FROM payees) AND p.payee IS NULL THEN 'PAYEE_NOT_STATED'
                WHEN EXISTS (FROM payees) AND p.payee NOT IN (FROM payees) THEN 'OTHER_PRACTICE'
                WHEN s.reason_code IS NOT NULL THEN s.reason_code
                WHEN coalesce(c.claim_token, '') = '' THEN 'MISSING_CLAIM_ID'
                WHEN NOT r.balanced THEN 'TRANSACTION_UNBALANCED'
                WHEN c.charge IS NULL OR c.paid IS NULL OR NOT c.balanced OR coalesce(l.off, false)
                     OR coalesce(a.off, false) OR c.charge - coalesce(a.adjusted, 0) <> c.paid THEN 'CLAIM_UNBALANCED'
                WHEN c.claim_status = '25' THEN 'PREDETERMINATION'
                WHEN b.claims > 1 THEN 'AMBIGUOUS_CLAIM'
                WHEN b.claims IS NULL THEN 'UNMATCHED_CLAIM'
           END AS held
    FROM claims c
    LEFT JOIN remittances r USING (remittance_key)
    -- the NPI decides where there is one: a tax id may be shared by several practices
    LEFT JOIN (SELECT remittance_key, coalesce(nullif(payee_npi, ''), nullif(payee_tax_id, '')) AS payee
               FROM remittances) p USING (remittance_key)
    LEFT JOIN repeated s ON s.remittance_key = c.remittance_key
    LEFT JOIN line_balance l USING (claim_key)
    LEFT JOIN claim_balance a USING (claim_key)
    LEFT JOIN billed b ON b.claim_token = c.claim_token;
"""

# size: a reversal carries the negated charge of the line it takes back.
# keys: line token, code and modifiers, submitted code, adjudicated code, nothing; each with the charge.
_LINES = """
    CREATE TEMP TABLE billed AS
    WITH named AS (
        SELECT c.claim_key, b.line_token, b.line_number, upper(trim(b.procedure_code)) AS code,
               array_to_string(list_sort(b.modifiers), ':') AS modifiers, abs(b.charge)::VARCHAR AS size,
               row_number() OVER (PARTITION BY c.claim_key
                                  ORDER BY b.line_number, b.line_token, b.procedure_code, b.charge) AS ordinal
        FROM claim c JOIN billed_lines b USING (claim_token)
        WHERE c.held IS NULL
    )
    SELECT *, [line_token || '|' || size, code || '|' || modifiers || '|' || size, code || '|' || size,
               code || '|' || size, size] AS keys
    FROM named;

    CREATE TEMP TABLE remitted AS
    WITH named AS (
        SELECT l.claim_key, l.line_number, l.line_token, abs(l.charge)::VARCHAR AS size,
               upper(trim(l.procedure_code)) AS adjudicated,
               coalesce(upper(trim(l.submitted_code)), upper(trim(l.procedure_code))) AS code,
               array_to_string(list_sort(CASE WHEN l.submitted_code IS NULL THEN l.modifiers
                                              ELSE l.submitted_modifiers END), ':') AS modifiers
        FROM service_lines l JOIN claim c USING (claim_key)
        WHERE c.held IS NULL
    ), own AS (
        SELECT claim_key, line_token, list(size) AS sizes FROM billed WHERE line_token IS NOT NULL GROUP BY ALL
    )
    SELECT named.*, own.sizes IS NOT NULL AND NOT list_contains(own.sizes, named.size) AS differs,
           [line_token || '|' || size, code || '|' || modifiers || '|' || size, code || '|' || size,
            adjudicated || '|' || size, size] AS keys
    FROM named LEFT JOIN own USING (claim_key, line_token);

    CREATE TEMP TABLE matched (claim_key VARCHAR, line_number INTEGER, ordinal BIGINT, matched_by VARCHAR);
"""

_LEFT = "SELECT 1 FROM remitted ANTI JOIN matched USING (claim_key, line_number) LIMIT 1"

# The k-th remittance line of a key goes to the k-th billed line of that key, in the order of line numbers. Where a choice
# would remain (alone), more billed lines than remittance lines under one key match nothing.
_MATCH = """
    INSERT INTO matched
    WITH r AS (
        SELECT claim_key, line_number, keys[$key] AS key,
               row_number() OVER (PARTITION BY claim_key, keys[$key] ORDER BY line_number) AS k,
               count(*) OVER (PARTITION BY claim_key, keys[$key]) AS n,
               count(*) OVER (PARTITION BY claim_key) AS left_over
        FROM remitted ANTI JOIN matched USING (claim_key, line_number)
        WHERE NOT differs
    ), b AS (
        SELECT claim_key, ordinal, keys[$key] AS key,
               row_number() OVER (PARTITION BY claim_key, keys[$key] ORDER BY ordinal) AS k,
               count(*) OVER (PARTITION BY claim_key, keys[$key]) AS n
        FROM billed ANTI JOIN matched USING (claim_key, ordinal)
        WHERE claim_key IN (SELECT claim_key FROM r)
    )
    SELECT r.claim_key, r.line_number, b.ordinal, $matched_by
    FROM r JOIN b USING (claim_key, key, k)
    WHERE (NOT $alone OR b.n <= r.n) AND (NOT $last OR r.left_over = 1)
"""

_HELD = """
    CREATE TEMP TABLE decided AS
    WITH unmatched AS (
        SELECT claim_key, bool_or(differs) AS differs
        FROM remitted ANTI JOIN matched USING (claim_key, line_number)
        GROUP BY claim_key
    )
    SELECT c.* REPLACE (coalesce(c.held, CASE WHEN u.differs THEN 'LINE_CHARGE_DIFFERS'
                                              WHEN u.claim_key IS NOT NULL THEN 'LINES_UNMATCHED' END) AS held)
    FROM claim c LEFT JOIN unmatched u USING (claim_key);
"""

# Line 0 takes what the payer stated for the claim and not for a line: the whole claim where it sent no lines.
_ALLOCATED = """
    CREATE TEMP TABLE allocated AS
    WITH named AS (
        SELECT l.claim_key, l.line_number, b.line_token, m.matched_by, b.code AS procedure_code, l.charge, l.paid
        FROM service_lines l
        JOIN decided d ON d.claim_key = l.claim_key AND d.held IS NULL
        JOIN matched m ON m.claim_key = l.claim_key AND m.line_number = l.line_number
        JOIN billed b ON b.claim_key = l.claim_key AND b.ordinal = m.ordinal
        UNION ALL
        SELECT d.claim_key, 0, NULL, 'claim_level', NULL, d.charge - d.lines_charge, d.paid - d.lines_paid
        FROM decided d LEFT JOIN buckets z ON z.claim_key = d.claim_key AND z.line_number = 0
        WHERE d.held IS NULL
              AND (d.lines_given = 0 OR z.claim_key IS NOT NULL OR d.charge <> d.lines_charge OR d.paid <> d.lines_paid)
    )
    SELECT n.*, coalesce(a.contractual, 0) AS contractual, coalesce(a.deductible, 0) AS deductible,
           coalesce(a.coinsurance, 0) AS coinsurance, coalesce(a.copay, 0) AS copay,
           coalesce(a.patient_other, 0) AS patient_other, coalesce(a.denied, 0) AS denied,
           coalesce(a.other, 0) AS other
    FROM named n LEFT JOIN buckets a USING (claim_key, line_number);
"""

_POSTINGS = """
    WITH summed AS (
        SELECT claim_key, sum(contractual) AS contractual,
               sum(deductible + coinsurance + copay + patient_other) AS patient, sum(denied) AS denied,
               sum(other) AS other, count(*) FILTER (WHERE matched_by = 'position') AS by_position,
               count(*) FILTER (WHERE line_number > 0) AS lines
        FROM allocated GROUP BY claim_key
    ), unknown AS (
        SELECT claim_key, sum(unclassified) AS codes FROM buckets GROUP BY claim_key HAVING sum(unclassified) > 0
    ), whole AS (
        SELECT claim_key, count(*) AS lines FROM billed GROUP BY claim_key
    ), changed AS (
        SELECT r.claim_key, count(*) AS lines
        FROM remitted r JOIN matched m USING (claim_key, line_number) JOIN billed b USING (claim_key, ordinal)
        WHERE r.adjudicated <> b.code GROUP BY r.claim_key
    )
    SELECT d.claim_key, d.remittance_key, d.claim_token, r.payer_id, r.payer_name, r.payment_date, r.trace_token,
           d.claim_status, d.is_reversal, d.charge, d.paid, s.contractual, s.patient AS patient_responsibility,
           s.denied, s.other,
           nullif(concat_ws('; ',
               CASE WHEN q.claims = 1 THEN '1 claim of this deposit is in quarantine'
                    WHEN q.claims > 1 THEN q.claims || ' claims of this deposit are in quarantine' END,
               CASE WHEN s.lines > 0 AND s.lines < w.lines
                    THEN (w.lines - s.lines) || ' of ' || w.lines || ' billed lines not on this remittance' END,
               CASE WHEN x.lines > 0 THEN 'procedure code changed by the payer on lines: ' || x.lines END,
               CASE WHEN s.by_position > 0 THEN 'matched by charge alone, lines: ' || s.by_position END,
               CASE WHEN u.codes > 0 THEN 'adjustments with an unknown reason code: ' || u.codes END,
               CASE WHEN NOT d.is_reversal AND d.patient_responsibility <> s.patient
                    THEN 'patient responsibility stated (CLP05) differs from group PR' END), '') AS note
    FROM decided d
    JOIN remittances r USING (remittance_key)
    JOIN summed s USING (claim_key)
    LEFT JOIN quarantined q ON q.remittance_key = d.remittance_key
    LEFT JOIN unknown u ON u.claim_key = d.claim_key
    LEFT JOIN whole w ON w.claim_key = d.claim_key
    LEFT JOIN changed x ON x.claim_key = d.claim_key
    WHERE d.held IS NULL
    ORDER BY d.claim_key
"""

_HOLDS = """
    SELECT d.claim_key, d.remittance_key, nullif(d.claim_token, '') AS claim_token, d.held AS reason_code, h.reason,
           d.charge, d.paid
    FROM decided d JOIN hold_reasons h ON h.reason_code = d.held
    ORDER BY d.claim_key
"""
