-- ICD-10-CM by the release in force on the date of service: unknown, retired (another loaded release has it), not billable.
-- One issue per claim and code. Also: an external cause listed first, and more diagnoses than the form holds.
with used as materialized (
    select claim_index, unnest(diagnoses) as diagnosis, dos, icd10cm from line where icd10cm is not null
),
distinct_code as materialized (select distinct diagnosis, icd10cm from used),
bad as materialized (
    select d.diagnosis, d.icd10cm, k.row,
        case when k.code is not null then 'ICD10-NOT-BILLABLE'
             when exists (select 1 from ref_icd10cm r where r.code = d.diagnosis and r.version <> d.icd10cm) then 'ICD10-RETIRED'
             else 'ICD10-UNKNOWN' end as rule_id
    from distinct_code d
    left join ref_icd10cm k on k.version = d.icd10cm and k.code = d.diagnosis
    where k.code is null or not k.billable
),
hit as (
    select u.claim_index, b.*, min(u.dos) as dos
    from used u join bad b on b.diagnosis = u.diagnosis and b.icd10cm = u.icd10cm
    group by all
)
select claim_index, null::integer as line_item, diagnosis as code, 'coding' as issue_type, 'error' as severity, rule_id, v.label as rule_version,
       diagnosis || case rule_id when 'ICD10-NOT-BILLABLE' then ' needs more characters to be billed'
                                 when 'ICD10-RETIRED' then ' is not in force on the date of service'
                                 else ' is not an ICD-10-CM code' end as message,
       to_json({'diagnosis': diagnosis, 'date_of_service': dos, 'table': v.kind, 'table_version': v.label, 'row': h.row, 'sha256': v.sha256})::varchar as evidence,
       'Replace ' || diagnosis || ' by a billable code in force on the date of service' as action
from hit h join ref_version v on v.version = h.icd10cm
union all
select c.claim_index, null, c.diagnoses[1], 'coding', 'error', 'ICD10-EXTERNAL-FIRST', $policy_version,
       c.diagnoses[1] || ' names an external cause and may not be listed first',
       to_json({'diagnosis': c.diagnoses[1]})::varchar, 'List the injury or condition first'
from claim c
where exists (select 1 from policy_external e where c.diagnoses[1] >= e.first and c.diagnoses[1] < e.last || '~')
union all
select c.claim_index, null, null, 'coding', 'warning', 'ICD10-TOO-MANY', $policy_version, 'more diagnoses than the claim form holds',
       to_json({'diagnoses': len(c.diagnoses), 'most': m.diagnoses})::varchar, 'Keep the diagnoses that bear on the services'
from claim c join policy_most m on m.setting = c.setting
where len(c.diagnoses) > m.diagnoses
