-- Modifiers: form, known, given twice, contradicting each other, on the wrong kind of code.
with given as (select * from line where len(modifiers) > 0),
each as (select line_id, claim_index, line_item, code, em, hcpcs, dos, unnest(modifiers) as modifier from given),
found as (
    select claim_index, line_item, code, 'MODIFIER-FORM' as rule_id, 'error' as severity, 'a modifier is not two letters or digits' as message,
           modifier as about, null::integer as version
    from each where not regexp_full_match(modifier, '[0-9A-Z]{2}')
    union all
    select claim_index, line_item, code, 'MODIFIER-UNKNOWN', 'warning', 'modifier ' || modifier || ' is in no table in force', modifier, hcpcs
    from each e
    where regexp_full_match(modifier, '[0-9A-Z]{2}') and hcpcs is not null
      and not exists (select 1 from policy_modifier p where p.modifier = e.modifier)
      and not exists (select 1 from ref_hcpcs h where h.version = e.hcpcs and h.is_modifier and h.code = e.modifier
                      and e.dos >= coalesce(h.added, date '1900-01-01') and e.dos <= coalesce(h.terminated, date '9999-12-31'))
    union all
    select claim_index, line_item, code, 'MODIFIER-TWICE', 'error', 'a modifier is given twice', modifiers::varchar, null
    from given where len(list_distinct(modifiers)) < len(modifiers)
    union all
    select claim_index, line_item, code, 'MODIFIER-TOO-MANY', 'error', 'more than four modifiers', modifiers::varchar, null from given where len(modifiers) > 4
    union all
    select g.claim_index, g.line_item, g.code, 'MODIFIER-EXCLUSIVE', 'error', 'modifiers ' || x.one || ' and ' || x.other || ' exclude each other',
           x.one || ' ' || x.other, null
    from given g join policy_exclusive x on list_contains(g.modifiers, x.one) and list_contains(g.modifiers, x.other)
    union all
    select claim_index, line_item, code, 'MODIFIER-EM-ONLY', 'error', 'modifier ' || modifier || ' belongs on an evaluation and management code', modifier, null
    from each join policy_modifier p using (modifier) where p.role = 'evaluation_and_management' and not em and code is not null
    union all
    select claim_index, line_item, code, 'MODIFIER-NOT-EM', 'error', 'modifier ' || modifier || ' does not belong on an evaluation and management code', modifier, null
    from each join policy_modifier p using (modifier) where p.role = 'distinct_service' and em
    union all
    select claim_index, line_item, code, 'MODIFIER-BILATERAL-UNITS', 'warning', 'modifier 50 is one unit, more are billed', '50', null
    from given where list_contains(modifiers, '50') and units > 1
)
select claim_index, line_item, code, 'modifier' as issue_type, severity, rule_id, coalesce(v.label, $policy_version) as rule_version, message,
       to_json({'code': code, 'modifiers': about, 'table': v.kind, 'table_version': v.label, 'sha256': v.sha256})::varchar as evidence,
       'Correct the modifiers of the line' as action
from found left join ref_version v using (version)
