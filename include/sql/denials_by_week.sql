-- How do denials go from week to week? Weeks begin on Monday (ISO 8601); every week of the period is given, the first and last
-- may be partial. claims_remitted and initially_denied_claims count claims by the week of their first remittance.
-- Reads: facts, claim_answers. Parameters: start, end.
with weeks as (
    select unnest(generate_series(date_trunc('week', $start::date), $end::date, interval 7 day))::date as week
),
denied as (
    select
        week,
        count(*) as denials,
        count(distinct claim) as claims,
        sum(denied) as denied,
        sum(recoverable) as recoverable,
        sum(lost) as lost,
        sum(not_owed) as not_owed,
        sum(settled) as settled
    from facts
    group by week
),
first_answers as (
    select
        date_trunc('week', first_day)::date as week,
        count(*) as claims_remitted,
        count(*) filter (where initially_denied) as initially_denied_claims
    from claim_answers
    where first_known and first_day between $start and $end
    group by 1
)
select
    greatest(w.week, $start::date) as first_day,
    least(w.week + 6, $end::date) as last_day,
    coalesce(d.denials, 0) as denials,
    coalesce(d.claims, 0) as claims,
    coalesce(d.denied, 0)::decimal(18, 2) as denied,
    coalesce(d.recoverable, 0)::decimal(18, 2) as recoverable,
    coalesce(d.lost, 0)::decimal(18, 2) as lost,
    coalesce(d.not_owed, 0)::decimal(18, 2) as not_owed,
    coalesce(d.settled, 0)::decimal(18, 2) as settled,
    coalesce(a.claims_remitted, 0) as claims_remitted,
    coalesce(a.initially_denied_claims, 0) as initially_denied_claims
from weeks w
left join denied d on d.week = w.week
left join first_answers a on a.week = w.week
order by w.week
