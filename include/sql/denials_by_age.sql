-- How old are the denials? Clock: days from the payment date of the denying remittance to the as-of date.
-- Buckets meet without overlap: day 120 is in 91-120, day 121 in 121+. All five are given. Reads: facts.
with buckets (bucket, first_day, last_day, age) as (
    values (1, -36500, 30, '0-30'), (2, 31, 60, '31-60'), (3, 61, 90, '61-90'), (4, 91, 120, '91-120'), (5, 121, 999999, '121+')
)
select
    b.age,
    count(f.denial_key) as denials,
    count(distinct f.claim) as claims,
    coalesce(sum(f.denied), 0)::decimal(18, 2) as denied,
    coalesce(sum(f.recoverable), 0)::decimal(18, 2) as recoverable,
    coalesce(sum(f.lost), 0)::decimal(18, 2) as lost,
    coalesce(sum(f.not_owed), 0)::decimal(18, 2) as not_owed,
    coalesce(sum(f.settled), 0)::decimal(18, 2) as settled
from buckets b
left join facts f on f.age_days between b.first_day and b.last_day
group by b.bucket, b.age
order by b.bucket
