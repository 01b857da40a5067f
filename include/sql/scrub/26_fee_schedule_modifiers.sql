-- Modifiers the physician fee schedule does not allow with the code (PC/TC, bilateral, assistant, co-surgeon and team indicators).
with each as materialized (
    select l.claim_index, l.line_item, l.code, l.dos, unnest(l.modifiers) as modifier, p.version, p.pctc, p.bilateral, p.assistant, p.co_surgeon, p.team, p.row
    from line l
    join ref_pprrvu p on p.version = l.pprrvu and p.code = l.code and p.modifier = '' and not p.qualifying_participant
    where len(l.modifiers) > 0
),
found as (
    select *, 'PFS-PCTC' as rule_id, 'error' as severity, 'PCTC' as indicator, pctc as value from each where modifier in ('26', 'TC') and pctc not in ('1', '6')
    union all
    select *, 'PFS-BILATERAL', 'error', 'BILAT', bilateral from each where modifier = '50' and bilateral in ('0', '2', '9')
    union all
    select *, 'PFS-ASSISTANT', case assistant when '0' then 'warning' else 'error' end, 'ASST', assistant
    from each where modifier in ('80', '81', '82', 'AS') and assistant in ('0', '1', '9')
    union all
    select *, 'PFS-COSURGEON', case co_surgeon when '1' then 'warning' else 'error' end, 'CO-SURG', co_surgeon
    from each where modifier = '62' and co_surgeon in ('0', '1', '9')
    union all
    select *, 'PFS-TEAM', case team when '1' then 'warning' else 'error' end, 'TEAM', team from each where modifier = '66' and team in ('0', '1', '9')
)
select claim_index, line_item, code, 'modifier' as issue_type, severity, rule_id, v.label as rule_version,
       'modifier ' || modifier || case severity when 'error' then ' is not allowed with ' else ' needs documentation with ' end || code as message,
       to_json({'code': code, 'modifier': modifier, 'indicator': indicator, 'value': value, 'date_of_service': dos, 'table': v.kind,
                'table_version': v.label, 'row': f.row, 'sha256': v.sha256})::varchar as evidence,
       case severity when 'error' then 'Remove modifier ' || modifier || ' or correct the code' else 'Attach the documentation of medical necessity' end as action
from found f join ref_version v using (version)
