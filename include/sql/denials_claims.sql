-- What was the first answer to each claim, and was an initial denial paid later? One row per claim.
-- The first remittance of a claim is all of its rows on its earliest payment date.
-- first_known is false where that day only corrects an earlier answer (a reversal for each row): the first one is older than the data.
-- Paid later: the later payments less what was taken back again; of the same payer where the first remittance paid in part,
-- so that a secondary payer's share does not pass for an overturned denial. Reads: answers, denials.
with denied as (
    select claim_key, sum(denied) as denied
    from denials
    group by claim_key
),
first_day as (
    select claim, min(payment_date) as first_day
    from answers
    group by claim
),
first_answer as (
    select
        a.claim,
        f.first_day,
        count(*) filter (where not a.is_reversal) > count(*) filter (where a.is_reversal) as first_known,
        bool_or(d.claim_key is not null and not a.is_reversal) as initially_denied,
        coalesce(sum(a.charge) filter (where not a.is_reversal), 0) as charge,
        coalesce(sum(d.denied) filter (where not a.is_reversal), 0) as denied,
        sum(a.paid) as paid,
        list(distinct a.payer) as payers
    from answers a
    join first_day f on f.claim = a.claim and f.first_day = a.payment_date
    left join denied d on d.claim_key = a.claim_key
    group by a.claim, f.first_day
),
paid_later as (
    select f.claim, sum(l.paid) as paid
    from first_answer f
    join answers l
        on l.claim = f.claim
        and l.payment_date > f.first_day
        and (f.paid = 0 or list_contains(f.payers, l.payer))
    group by f.claim
)
select
    f.claim,
    f.first_day,
    f.first_known,
    f.initially_denied,
    f.initially_denied and coalesce(p.paid, 0) > 0 as overturned,
    f.charge::decimal(18, 2) as charge,
    f.denied::decimal(18, 2) as denied
from first_answer f
left join paid_later p on p.claim = f.claim
order by f.claim
