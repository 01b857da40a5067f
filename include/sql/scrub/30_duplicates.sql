-- The same service twice: same patient, provider, day, code and modifiers, none of which says that it was repeated. Also a
-- claim_id given twice. Reported on every line but the first (in the order of claim_id and line).
with twice as (
    select grp, code, modifiers from line where grp is not null and code is not null and not repeated group by all having count(*) > 1
),
later as (
    select l.*, first_value(l.claim_id) over w as first_claim, first_value(l.line_item) over w as first_line,
           first_value(l.units) over w as first_units, first_value(l.charge) over w as first_charge, row_number() over w as n
    from line l
    join twice t on t.grp = l.grp and t.code = l.code and t.modifiers = l.modifiers
    window w as (partition by l.grp, l.code, l.modifiers order by l.line_id)
)
select claim_index, line_item, code, 'duplicate' as issue_type,
       case when units is not distinct from first_units and charge is not distinct from first_charge then 'error' else 'warning' end as severity,
       case when claim_id is distinct from first_claim then 'DUPLICATE-ACROSS-CLAIMS' else 'DUPLICATE-LINE' end as rule_id,
       $policy_version as rule_version,
       code || ' is billed twice for the same day and provider' as message,
       to_json({'code': code, 'modifiers': modifiers, 'date_of_service': dos, 'first_claim_id': first_claim, 'first_line_item': first_line})::varchar as evidence,
       'Remove the line, or add modifier 76, 77 or 91 if the service was repeated' as action
from later where n > 1
union all
select r.claim_index, null, null, 'duplicate', 'error', 'DUPLICATE-CLAIM-ID', $policy_version, 'the claim_id is given more than once',
       to_json({'times': times})::varchar, 'Send the claim once'
from repeated_claim_id r
join claim c on c.claim_index = r.claim_index
