-- Global surgical package (42 CFR 414.40, Medicare Claims Processing Manual chapter 12, section 40): visits and procedures of the
-- same provider for the same patient that belong to it unless a modifier says otherwise. Needs a patient on the claim.
with known as (select claim_index from claim where known_patient),
priced as materialized (
    select l.*, p.global_days, p.row
    from line l
    join ref_pprrvu p on p.version = l.pprrvu and p.code = l.code and p.modifier = '' and not p.qualifying_participant
    where l.claim_index in (select claim_index from known) and (l.em or p.global_days in ('000', '010', '090'))
),
surgery as (select * from priced where global_days in ('000', '010', '090') and not em),
within as (
    select v.claim_index, v.line_item, v.line_id, v.code, v.dos, v.em, v.modifiers, s.code as surgery, s.dos as surgery_dos, s.global_days, s.row, s.pprrvu as version,
           s.claim_id as surgery_claim, s.line_id as surgery_id,
           case when v.em and v.dos = s.dos and s.global_days = '090' then ['57', '25']
                when v.em and v.dos = s.dos then ['25']
                when v.em and v.dos < s.dos then ['57', '25']
                when v.em then ['24']
                else ['58', '78', '79'] end as wanted
    from priced v
    join surgery s on s.subject = v.subject and s.provider = v.provider and s.line_id <> v.line_id
    where (v.em and v.dos = s.dos)
       or (v.em and s.global_days = '090' and v.dos = s.dos - 1)
       or (v.dos > s.dos and v.dos <= s.dos + s.global_days::integer)
)
select claim_index, line_item, w.code, 'modifier' as issue_type, 'warning' as severity,
       case when em then 'GLOBAL-VISIT' else 'GLOBAL-PROCEDURE' end as rule_id, v.label as rule_version,
       w.code || ' falls in the global period of ' || surgery || ' without modifier ' || array_to_string(wanted, ', ') as message,
       to_json({'code': w.code, 'date_of_service': dos, 'surgery': surgery, 'surgery_date': surgery_dos, 'surgery_claim_id': surgery_claim,
                'global_days': global_days, 'table': v.kind, 'table_version': v.label, 'row': w.row, 'sha256': v.sha256})::varchar as evidence,
       'If the record shows a separate service add modifier ' || array_to_string(wanted, ' or ') || '; else do not bill it' as action
from within w join ref_version v using (version)
where not list_has_any(modifiers, wanted)
qualify row_number() over (partition by line_id order by surgery_dos desc, surgery_id) = 1
