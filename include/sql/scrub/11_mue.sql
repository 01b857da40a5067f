-- Medically unlikely edits. Adjudication 1: units of each line. 2 and 3: units of all lines of the code on the day, over all
-- claims of the patient and provider; 2 is absolute, 3 may be paid with records. One issue per claim on its last such line.
with day as (
    select grp, code, any_value(mue) as version, sum(units) as units, max(units) as line_units
    from line
    where grp is not null and code is not null and mue is not null and units > 0
    group by grp, code
),
over as materialized (
    select d.grp, d.code, d.units as day_units, m.version, m.units as most, m.adjudication, m.part, m.row
    from day d
    join ref_mue m on m.version = d.version and m.code = d.code
    where (m.adjudication = 1 and d.line_units > m.units) or (m.adjudication in (2, 3) and d.units > m.units)
),
hit as (
    select o.*, l.claim_index, l.line_item, l.line_id, l.units, l.dos
    from over o
    join line l on l.grp = o.grp and l.code = o.code
    where l.units > 0 and (o.adjudication <> 1 or l.units > o.most)
    qualify o.adjudication = 1 or row_number() over (partition by l.claim_index, l.grp, l.code order by l.line_id desc) = 1
)
select
    claim_index,
    line_item,
    code,
    'MUE' as issue_type,
    case when adjudication = 3 then 'warning' else 'error' end as severity,
    'MUE-MAI' || adjudication as rule_id,
    v.label as rule_version,
    code || ': ' || case when adjudication = 1 then 'units of the line' else 'units of the day' end || ' above the limit of ' || most as message,
    to_json({
        'code': code, 'limit': most, 'adjudication_indicator': adjudication, 'line_units': units::double, 'day_units': day_units::double,
        'date_of_service': dos, 'table': v.kind, 'table_version': v.label, 'file': part, 'row': row, 'sha256': v.sha256
    })::varchar as evidence,
    case adjudication
        when 1 then 'Correct the units, or report units above the limit on a line of their own with a modifier if the record shows them'
        when 2 then 'Correct the units; the limit of a day is absolute'
        else 'Correct the units, or keep the records that show them at hand for the appeal' end as action
from hit
join ref_version v using (version)
