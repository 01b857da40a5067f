-- What should be worked next? Open denials: those due within 14 days first, then by recoverable dollars.
-- The lines of one claim that are denied for the same reason are one row: they are worked together.
-- triage_priority is the best rank triage gave them within their own day. Reads: facts. Parameters: as_of.
select
    row_number() over (
        order by (sum(due_soon) > 0) desc, sum(recoverable) desc, min(deadline) nulls last, claim, group_code, reason_code, remark_codes, action
    ) as rank,
    coalesce(min(claim_token), '') as claim_token,
    payer,
    category,
    group_code,
    reason_code,
    remark_codes,
    string_agg(distinct procedure_code, ' ' order by procedure_code) as procedure_codes,
    count(*) as denials,
    sum(denied)::decimal(18, 2) as denied,
    sum(recoverable)::decimal(18, 2) as recoverable,
    min(deadline) as deadline,
    (min(deadline) - $as_of::date)::bigint as days_left,
    action,
    bool_and(appealable) as appealable,
    min(priority)::bigint as triage_priority
from facts
where standing = 'open'
group by claim, payer_key, payer, category, group_code, reason_code, remark_codes, action
order by rank
