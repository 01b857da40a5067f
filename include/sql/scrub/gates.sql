-- Which rules have something to look at, in one look at a small batch: a rule whose column is false can find nothing (a column may be
-- true for nothing). Rules without a column always run. It makes a single claim fast; a large batch runs every rule anyway.
select
    exists (select 1 from line where grp is not null and code is not null group by grp having min(code) < max(code)) as "10_ncci_ptp",
    exists (
        select 1 from (select code, mue, sum(units) as units from line where units > 0 group by all) d
        join ref_mue m on m.version = d.mue and m.code = d.code where d.units > m.units
    ) as "11_mue",
    exists (select 1 from line l join ref_add_on e on e.version = l.add_on and e.add_on = l.code) as "12_add_on",
    bool_or(code is null or units is null or units <= 0 or units > $units_review_above or charge is null or charge < 0 or dos is null
            or dos > $as_of or provider = '' or coalesce(len(diagnoses), 0) = 0)
        or exists (
            select 1 from claim
            where not readable or claim_id is null or payer_id = '' or place is null or age is null or age not between 0 and 124 or sex is null
        )
        or count(distinct claim_index) < (select count(*) from claim) as "20_missing",
    exists (
        select 1 from line l
        where code is not null
          and not exists (select 1 from ref_hcpcs h where h.version = l.hcpcs and h.code = l.code and not h.is_modifier and l.dos >= h.added
                          and (h.terminated is null or l.dos <= h.terminated))
          and not exists (select 1 from ref_pprrvu p where p.version = l.pprrvu and p.code = l.code and p.status <> 'D')
    ) as "22_procedure_codes",
    exists (
        select 1 from (select distinct unnest(diagnoses) as diagnosis, icd10cm from line where icd10cm is not null) d
        where not exists (select 1 from ref_icd10cm k where k.version = d.icd10cm and k.code = d.diagnosis and k.billable)
    )
        or exists (select 1 from claim c join policy_external e on c.diagnoses[1] >= e.first and c.diagnoses[1] < e.last || '~')
        or (select max(len(diagnoses)) > (select min(diagnoses) from policy_most) from claim) as "23_diagnosis_codes",
    bool_or(len(modifiers) > 0) as "24_laterality",
    bool_or(len(modifiers) > 0) as "25_modifiers",
    bool_or(len(modifiers) > 0) as "26_fee_schedule_modifiers",
    exists (
        select 1 from (select unnest(diagnoses) as code from line union all select code from line) u
        join policy_demographic p on u.code >= p.first and u.code < p.last || '~'
    ) as "27_demographics",
    bool_or(len(diagnoses) > 1 and icd10cm_tabular is not null) as "28_excludes1",
    count(*) > count(distinct (grp, code, modifiers)) or exists (select 1 from repeated_claim_id) as "30_duplicates",
    exists (select 1 from claim where known_patient)
        and exists (select 1 from line l join ref_pprrvu p on p.version = l.pprrvu and p.code = l.code where p.global_days in ('000', '010', '090'))
        and count(*) > 1 as "31_global_periods",
    exists (select 1 from claim where mac is not null) as "32_medical_necessity",
    $as_of - min(dos) > least($timely_filing_days, (select min(days) from payer_limit)) as "33_timely_filing",
    exists (select 1 from claim c join payer_rule r on r.payer_id = c.payer_id) as "34_payer_rules",
    bool_or(ncci_ptp is null or mue is null or add_on is null or icd10cm is null or icd10cm_tabular is null or hcpcs is null or pprrvu is null
            or mcd_article is null) as "40_no_table"
from line
