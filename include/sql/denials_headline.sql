-- How much was denied, what became of it, and how good were first answers? One row.
-- Reads: facts, claim_answers, denials. Parameters: start, end.
with cohort as (
    select *
    from claim_answers
    where first_known and first_day between $start and $end
)
select
    f.*,
    c.*,
    (select count(*) from claim_answers where not first_known and first_day between $start and $end) as claims_first_unknown,
    (select count(*) from denials where payment_date is null) as denials_undated,
    (select coalesce(sum(denied), 0) from denials where payment_date is null)::decimal(18, 2) as denied_undated
from (
    select
        coalesce(sum(denied), 0)::decimal(18, 2) as denied,
        count(*) as denials,
        count(distinct claim) as denied_claims,
        coalesce(sum(recoverable), 0)::decimal(18, 2) as recoverable,
        count(distinct claim) filter (where recoverable > 0) as recoverable_claims,
        coalesce(sum(due_soon), 0)::decimal(18, 2) as due_soon,
        count(distinct claim) filter (where due_soon > 0) as due_soon_claims,
        coalesce(sum(lost), 0)::decimal(18, 2) as lost,
        coalesce(sum(lost_deadline_passed), 0)::decimal(18, 2) as lost_deadline_passed,
        coalesce(sum(lost - lost_deadline_passed), 0)::decimal(18, 2) as lost_not_recoverable,
        coalesce(sum(not_owed), 0)::decimal(18, 2) as not_owed,
        coalesce(sum(settled), 0)::decimal(18, 2) as settled,
        coalesce(sum(recoverable_when_denied), 0)::decimal(18, 2) as recoverable_when_denied
    from facts
) f, (
    select
        count(*) as claims_remitted,
        coalesce(sum(charge), 0)::decimal(18, 2) as charges_remitted,
        count(*) filter (where initially_denied) as initially_denied_claims,
        coalesce(sum(denied) filter (where initially_denied), 0)::decimal(18, 2) as initially_denied,
        count(*) filter (where not initially_denied) as first_pass_claims,
        count(*) filter (where overturned) as overturned_claims
    from cohort
) c
