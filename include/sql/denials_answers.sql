-- What did payers answer to each claim, and when? One row per dated remittance claim.
-- A claim without a token stands alone, under its key. Reads: claims.
select
    coalesce(nullif(claim_token, ''), claim_key) as claim,
    claim_key,
    payment_date,
    coalesce(nullif(trim(payer_id), ''), nullif(trim(payer_name), ''), '') as payer,
    is_reversal,
    coalesce(charge, 0) as charge,
    coalesce(paid, 0) as paid
from claims
where payment_date is not null
order by claim, payment_date, claim_key
