-- Procedure codes: form, HCPCS level II by its table (unknown, not yet or no longer in force), level I by the fee schedules.
-- Dental codes (D) are the ADA's and in no CMS table.
with used as materialized (
    select code, dos, hcpcs, pprrvu, clfs, regexp_full_match(code, '[A-CE-Z][0-9]{4}') as level_two
    from line where code is not null
    group by all
),
judged as materialized (
    select u.*, 'CODE-FORM' as rule_id, 'error' as severity, 'is not the form of a procedure code' as what, null::integer as version,
           null::date as added, null::date as terminated, null::integer as row
    from used u where not regexp_full_match(u.code, '[0-9A-Z]{5}')
    union all
    select u.*, case when h.code is null then 'HCPCS-UNKNOWN' else 'HCPCS-RETIRED' end, 'error',
           case when h.code is null then 'is not in HCPCS level II' when u.dos < h.added then 'was not yet in force' else 'was retired' end,
           u.hcpcs, h.added, h.terminated, h.row
    from used u
    left join ref_hcpcs h on h.version = u.hcpcs and h.code = u.code and not h.is_modifier
    where u.level_two and u.hcpcs is not null
      and (h.code is null or u.dos < h.added or u.dos > h.terminated)
    union all
    select u.*, 'CODE-UNKNOWN', 'warning', 'is in no fee schedule in force', u.pprrvu, null, null, null
    from used u
    where not u.level_two and regexp_full_match(u.code, '[0-9A-Z]{5}') and not u.code like 'D%' and u.pprrvu is not null
      and not exists (select 1 from ref_pprrvu p where p.version = u.pprrvu and p.code = u.code and p.status <> 'D')
      and not exists (select 1 from ref_clfs c where c.version = u.clfs and c.code = u.code)
)
select l.claim_index, l.line_item, l.code, 'coding' as issue_type, j.severity, j.rule_id, coalesce(v.label, $policy_version) as rule_version,
       l.code || ' ' || j.what as message,
       to_json({'code': l.code, 'date_of_service': l.dos, 'added': j.added, 'terminated': j.terminated, 'table': v.kind,
                'table_version': v.label, 'row': j.row, 'sha256': v.sha256})::varchar as evidence,
       'Replace ' || l.code || ' by a code in force on the date of service' as action
from judged j
join line l on l.code = j.code and l.dos is not distinct from j.dos and l.hcpcs is not distinct from j.hcpcs
     and l.pprrvu is not distinct from j.pprrvu and l.clfs is not distinct from j.clfs
left join ref_version v on v.version = j.version
