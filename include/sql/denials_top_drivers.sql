-- Which few combinations of payer, category and reason code (CARC) make up most of the denied dollars, and what is to be done?
-- actions: the actions of these denials, the one with the most dollars first. Reads: facts.
with actions as (
    select payer_key, payer, category, reason_code, action, sum(denied) as denied
    from facts
    group by all
),
ordered as (
    select payer_key, category, reason_code, string_agg(action, ' ' order by denied desc, action) as actions
    from actions
    group by payer_key, category, reason_code
)
select
    row_number() over (order by sum(f.denied) desc, f.payer_key, f.category, f.reason_code) as rank,
    f.payer_key as payer_id,
    f.payer,
    f.category,
    f.reason_code,
    count(*) as denials,
    count(distinct f.claim) as claims,
    sum(f.denied)::decimal(18, 2) as denied,
    sum(f.recoverable)::decimal(18, 2) as recoverable,
    sum(f.lost)::decimal(18, 2) as lost,
    sum(f.not_owed)::decimal(18, 2) as not_owed,
    sum(f.settled)::decimal(18, 2) as settled,
    o.actions
from facts f
join ordered o on o.payer_key = f.payer_key and o.category = f.category and o.reason_code = f.reason_code
group by f.payer_key, f.payer, f.category, f.reason_code, o.actions
order by rank
