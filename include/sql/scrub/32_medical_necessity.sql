-- Local coverage by the billing and coding articles of the claim's contractor (MAC). Group numbers of codes and of diagnoses are
-- two numberings that agree by convention only, so a diagnosis of another group is for a person. NCD exports have no codes.
with medicare as (select claim_index, mac, state from claim where mac is not null),
asked as materialized (
    select l.line_id, l.claim_index, l.line_item, l.code, l.dos, l.diagnoses, a.version, a.article_id, a.article_version, a.lcds,
           list(distinct k.code_group) as code_groups, min(k.row) as row
    from line l
    join medicare m on m.claim_index = l.claim_index
    join ref_article_code k on k.version = l.mcd_article and k.code = l.code
    join ref_article a on a.version = k.version and a.article_id = k.article_id and a.article_version = k.article_version
    where l.dos between coalesce(a.effective, date '1900-01-01') and coalesce(a.ended, date '9999-12-31')
      and exists (select 1 from ref_article_contractor c where c.version = a.version and c.article_id = a.article_id
                  and c.article_version = a.article_version and c.contractor = m.mac)
    group by all
),
each as materialized (select line_id, version, article_id, article_version, code_groups, unnest(diagnoses) as diagnosis from asked),
hit as materialized (
    select e.line_id, e.article_id, e.article_version,
           bool_or(d.covered and not d.asterisk and list_contains(e.code_groups, d.diagnosis_group)) as covered,
           bool_or(d.covered and d.asterisk and list_contains(e.code_groups, d.diagnosis_group)) as conditional,
           bool_or(d.covered) as other_group,
           bool_or(not d.covered) as noncovered,
           min(d.row) as diagnosis_row
    from each e
    join ref_article_diagnosis d on d.version = e.version and d.article_id = e.article_id and d.article_version = e.article_version and d.diagnosis = e.diagnosis
    group by all
),
judged as (
    select a.*, h.diagnosis_row,
           case when coalesce(h.covered, false) then 0
                when coalesce(h.conditional, false) then 1
                when coalesce(h.other_group, false) then 2
                when coalesce(h.noncovered, false) then 3
                when i.article_id is not null then 4
                else 0 end as verdict
    from asked a
    left join hit h using (line_id, article_id, article_version)
    left join ref_article_listed i on i.version = a.version and i.article_id = a.article_id and i.article_version = a.article_version
),
best as (select * from judged qualify row_number() over (partition by line_id order by verdict, article_id, article_version) = 1)
select b.claim_index, b.line_item, b.code, 'medical_necessity' as issue_type, case when verdict <= 2 then 'warning' else 'error' end as severity,
       case verdict when 1 then 'LCD-CONDITION' when 2 then 'LCD-GROUP' when 3 then 'LCD-NONCOVERED' else 'LCD-NOT-COVERED' end as rule_id,
       v.label as rule_version,
       b.code || case verdict when 1 then ': the supporting diagnosis is covered under a further condition of the article'
                              when 2 then ': the supporting diagnosis stands in another group of the article'
                              when 3 then ': a diagnosis is on the article''s list of those that do not support it'
                              else ': no diagnosis of the line is on the article''s list of those that support it' end as message,
       to_json({'code': b.code, 'diagnoses': b.diagnoses, 'article': 'A' || b.article_id, 'article_version': b.article_version,
                'lcds': [('L' || x) for x in b.lcds], 'code_groups': list_sort(b.code_groups), 'date_of_service': b.dos, 'table': v.kind, 'table_version': v.label,
                'row': b.row, 'diagnosis_row': b.diagnosis_row, 'sha256': v.sha256})::varchar as evidence,
       case when verdict <= 2 then 'Read the article''s paragraph for the group and confirm'
            else 'Check the record for a diagnosis that supports the service; else obtain an ABN or do not bill' end as action
from best b join ref_version v using (version)
where verdict > 0
union all
select l.claim_index, null, null, 'medical_necessity', 'warning', 'MCD-CONTRACTOR', v.label,
       case when s.contractor is null then 'the coverage export knows no contractor of this number' else 'the contractor does not serve this state' end,
       to_json({'mac': m.mac, 'state': m.state, 'table': v.kind, 'table_version': v.label, 'sha256': v.sha256})::varchar, 'Correct mac or state of the claim'
from medicare m
join (select distinct claim_index, mcd_article as version from line where mcd_article is not null) l using (claim_index)
join ref_version v on v.version = l.version
left join (select version, contractor, list(distinct state) as states from ref_contractor_state group by all) s on s.version = l.version and s.contractor = m.mac
where s.contractor is null or (m.state is not null and len(s.states) > 0 and not list_contains(s.states, m.state))
union all
select l.claim_index, l.line_item, l.code, 'medical_necessity', 'info', 'LCD-REVISED', v.label,
       l.code || ': the article in the export came into force after the date of service; its earlier version was not checked',
       to_json({'code': l.code, 'article': 'A' || min(a.article_id), 'effective': min(a.effective), 'date_of_service': l.dos, 'table': v.kind, 'table_version': v.label})::varchar,
       'Read the version of the article in force on the date of service'
from line l
join medicare m on m.claim_index = l.claim_index
join ref_article_code k on k.version = l.mcd_article and k.code = l.code
join ref_article a on a.version = k.version and a.article_id = k.article_id and a.article_version = k.article_version and a.effective > l.dos
join ref_article_contractor c on c.version = a.version and c.article_id = a.article_id and c.article_version = a.article_version and c.contractor = m.mac
join ref_version v on v.version = a.version
group by l.claim_index, l.line_item, l.line_id, l.code, l.dos, v.label, v.kind
