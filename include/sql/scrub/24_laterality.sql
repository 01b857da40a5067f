-- The side a diagnosis names against the side the line's modifiers name (LT, RT). A line with both sides' diagnoses is in order.
with sided as (
    select line_id, claim_index, line_item, code, dos, icd10cm, unnest(diagnoses) as diagnosis,
           list_contains(modifiers, 'LT') as lt, list_contains(modifiers, 'RT') as rt
    from line
    where len(modifiers) > 0 and icd10cm is not null and list_contains(modifiers, 'LT') <> list_contains(modifiers, 'RT')
),
judged as (
    select s.line_id, any_value(s.claim_index) as claim_index, any_value(s.line_item) as line_item, any_value(s.code) as code,
           any_value(s.dos) as dos, any_value(s.icd10cm) as version, bool_or(s.lt) as lt,
           bool_or(k.side = 'bilateral' or k.side = case when s.lt then 'left' else 'right' end) as agrees,
           list_sort(list(distinct s.diagnosis) filter (where k.side = case when s.lt then 'right' else 'left' end)) as contrary,
           min(k.row) filter (where k.side = case when s.lt then 'right' else 'left' end) as row
    from sided s
    join ref_icd10cm k on k.version = s.icd10cm and k.code = s.diagnosis
    group by s.line_id
)
select claim_index, line_item, code, 'coding' as issue_type, 'warning' as severity, 'ICD10-LATERALITY' as rule_id, v.label as rule_version,
       'modifier ' || case when lt then 'LT' else 'RT' end || ' and diagnosis ' || contrary[1] || ' name different sides' as message,
       to_json({'modifier': case when lt then 'LT' else 'RT' end, 'diagnoses': contrary, 'date_of_service': dos, 'table': v.kind,
                'table_version': v.label, 'row': j.row, 'sha256': v.sha256})::varchar as evidence,
       'Check the side in the record and correct the modifier or the diagnosis' as action
from judged j join ref_version v using (version)
where len(contrary) > 0 and not coalesce(agrees, false)
