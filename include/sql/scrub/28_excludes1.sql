-- Excludes1 notes of the ICD-10-CM tabular list: two conditions that are not reported together on a claim. The guidelines
-- (section I.A.12.a) allow unrelated conditions, so a person decides.
with used as (
    select distinct claim_index, unnest(diagnoses) as diagnosis, icd10cm_tabular as version from line where icd10cm_tabular is not null
),
several as materialized (select * from used where claim_index in (select claim_index from used group by claim_index having count(distinct diagnosis) > 1)),
noted as materialized (
    select d.diagnosis, d.version, e.code as noted_at, e.first, e.last, e.row
    from (select distinct diagnosis, version from several) d
    cross join (values (3), (4), (5), (6), (7)) n(length)
    join ref_excludes1 e on e.version = d.version and e.code = left(d.diagnosis, n.length)
    where len(d.diagnosis) >= n.length
),
pair as (
    select a.claim_index, n.*, b.diagnosis as other
    from noted n
    join several a on a.diagnosis = n.diagnosis and a.version = n.version
    join several b on b.claim_index = a.claim_index and b.version = a.version and b.diagnosis <> a.diagnosis
    where b.diagnosis >= n.first and b.diagnosis < n.last || '~' and not starts_with(b.diagnosis, n.noted_at)
),
once as (
    select * from pair
    qualify row_number() over (partition by claim_index, least(diagnosis, other), greatest(diagnosis, other) order by diagnosis, noted_at, row) = 1
)
select claim_index, null::integer as line_item, diagnosis as code, 'coding' as issue_type, 'warning' as severity, 'ICD10-EXCLUDES1' as rule_id, v.label as rule_version,
       diagnosis || ' excludes ' || other || ' (excludes1 note)' as message,
       to_json({'diagnosis': diagnosis, 'excluded': other, 'note_at': noted_at, 'table': v.kind, 'table_version': v.label, 'row': o.row, 'sha256': v.sha256})::varchar as evidence,
       'Report the one that applies, or confirm that the two are unrelated' as action
from once o join ref_version v using (version)
