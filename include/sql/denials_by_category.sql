-- Which kinds of reason deny the most dollars?
-- Reads: facts.
select
    category,
    count(*) as denials,
    count(distinct claim) as claims,
    sum(denied)::decimal(18, 2) as denied,
    sum(recoverable)::decimal(18, 2) as recoverable,
    sum(lost)::decimal(18, 2) as lost,
    sum(not_owed)::decimal(18, 2) as not_owed,
    sum(settled)::decimal(18, 2) as settled
from facts
group by category
order by sum(denied) desc, category
