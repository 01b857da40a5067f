-- Which reason and remark codes (CARC, RARC) deny the most dollars?
-- Reads: facts.
select
    group_code,
    reason_code,
    remark_codes,
    category,
    count(*) as denials,
    count(distinct claim) as claims,
    sum(denied)::decimal(18, 2) as denied,
    sum(recoverable)::decimal(18, 2) as recoverable,
    sum(lost)::decimal(18, 2) as lost,
    sum(not_owed)::decimal(18, 2) as not_owed,
    sum(settled)::decimal(18, 2) as settled
from facts
group by group_code, reason_code, remark_codes, category
order by sum(denied) desc, group_code, reason_code, remark_codes, category
