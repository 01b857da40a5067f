-- Ages and sexes that diagnoses and level II codes imply, against the patient's. Unknown age or sex decides nothing.
with used as (
    select distinct claim_index, 'diagnosis' as of, unnest(diagnoses) as code from line
    union
    select distinct claim_index, 'code', code from line where code is not null
),
ruled as materialized (
    select c.code, c.of, p.rule_id, p.age_from, p.age_to, p.sex, p.severity
    from (select distinct code, of from used) c
    join policy_demographic p on p.of = c.of and c.code >= p.first and c.code < p.last || '~'
),
excused as (
    select distinct claim_index from line where len(modifiers) > 0
      and list_has_any(modifiers, (select list(modifier) from policy_modifier where role = 'demographic_exception'))
)
select u.claim_index, null::integer as line_item, u.code, 'demographic' as issue_type, r.severity, r.rule_id, $policy_version as rule_version,
       u.code || ' does not fit the ' || case when r.sex is null then 'age' else 'sex' end || ' of the patient' as message,
       to_json({'code': u.code, 'age_from': r.age_from, 'age_to': r.age_to, 'sex': r.sex, 'patient_age': case when r.sex is null then c.age end,
                'patient_sex': case when r.sex is not null then c.sex end})::varchar as evidence,
       'Check the code against the record, and the patient''s age and sex against the registration' as action
from used u
join ruled r on r.code = u.code and r.of = u.of
join claim c on c.claim_index = u.claim_index
where (r.sex is null and c.age is not null and c.age not between r.age_from and r.age_to)
   or (r.sex is not null and c.sex is not null and c.sex <> r.sex and u.claim_index not in (select claim_index from excused))
