-- What a claim cannot do without, and values no claim may have.
with at_claim as (
    select claim_index, 'MISSING-CLAIM' as rule_id, 'error' as severity, 'the record is not a claim' as message, 'record' as field
    from claim where not readable
    union all
    select claim_index, 'MISSING-FIELD', 'error', 'claim_id is missing', 'claim_id' from claim where readable and claim_id is null
    union all
    select claim_index, 'MISSING-FIELD', 'error', 'payer_id is missing', 'payer_id' from claim where readable and payer_id = ''
    union all
    select claim_index, 'MISSING-FIELD', 'error', 'place_of_service is missing', 'place_of_service'
    from claim where readable and place is null and setting <> 'institutional'
    union all
    select claim_index, 'MISSING-FIELD', 'warning', 'the age of the patient is missing or impossible', 'patient.age_years'
    from claim where readable and (age is null or age not between 0 and 124)
    union all
    select claim_index, 'MISSING-FIELD', 'warning', 'the sex of the patient is missing', 'patient.sex' from claim where readable and sex is null
    union all
    select claim_index, 'MISSING-LINES', 'error', 'the claim has no line', 'lines'
    from claim where readable and claim_index not in (select claim_index from line)
),
at_line as (
    select claim_index, line_item, code, 'missing_information' as issue_type, 'MISSING-FIELD' as rule_id, 'error' as severity,
           f.field || ' is missing or unreadable' as message, f.field
    from line
    cross join (values ('code'), ('units'), ('charge'), ('date_of_service'), ('rendering_npi'), ('diagnoses')) f(field)
    where (f.field = 'code' and code is null)
       or (f.field = 'units' and units is null)
       or (f.field = 'charge' and charge is null)
       or (f.field = 'date_of_service' and dos is null)
       or (f.field = 'rendering_npi' and provider = '')
       or (f.field = 'diagnoses' and coalesce(len(diagnoses), 0) = 0)
    union all
    select claim_index, line_item, code, 'coding', 'UNITS-ZERO', 'error', 'units are not above zero', 'units' from line where units <= 0
    union all
    select claim_index, line_item, code, 'coding', 'UNITS-HIGH', 'warning', 'units are above ' || $units_review_above || ', likely a slip', 'units'
    from line where units > $units_review_above
    union all
    select claim_index, line_item, code, 'coding', 'CHARGE-NEGATIVE', 'error', 'the charge is below zero', 'charge' from line where charge < 0
    union all
    select claim_index, line_item, code, 'coding', 'DATE-FUTURE', 'error', 'the date of service is after the day of checking', 'date_of_service'
    from line where dos > $as_of
)
select claim_index, null::integer as line_item, null::varchar as code, 'missing_information' as issue_type, severity, rule_id,
       $policy_version as rule_version, message, to_json({'field': field})::varchar as evidence, 'Supply or correct ' || field as action
from at_claim
union all
select claim_index, line_item, code, issue_type, severity, rule_id, $policy_version, message, to_json({'field': field})::varchar, 'Supply or correct ' || field
from at_line
