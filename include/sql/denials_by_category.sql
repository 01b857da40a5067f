-- Which kinds of reason deny the most dollars?
-- Reads: facts.
select
    category,
    count(*) as denials,
    count(distinct claim) as claims,
    sum(denied)::decimal(18, 2) as denied,
    sum(recoverable)::decimal(18, 2) as recoverable,
    sum(lost)::decimal(18, 2) as lost,
    sum(above_expected)::decimal(18, 2) as above_expected,
    sum(settled)::decimal(18, 2) as settled
from facts
group by category
order by sum(denied) desc, category
