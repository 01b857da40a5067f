-- include/policies/payer_rules/*.yml: what a payer asks for beyond the official edits. In force by the date of service.
with ruled as (
    select r.*, l.line_id, l.claim_index, l.line_item, l.code, l.modifiers, l.units, l.dos, l.subject, c.place, c.authorization_number, c.referring_npi, c.known_patient
    from line l
    join claim c using (claim_index)
    join payer_rule r on r.payer_id = c.payer_id and l.code >= r.first and l.code <= r.last
     and l.dos between r.starts and coalesce(r.ends, date '9999-12-31')
    where len(r.places) = 0 or list_contains(r.places, c.place)
),
counted as (
    select *, sum(units) over (
        partition by subject, rule_id, version order by dos range between to_days(days - 1) preceding and current row
    ) as in_window
    from ruled where rule_kind = 'frequency' and known_patient and units > 0
),
found as (
    select claim_index, line_item, code, 'authorization' as issue_type, severity, rule_id, version, dos, payer_id, modifiers,
           code || ' needs prior authorization, none is on the claim' as message, 'Obtain the authorization and put its number on the claim' as action, null::double as units
    from ruled where rule_kind = 'prior_authorization' and authorization_number is null
    union all
    select claim_index, line_item, code, 'authorization', severity, rule_id, version, dos, payer_id, modifiers,
           code || ' needs a referral, no referring provider is on the claim', 'Obtain the referral and name the referring provider', null
    from ruled where rule_kind = 'referral' and referring_npi is null
    union all
    select claim_index, line_item, code, 'payer_rule', severity, rule_id, version, dos, payer_id, modifiers,
           'the payer wants one of the modifiers ' || array_to_string(any_of, ', '), 'Add modifier ' || array_to_string(any_of, ' or '), null
    from ruled where rule_kind = 'required_modifier' and not list_has_any(modifiers, any_of)
    union all
    select claim_index, line_item, code, 'payer_rule', severity, rule_id, version, dos, payer_id, modifiers,
           'the payer prefers ' || array_to_string(use, ', ') || ' to modifier ' || array_to_string(instead_of, ', '),
           'Replace the modifier by ' || array_to_string(use, ' or '), null
    from ruled where rule_kind = 'preferred_modifier' and list_has_any(modifiers, instead_of) and not list_has_any(modifiers, use)
    union all
    select claim_index, line_item, code, 'payer_rule', severity, rule_id, version, dos, payer_id, modifiers,
           'more than ' || most_units || ' in ' || days || ' days', 'Check the dates of the earlier services before billing', in_window::double
    from counted where in_window > most_units
)
select claim_index, line_item, code, issue_type, severity, rule_id, version as rule_version, message,
       to_json({'payer_id': payer_id, 'code': code, 'modifiers': modifiers, 'date_of_service': dos, 'units_in_window': units})::varchar as evidence, action
from found
