-- Which payers deny the most dollars?
-- Reads: facts.
select
    payer_key as payer_id,
    payer,
    count(*) as denials,
    count(distinct claim) as claims,
    sum(denied)::decimal(18, 2) as denied,
    sum(recoverable)::decimal(18, 2) as recoverable,
    sum(lost)::decimal(18, 2) as lost,
    sum(not_owed)::decimal(18, 2) as not_owed,
    sum(settled)::decimal(18, 2) as settled
from facts
group by payer_key, payer
order by sum(denied) desc, payer_key
