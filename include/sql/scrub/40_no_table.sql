-- Rules that could not be applied because no table is in force on a date of service: said, never passed in silence.
with needed as (
    select l.claim_index, 'ncci_ptp' as needs, l.dos from line l where l.dos is not null and l.ncci_ptp is null and l.setting <> 'dme' and l.code is not null
    union all
    select l.claim_index, 'mue', l.dos from line l where l.dos is not null and l.mue is null and l.code is not null
    union all
    select l.claim_index, 'add_on', l.dos from line l where l.dos is not null and l.add_on is null and l.code is not null
    union all
    select l.claim_index, 'icd10cm', l.dos from line l where l.dos is not null and l.icd10cm is null and len(l.diagnoses) > 0
    union all
    select l.claim_index, 'icd10cm_tabular', l.dos from line l where l.dos is not null and l.icd10cm_tabular is null and len(l.diagnoses) > 1
    union all
    select l.claim_index, 'hcpcs', l.dos from line l where l.dos is not null and l.hcpcs is null and l.code is not null
    union all
    select l.claim_index, 'pprrvu', l.dos from line l where l.dos is not null and l.pprrvu is null and l.code is not null
    union all
    select l.claim_index, 'mcd_article', l.dos from line l join claim c using (claim_index) where l.dos is not null and l.mcd_article is null and c.mac is not null
)
select n.claim_index, null::integer as line_item, null::varchar as code, 'missing_information' as issue_type, p.severity, 'NO-TABLE-IN-FORCE' as rule_id,
       $policy_version as rule_version,
       'no ' || n.needs || ' table is in force on the date of service; its rules were not applied' as message,
       to_json({'needs': n.needs, 'first_date': min(n.dos), 'last_date': max(n.dos)})::varchar as evidence,
       'Load the release in force on the date of service (medbill reference load)' as action
from needed n join policy_missing p using (needs)
group by n.claim_index, n.needs, p.severity
