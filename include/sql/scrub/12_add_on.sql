-- Add-on codes are paid with their primary procedure only (same patient, provider and day). Type 1: a listed primary. Type 2: the
-- contractor says which, so any other procedure will do. Type 3: a listed one, or another the contractor may accept (review).
with asked as materialized (
    select l.line_id, l.claim_index, l.line_item, l.code, l.grp, l.dos, e.*
    from line l
    join ref_add_on e on e.version = l.add_on and e.add_on = l.code
    where l.grp is not null
      and l.dos between coalesce(e.effective, date '1900-01-01') and coalesce(e.deletion, date '9999-12-31')
      and l.dos <= coalesce(e.add_on_deletion, date '9999-12-31')
      and l.dos <= coalesce(e.primary_deletion, date '9999-12-31')
),
day as (
    select distinct grp, code, add_on as version, dos from line where grp in (select grp from asked) and code is not null
),
other as (
    select distinct grp from day d
    where not exists (
        select 1 from ref_add_on e
        where e.version = d.version and e.add_on = d.code
          and d.dos between coalesce(e.effective, date '1900-01-01') and coalesce(e.deletion, date '9999-12-31')
    )
),
judged as (
    select
        a.line_id, any_value(a.claim_index) as claim_index, any_value(a.line_item) as line_item, any_value(a.code) as code,
        any_value(a.dos) as dos, any_value(a.version) as version, min(a.edit_type) as edit_type, min(a.part) as part, min(a.row) as row,
        bool_or(d.code is not null) as listed,
        bool_or(o.grp is not null) as other,
        list_sort(list(distinct a.primary_code) filter (where a.primary_code is not null))[:20] as primaries
    from asked a
    left join day d on d.grp = a.grp and d.code = a.primary_code
    left join other o on o.grp = a.grp
    group by a.line_id
)
select
    claim_index,
    line_item,
    code,
    'add_on' as issue_type,
    case when edit_type = 3 and other then 'warning' else 'error' end as severity,
    'ADD-ON-TYPE' || edit_type as rule_id,
    v.label as rule_version,
    code || case when edit_type = 3 and other then ' is an add-on code; none of its listed primary codes is billed that day'
                 when edit_type = 2 then ' is an add-on code and stands alone'
                 else ' is an add-on code without its primary code' end as message,
    to_json({
        'code': code, 'edit_type': edit_type, 'primary_codes': primaries, 'date_of_service': dos,
        'table': v.kind, 'table_version': v.label, 'file': part, 'row': row, 'sha256': v.sha256
    })::varchar as evidence,
    'Bill the primary procedure on the same claim, or correct the code' as action
from judged
join ref_version v using (version)
where not listed and not (edit_type = 2 and other)
