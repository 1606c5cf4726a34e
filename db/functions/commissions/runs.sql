-- Runs: a run takes accruals once (`run`, from null to a period), then lists and posts them in chunks.
--
-- Lock order: a run's first step locks accruals only, its chunks lock the run and accounts.

create function order_commission_run(p_period text, p_by text) returns void
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  perform require_person(p_by);
  insert into commission_run_order (period, ordered_by) values (p_period, p_by) on conflict do nothing;
end
$$;
grant execute on function order_commission_run to holdfast_management;

-- The first moment after a period.
create function commission_period_end(p_period text) returns timestamptz
language sql immutable as $$
  select make_timestamptz(left(p_period, 4)::integer, right(p_period, 2)::integer, 1, 0, 0, 0, 'UTC')
    + interval '1 month'
$$;

-- Begins the run of a period, once: takes every accrual that is in no run, has matured by the period's end and is not
-- held back. A repeat returns the run as it is. Refuses HF040 while the period has not ended at `p_at`.
create function begin_commission_run(p_period text, p_at timestamptz) returns commission_run
language plpgsql security definer set search_path = holdfast,
  pg_temp set enable_seqscan = on set enable_hashjoin = on set timezone = 'UTC' as $$
declare
  v_run commission_run;
  v_ends timestamptz := commission_period_end(p_period);
begin
  if p_at < v_ends then
    perform refuse('HF040', 'the period has not ended');
  end if;
  insert into commission_run (period, ends_at, begun_by, began_at)
  values (p_period, v_ends, coalesce((select ordered_by from commission_run_order o where o.period = p_period),
    'schedule'), p_at)
  on conflict do nothing returning * into v_run;
  if not found then
    select * into v_run from commission_run where period = p_period;
    return v_run;
  end if;
  -- Signals that appeared after the accrual: an affiliate that is held back for one has a review that a person can
  -- decide.
  insert into commission_review (payment_id, affiliate_id, account_id, signals)
  select a.payment_id, a.affiliate_id, a.account_id, self_referral_signals(a.affiliate_id, a.account_id)
  from commission_accrual a
  where a.run is null and a.matures_at <= v_ends and a.kind = 'earned'
    and exists (select from account_mark m where m.account_id = a.account_id)
    and self_referral_signals(a.affiliate_id, a.account_id) <> '{}'
  on conflict do nothing;
  with taken as (
    update commission_accrual a set run = p_period
    where a.run is null and a.matures_at <= v_ends and commission_hold(a, v_ends) is null
    returning amount
  )
  update commission_run set accruals = t.n, total = t.total, state = case when t.n = 0 then 'posted' else 'posting' end
  from (select count(*)::integer as n, coalesce(sum(amount), 0) as total from taken) t
  where period = p_period returning * into v_run;
  return v_run;
end
$$;
grant execute on function begin_commission_run to holdfast_worker;

-- Lists and posts the next accruals of a run, at most `p_limit`, in one transaction. A repeat goes on where the last
-- one ended.
create function post_commissions(p_period text, p_limit integer) returns commission_run
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_run commission_run;
  v_accrual commission_accrual;
  v_commission_account uuid := system_account('commission');
  v_posting_id uuid;
  v_last_accrual uuid;
begin
  select * into v_run from commission_run where period = p_period for update;
  if not found then
    perform refuse('HF001', 'run unknown');
  end if;
  if v_run.state <> 'posting' then
    return v_run;
  end if;
  -- post_transfer locks one account after the other; a request of two affiliates must never meet them in another order.
  perform 1 from account where id in (select affiliate_id from commission_accrual
    where run = p_period and id > v_run.posted_through order by id limit p_limit) order by id for no key update;
  for v_accrual in select * from commission_accrual where run = p_period and id > v_run.posted_through order by id
    limit p_limit loop
    v_posting_id := case when v_accrual.amount <> 0 then post_transfer('commission', v_accrual.id,
      case when v_accrual.amount > 0 then v_commission_account else v_accrual.affiliate_id end,
        case when v_accrual.amount > 0 then v_accrual.affiliate_id else v_commission_account end,
      abs(v_accrual.amount), jsonb_build_object('run', p_period, 'kind', v_accrual.kind,
        'payment', v_accrual.payment_id, 'account', v_accrual.account_id, 'base', v_accrual.base::text,
        'rate_ppm', v_accrual.rate_ppm, 'rule_version', v_accrual.rule_version,
        'reversed_from', v_accrual.reversed_from::text, 'reversed_to', v_accrual.reversed_to::text,
        'reversal', v_accrual.reversal_id), true) end;
    v_run.posted := v_run.posted + 1;
    v_last_accrual := v_accrual.id;
    insert into commission_item (run, n, accrual_id, amount, posting_id)
    values (p_period, v_run.posted, v_accrual.id, v_accrual.amount, v_posting_id);
  end loop;
  update commission_run set posted = v_run.posted, posted_through = coalesce(v_last_accrual, posted_through),
    state = case when v_run.posted = accruals then 'posted' else 'posting' end
  where period = p_period returning * into v_run;
  return v_run;
end
$$;
grant execute on function post_commissions to holdfast_worker;

create function commission_run_of(p_period text) returns setof commission_run
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select * from commission_run where period = p_period
$$;
grant execute on function commission_run_of to holdfast_worker;

-- Closes a run whose accruals are posted and whose file is written. A repeat returns it as it is.
create function finish_commission_run(p_period text, p_at timestamptz, p_sha256 text, p_manifest text)
returns commission_run
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_run commission_run;
begin
  update commission_run set state = 'done', finished_at = p_at, csv_sha256 = p_sha256, manifest = p_manifest
  where period = p_period and state = 'posted';
  select * into v_run from commission_run where period = p_period;
  return v_run;
end
$$;
grant execute on function finish_commission_run to holdfast_worker;

create trigger append_only before update or delete on commission_item for each row execute function deny_change();
create trigger append_only_truncate before truncate on commission_item
  for each statement execute function deny_change();
