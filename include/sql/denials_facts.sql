-- Where does each denial of the period stand on the as-of date? One row per denial; all tables of the report sum these rows.
-- standing: paid_since, denied_again, reversed_since (settled: no longer to be worked), open (recoverable, in time),
-- expired (was recoverable, deadline passed), duplicate, not_recoverable. recoverable + lost + not_owed + settled = denied on every row:
-- triage values what can be won at the expected payment; the charge above it is not owed, so it is not lost. Nor is a duplicate:
-- its dollars are those of the original claim, counted there.
-- Reads: denials, answers, lines (service lines of the remittances, may be empty). Parameters: start, end, as_of.
with dated as (
    select
        *,
        coalesce(nullif(claim_token, ''), claim_key) as claim,
        coalesce(nullif(trim(payer_id), ''), nullif(trim(payer_name), ''), '') as payer_key,
        coalesce(line_number, 0) as line,
        nullif(trim(regexp_replace(coalesce(payer_name, ''), '[\x00-\x1F\x7F]+', ' ', 'g')), '') as payer_text
    from denials
    where payment_date is not null
),
payers as (
    -- the name used last; a payer may change its name, not its id
    select payer_key, coalesce(last(payer_text order by payment_date, payer_text) filter (where payer_text is not null), nullif(payer_key, ''), 'not stated') as payer
    from dated
    group by payer_key
),
period as (
    select d.*, p.payer, coalesce(o.paid, 0) as own_paid, coalesce(o.charge, 0) as own_charge
    from dated d
    join payers p on p.payer_key = d.payer_key
    left join (select claim_key, max(paid) as paid, max(charge) as charge from answers group by claim_key) o
        on o.claim_key = d.claim_key
    where d.payment_date between $start and $end
),
later as (
    select p.denial_key, p.line, p.line_token, p.procedure_code, a.claim_key, a.paid
    from period p
    join answers a
        on a.claim = p.claim
        and a.payment_date > p.payment_date
        and (p.own_paid = 0 or a.payer = p.payer_key)
),
paid_claim as (
    select denial_key, sum(paid) as paid
    from later
    group by denial_key
),
paid_line as (
    -- the same line by its token; by its code where the payer sends no line token
    select l.denial_key, coalesce(sum(s.paid) filter (where s.line_token = l.line_token or (s.line_token is null and s.procedure_code = l.procedure_code)), 0) as paid
    from later l
    join lines s on s.claim_key = l.claim_key
    where l.line > 0
    group by l.denial_key
),
repeated as (
    select distinct p.denial_key
    from period p
    join dated d
        on d.claim = p.claim
        and d.payer_key = p.payer_key
        and d.payment_date > p.payment_date
        and d.line = p.line
        and d.reason_code = p.reason_code
),
reversed as (
    select distinct p.denial_key
    from period p
    join answers a
        on a.claim = p.claim
        and a.is_reversal
        and a.payer = p.payer_key
        and a.payment_date > p.payment_date
        and a.charge = -p.own_charge
        and a.paid = -p.own_paid
),
standing as (
    select
        p.*,
        case
            when coalesce(pl.paid, pc.paid, 0) > 0 then 'paid_since'
            when rp.denial_key is not null then 'denied_again'
            when rv.denial_key is not null then 'reversed_since'
            when p.recoverable <= 0 and p.category = 'duplicate' then 'duplicate'
            when p.recoverable <= 0 then 'not_recoverable'
            when p.deadline < $as_of then 'expired'
            else 'open'
        end as standing
    from period p
    left join paid_claim pc on pc.denial_key = p.denial_key
    left join paid_line pl on pl.denial_key = p.denial_key
    left join repeated rp on rp.denial_key = p.denial_key
    left join reversed rv on rv.denial_key = p.denial_key
)
select
    denial_key,
    claim,
    claim_token,
    payer_key,
    payer,
    coalesce(nullif(rendering_npi, ''), 'not stated') as rendering_npi,
    coalesce(nullif(procedure_code, ''), 'claim level') as procedure_code,
    payment_date,
    date_trunc('week', payment_date)::date as week,
    ($as_of::date - payment_date)::bigint as age_days,
    group_code,
    reason_code,
    coalesce(list_aggregate(list_sort(list_distinct(remark_codes)), 'string_agg', ' '), '') as remark_codes,
    category,
    action,
    appealable,
    deadline,
    priority,
    standing,
    denied,
    recoverable as recoverable_when_denied,
    (case when standing = 'open' then recoverable else 0 end)::decimal(18, 2) as recoverable,
    (case when standing = 'not_recoverable' then denied when standing = 'expired' then recoverable else 0 end)::decimal(18, 2) as lost,
    (case when standing = 'duplicate' then denied when standing in ('open', 'expired') then denied - recoverable else 0 end)::decimal(18, 2) as not_owed,
    (case when standing in ('paid_since', 'denied_again', 'reversed_since') then denied else 0 end)::decimal(18, 2) as settled,
    (case when standing = 'expired' then recoverable else 0 end)::decimal(18, 2) as lost_deadline_passed,
    (case when standing = 'open' and deadline between $as_of and $as_of::date + 14 then recoverable else 0 end)::decimal(18, 2) as due_soon
from standing
order by denial_key
