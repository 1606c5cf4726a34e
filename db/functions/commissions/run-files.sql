-- The list of a run as it is read for its file, and the file's bytes.

-- The list of a run from line `p_after` on.
create function commission_lines(p_period text, p_after integer, p_limit integer) returns setof commission_line
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select i.n, a.id, a.kind, a.affiliate_id, a.account_id, a.payment_id, p.top_up_id, a.base, a.rate_ppm, a.rule_version,
    a.reversed_from, a.reversed_to, a.amount, a.accrued_at, a.matures_at, p.credited, i.amount,
    case when t.id = i.posting_id then case a.affiliate_id when t.credit then t.amount
      when t.debit then -t.amount end end
  from commission_item i join commission_accrual a on a.id = i.accrual_id left join payment p on p.id = a.payment_id
    left join posting t on t.business_id = a.id and t.kind = 'commission'
  where i.run = p_period and i.n > p_after
  order by i.n limit p_limit
$$;
grant execute on function commission_lines to holdfast_worker;

-- What the run of a period would take now, in the order of its list. Writes nothing.
create function commission_candidates(p_period text) returns setof commission_line
language sql stable security definer set search_path = holdfast, pg_temp set enable_hashjoin = on as $$
  select null::integer, a.id, a.kind, a.affiliate_id, a.account_id, a.payment_id, p.top_up_id, a.base, a.rate_ppm,
    a.rule_version, a.reversed_from, a.reversed_to, a.amount, a.accrued_at, a.matures_at, p.credited, null::numeric,
    null::numeric
  from commission_accrual a left join payment p on p.id = a.payment_id
  where a.run is null and a.matures_at <= commission_period_end(p_period)
    and commission_hold(a, commission_period_end(p_period)) is null
  order by a.id
$$;
grant execute on function commission_candidates to holdfast_worker;

-- How many accruals a run took; the list must have as many.
create function commission_taken(p_period text) returns integer
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select count(*)::integer from commission_accrual where run = p_period
$$;
grant execute on function commission_taken to holdfast_worker;

-- Keeps a part of a file; a repeat writes the same. The parts of a run that is done stay as they are.
create function save_commission_part(p_period text, p_dry_run integer, p_part integer, p_content bytea) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  insert into commission_file_part (period, dry_run, part, content)
  select p_period, p_dry_run, p_part, p_content
  where p_dry_run > 0 or exists (select from commission_run where period = p_period and state = 'posted')
  on conflict (period, dry_run, part) do update set content = excluded.content
$$;
grant execute on function save_commission_part to holdfast_worker;

create function commission_part(p_period text, p_dry_run integer, p_part integer) returns bytea
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select content from commission_file_part where period = p_period and dry_run = p_dry_run and part = p_part
$$;
grant execute on function commission_part to holdfast_worker;
