-- National Provider Identifiers: ten digits whose last is the Luhn check digit over 80840 and the first nine (45 CFR 162.406).
with used as (
    select claim_index, line_item, rendering_npi as npi, 'rendering_npi' as field from line where rendering_npi is not null
    union all
    select claim_index, null, referring_npi, 'referring_npi' from claim where referring_npi is not null
    union all
    select claim_index, null, billing_npi, 'billing_npi' from claim where billing_npi is not null
),
bad as (
    select npi, not regexp_full_match(npi, '[12][0-9]{9}') as malformed
    from (select distinct npi from used)
    where not regexp_full_match(npi, '[12][0-9]{9}')
       or (24 + list_sum([
               case when i % 2 = 1 then (npi[i]::integer * 2) // 10 + (npi[i]::integer * 2) % 10 else npi[i]::integer end
               for i in range(1, 10)
           ]) + npi[10]::integer) % 10 <> 0
)
select claim_index, line_item, null::varchar as code, 'missing_information' as issue_type, 'error' as severity, 'NPI-CHECK' as rule_id,
       $policy_version as rule_version, field || case when malformed then ' is not ten digits' else ' fails its check digit' end as message,
       to_json({'field': field, 'npi': npi})::varchar as evidence, 'Correct ' || field as action
from used
join bad using (npi)
