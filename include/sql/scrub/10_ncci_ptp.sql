-- NCCI procedure-to-procedure edits: both codes of an edit on one day for one patient by one provider.
-- 0 never; 9 void; 1 only with a modifier that says why: a distinct service (not on an E/M code), 24, 25 or 57 on the E/M code,
-- 27, 58, 78, 79, 91, or anatomic modifiers that name different sites on both lines. One issue per column 2 line and column 1 code.
with code as (
    select grp, code, any_value(dos) as dos, any_value(ncci_ptp) as version
    from line
    where grp is not null and code is not null and ncci_ptp is not null
    group by grp, code
),
both_codes as materialized (  -- first, or the planner joins the codes with their half a billion edits
    select a.grp, a.dos, a.version, a.code as column1, b.code as column2 from code a join code b on b.grp = a.grp and b.code <> a.code
),
edit as materialized (
    select c.grp, e.*
    from both_codes c
    join ref_ptp e on e.version = c.version and e.column1 = c.column1 and e.column2 = c.column2
    where e.indicator <> '9' and c.dos >= e.effective and c.dos <= coalesce(e.deletion, date '9999-12-31')
),
denied as materialized (
    select
        e.*, b.line_id, b.claim_index, b.line_item, b.dos, b.modifiers, b.bypass, b.sites
    from edit e
    join line b on b.grp = e.grp and b.code = e.column2
),
pair as (
    select
        b.*,
        a.claim_id as other_claim, a.line_item as other_line, a.modifiers as other_modifiers,
        a.claim_index <> b.claim_index as across,
        case
            when b.indicator = '0' then 3
            when a.bypass or b.bypass then 0
            when len(a.sites) = 0 and len(b.sites) = 0 then 3
            when len(a.sites) = 0 or len(b.sites) = 0 then 1
            when list_has_any(a.sites, b.sites) then 2
            else 0
        end as verdict,
        a.line_id as other_id
    from denied b
    join line a on a.grp = b.grp and a.code = b.column1
),
worst as (
    select * from pair where verdict > 0
    qualify row_number() over (partition by line_id, column1 order by verdict = 1, other_id, part, row) = 1
)
select
    claim_index,
    line_item,
    column2 as code,
    'NCCI_edit' as issue_type,
    case when verdict = 1 then 'warning' else 'error' end as severity,
    case when across then 'NCCI-PTP-ACROSS-CLAIMS' else 'NCCI-PTP' end as rule_id,
    v.label as rule_version,
    column2 || ' is a component of ' || column1 || case
        when indicator = '0' then '; no modifier allows both'
        when verdict = 1 then '; an anatomic modifier stands on one line only'
        when verdict = 2 then '; both lines name the same site'
        else '; no modifier says why both were done' end
        || case when across then ' (the other is on another claim of the same day and provider)' else '' end as message,
    to_json({
        'column1': column1, 'column2': column2, 'modifier_indicator': indicator, 'effective': effective, 'deletion': deletion,
        'date_of_service': dos, 'modifiers': modifiers, 'other_claim_id': other_claim, 'other_line_item': other_line,
        'other_modifiers': other_modifiers, 'table': v.kind, 'table_version': v.label,
        'file': part, 'row': row, 'sha256': v.sha256
    })::varchar as evidence,
    case when indicator = '0' then 'Remove ' || column2 || ', or ' || column1 || ' if that was not done'
         else 'If the record shows a distinct service, add the modifier that says so (XE, XS, XP, XU, 59, an anatomic modifier, or 25 or 57 on the E/M code); else remove ' || column2
    end as action
from worst
join ref_version v using (version)
