-- What can still be won, and what is lost, by category? Reads: facts.
select
    category,
    sum(denied)::decimal(18, 2) as denied,
    sum(recoverable)::decimal(18, 2) as recoverable,
    sum(due_soon)::decimal(18, 2) as due_soon,
    sum(lost)::decimal(18, 2) as lost,
    sum(lost - lost_deadline_passed)::decimal(18, 2) as lost_not_recoverable,
    sum(lost_deadline_passed)::decimal(18, 2) as lost_deadline_passed,
    sum(not_owed)::decimal(18, 2) as not_owed,
    sum(settled)::decimal(18, 2) as settled
from facts
group by category
order by sum(recoverable) desc, sum(denied) desc, category
