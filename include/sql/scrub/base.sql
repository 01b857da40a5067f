-- The claims and lines in the form every rule reads. Reads: given_claim, given_line (medbill.model.scrub), in_force, policy_*,
-- repeated_claim_id.
-- subject: all claims of one patient have the same; a claim without a patient is alone. grp: lines of one subject, provider,
-- setting and day, which is what NCCI, MUE and add-on edits look at. line_id is an order that does not depend on the input's.
create or replace temp table claim as
with person as (
    select practice, patient_id, min(claim_index) as subject from given_claim where patient_id is not null group by all
)
select
    claim_index,
    claim_id,
    row_number() over (order by claim_id, claim_index) as claim_order,
    upper(trim(coalesce(payer_id, ''))) as payer_id,
    case lower(trim(claim_type)) when 'institutional' then 'institutional' when 'dme' then 'dme' else 'professional' end as setting,
    coalesce(p.subject, claim_index) as subject,
    p.subject is not null as known_patient,
    patient_age_years as age,
    case when upper(trim(patient_sex)) in ('M', 'MALE') then 'M' when upper(trim(patient_sex)) in ('F', 'FEMALE') then 'F' end as sex,
    nullif(trim(place_of_service), '') as place,
    nullif(upper(trim(state)), '') as state,
    nullif(trim(mac), '') as mac,
    nullif(trim("authorization"), '') as authorization_number,
    nullif(trim(referring_npi), '') as referring_npi,
    nullif(trim(billing_npi), '') as billing_npi,
    [upper(replace(trim(d), '.', '')) for d in diagnoses if trim(d) <> ''] as diagnoses,
    readable
from given_claim c
left join person p on p.patient_id = c.patient_id and p.practice is not distinct from c.practice;

create or replace temp table raw_line as
select
    l.claim_index,
    l.line_item,
    c.claim_id,
    c.claim_order,
    c.subject,
    c.setting,
    nullif(upper(trim(l.code)), '') as code,
    case when len(l.modifiers) = 0 then [] else list_sort([upper(trim(m)) for m in l.modifiers if trim(m) <> '']) end::varchar[] as modifiers,
    l.units,
    l.charge,
    l.date_of_service as dos,
    case when len(l.diagnoses) = 0 then c.diagnoses else [upper(replace(trim(d), '.', '')) for d in l.diagnoses if trim(d) <> ''] end as diagnoses,
    nullif(trim(l.rendering_npi), '') as rendering_npi,
    coalesce(nullif(trim(l.rendering_npi), ''), c.billing_npi, '') as provider
from given_line l
join claim c using (claim_index);

create or replace temp table grp as
select row_number() over () as grp, subject, provider, g.setting, g.dos, f.* exclude (setting, dos)
from (select distinct subject, provider, setting, dos from raw_line where dos is not null) g
left join in_force f on f.setting = g.setting and f.dos = g.dos;

create or replace temp table code_fact as
select code, exists (select 1 from policy_em e where code between e.first and e.last) as em
from (select distinct code from raw_line where code is not null);

-- few lists of modifiers occur, many times each
create or replace temp table modifier_fact as
with role as (
    select role, list(modifier) as modifiers from policy_modifier group by role
),
given as (select distinct modifiers from raw_line where len(modifiers) > 0)
select
    g.modifiers,
    list_intersect(g.modifiers, (select modifiers from role where role = 'anatomic')) as sites,
    list_has_any(g.modifiers, (select modifiers from role where role = 'distinct_service')) as distinct_service,
    list_has_any(g.modifiers, (select modifiers from role where role = 'evaluation_and_management')) as evaluation,
    list_has_any(g.modifiers, (select modifiers from role where role = 'other_bypass')) as other_bypass,
    list_has_any(g.modifiers, (select modifiers from role where role = 'repeat')) as repeated
from given g;

create or replace temp table line as
select
    l.claim_order * 1048576 + l.line_item as line_id,
    l.* exclude (claim_order),
    coalesce(f.em, false) as em,
    coalesce(m.sites, []) as sites,
    coalesce(case when f.em then m.evaluation else m.distinct_service end or m.other_bypass, false) as bypass,
    coalesce(m.repeated, false) as repeated,
    g.grp, g.ncci_ptp, g.mue, g.add_on, g.icd10cm, g.icd10cm_tabular, g.hcpcs, g.pprrvu, g.clfs, g.mcd_article
from raw_line l
left join modifier_fact m on m.modifiers = l.modifiers
left join code_fact f on f.code = l.code
left join grp g on g.subject = l.subject and g.provider = l.provider and g.setting = l.setting and g.dos = l.dos;

drop table raw_line;
drop table code_fact;
drop table modifier_fact;

create or replace temp table issue (
    claim_index integer, line_item integer, code varchar, issue_type varchar, severity varchar, rule_id varchar,
    rule_version varchar, message varchar, evidence varchar, action varchar
);
