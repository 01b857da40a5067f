-- Days from the oldest service to the day of checking against the payer's limit, or the policy's where the payer states none.
with oldest as (
    select c.claim_index, c.payer_id, min(l.dos) as dos from line l join claim c using (claim_index) where l.dos is not null group by all
)
select o.claim_index, null::integer as line_item, null::varchar as code, 'timely_filing' as issue_type, 'error' as severity,
       'TIMELY-FILING' as rule_id, coalesce(p.version, $policy_version) as rule_version,
       'the filing limit of ' || coalesce(p.days, $timely_filing_days) || ' days has passed' as message,
       to_json({'date_of_service': o.dos, 'checked_on': $as_of::date, 'days': $as_of::date - o.dos, 'limit': coalesce(p.days, $timely_filing_days),
                'payer_id': o.payer_id, 'stated_by': case when p.days is null then 'policy' else 'payer' end})::varchar as evidence,
       'Look for proof of an earlier filing, or for a reason the payer accepts' as action
from oldest o
left join payer_limit p on p.payer_id = o.payer_id and o.dos between p.starts and coalesce(p.ends, date '9999-12-31')
where $as_of::date - o.dos > coalesce(p.days, $timely_filing_days)
