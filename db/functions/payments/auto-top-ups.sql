-- A customer's order to top up automatically, and the attempts to charge its saved card.
--
-- Lock order: auto_top_up, top-up, payment, hand_credit, then accounts (post_transfer). The request path reads none of
-- these.

-- Pauses an active order and tells its customer, once.
create function pause_auto_top_up(p_account uuid, p_reason text, p_details jsonb) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  update auto_top_up set state = 'paused', pause_reason = p_reason, next_attempt_at = null, changed_at = now()
  where account_id = p_account and state = 'active';
  if not found then
    return false;
  end if;
  insert into notice (account_id, kind, details)
  values (p_account, 'auto_top_up_paused', jsonb_build_object('reason', p_reason) || p_details);
  return true;
end
$$;

-- Everything that is decided on and shown, as of `p_at`; a row for every customer, also one that never asked for it.
create function auto_top_up_of(p_account uuid, p_at timestamptz)
returns table (state text, pause_reason text, threshold usd, amount usd, monthly_cap usd, strikes integer,
  next_attempt_at timestamptz, frozen_reason text, account_frozen boolean, balance usd, provider text, customer_id text,
  payment_method text, brand text, last4 text, exp_month integer, exp_year integer, freezes jsonb, consent_version text,
  consented_at timestamptz, spent_this_month usd, open_top_up uuid, last_top_up uuid, last_slot timestamptz,
  last_state text, last_failure text, last_started_at timestamptz)
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select coalesce(u.state, 'off'), u.pause_reason, u.threshold, u.amount, u.monthly_cap, coalesce(u.strikes, 0),
    u.next_attempt_at, u.frozen_reason, a.frozen_at is not null, a.balance, k.provider, k.customer_id, k.payment_method,
    k.brand, k.last4, k.exp_month, k.exp_year,
    (select coalesce(jsonb_agg(jsonb_build_object('kind', f.kind, 'at', f.frozen_at) order by f.frozen_at), '[]')
      from auto_top_up_freeze f where f.account_id = a.id and f.freed_at is null),
    c.text_version, c.given_at,
    (select coalesce(sum(p.credited), 0) from payment p join top_up t on t.id = p.top_up_id
      where t.account_id = a.id and t.method = 'auto' and p.credited_at >= date_trunc('month', p_at, 'UTC'))
      + case when last.state = 'open' then last.amount else 0 end,
    case when last.state = 'open' then last.top_up_id end,
    last.top_up_id, last.slot, last.state, last.failure, last.started_at
  from account a
  left join auto_top_up u on u.account_id = a.id
  left join saved_card k on k.account_id = a.id and k.removed_at is null
  left join lateral (select * from auto_top_up_consent x where x.account_id = a.id order by x.id desc limit 1) c on true
  left join lateral (select * from auto_top_up_attempt x where x.account_id = a.id order by x.slot desc
    limit 1) last on true
  where a.id = p_account and a.kind = 'customer'
$$;
grant execute on function auto_top_up_of to holdfast_worker, holdfast_management;

-- A transaction that decides about an account holds its order until the end of the transaction.
create function lock_auto_top_up(p_account uuid) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  select from auto_top_up where account_id = p_account for update
$$;
grant execute on function lock_auto_top_up to holdfast_worker;

-- The customer orders it, with consent. Refuses HF030 without a saved card and HF031 while we have frozen it. Declines
-- before this do not count any more.
create function set_auto_top_up(p_account uuid, p_threshold usd, p_amount usd, p_cap usd, p_consent_version text,
  p_by text) returns void
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  if not exists (select from saved_card where account_id = p_account and removed_at is null) then
    perform refuse('HF030', 'no card is kept');
  end if;
  insert into auto_top_up (account_id, state, threshold, amount, monthly_cap)
  values (p_account, 'active', p_threshold, p_amount, p_cap)
  on conflict (account_id) do update set state = 'active', pause_reason = null, threshold = p_threshold,
    amount = p_amount, monthly_cap = p_cap, strikes = 0, next_attempt_at = null, cap_noticed_at = null,
    changed_at = now()
  where auto_top_up.frozen_at is null;
  if not found then
    perform refuse('HF031', 'automatic top-up is frozen');
  end if;
  insert into auto_top_up_consent (account_id, text_version, threshold, amount, monthly_cap, given_by)
  values (p_account, p_consent_version, p_threshold, p_amount, p_cap, p_by);
end
$$;
grant execute on function set_auto_top_up to holdfast_management;

create function end_auto_top_up(p_account uuid) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  update auto_top_up set state = 'off', pause_reason = null, next_attempt_at = null, changed_at = now()
  where account_id = p_account and state <> 'off'
$$;
grant execute on function end_auto_top_up to holdfast_management;

-- Begins an attempt: uses its slot up and writes the order that its charge pays. For who holds the lock and has
-- decided.
create function begin_auto_top_up_attempt(p_account uuid, p_slot timestamptz, p_top_up uuid, p_fee usd, p_currency text,
  p_live boolean) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  insert into top_up (id, account_id, method, provider, amount, fee, currency, live, expires_at, customer_id,
    payment_method)
  select p_top_up, p_account, 'auto', k.provider, u.amount, p_fee, p_currency, p_live, now() + interval '1 day',
    k.customer_id, k.payment_method
  from auto_top_up u join saved_card k on k.account_id = u.account_id and k.removed_at is null
  where u.account_id = p_account;
  insert into auto_top_up_attempt (account_id, slot, top_up_id, amount, monthly_cap)
  select p_account, p_slot, p_top_up, amount, monthly_cap from auto_top_up where account_id = p_account
$$;
grant execute on function begin_auto_top_up_attempt to holdfast_worker;

-- Whether an order of an open attempt may still be charged: consent can be withdrawn, and money can come otherwise,
-- while the provider is away.
create function auto_top_up_is_wanted(p_top_up uuid) returns boolean
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select exists (
    select from auto_top_up_attempt x join auto_top_up u using (account_id) join account a on a.id = x.account_id
      join top_up t on t.id = x.top_up_id
      join saved_card k on k.account_id = x.account_id and k.removed_at is null and k.payment_method = t.payment_method
    where x.top_up_id = p_top_up and x.state = 'open' and u.state = 'active' and u.frozen_at is null
      and a.frozen_at is null
      and a.balance < u.threshold
  )
$$;
grant execute on function auto_top_up_is_wanted to holdfast_worker;

-- The account of an attempt that is not over; null when it is.
create function open_attempt_account(p_top_up uuid) returns uuid
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select account_id from auto_top_up_attempt where top_up_id = p_top_up and state = 'open'
$$;
grant execute on function open_attempt_account to holdfast_worker;

-- Ends an attempt, once, with what follows for the order; tells the customer of a decline. For who holds the lock and
-- has decided.
create function finish_auto_top_up_attempt(p_top_up uuid, p_state text, p_failure text, p_strikes integer, p_pause text)
returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_attempt auto_top_up_attempt;
  v_told jsonb;
begin
  update auto_top_up_attempt set state = p_state, failure = p_failure, ended_at = clock_timestamp()
  where top_up_id = p_top_up and state = 'open' returning * into v_attempt;
  if not found then
    return false;
  end if;
  update auto_top_up set strikes = p_strikes, changed_at = now() where account_id = v_attempt.account_id;
  v_told := jsonb_build_object('top_up_id', 'top_' || replace(p_top_up::text, '-', ''), 'failure', p_failure,
    'amount_usd', v_attempt.amount::numeric(38,12)::text);
  if p_pause is not null and pause_auto_top_up(v_attempt.account_id, p_pause, v_told) then
    return true;
  end if;
  if p_state = 'failed' then
    insert into notice (account_id, kind, details) values (v_attempt.account_id, 'auto_top_up_failed', v_told);
  end if;
  return true;
end
$$;
grant execute on function finish_auto_top_up_attempt to holdfast_worker;

-- Nothing will be tried before `p_until`. A cap that is reached is told once a month.
create function note_auto_top_up_wait(p_account uuid, p_until timestamptz, p_capped boolean, p_at timestamptz)
returns void
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_auto_top_up auto_top_up;
begin
  update auto_top_up set next_attempt_at = p_until where account_id = p_account;
  if not p_capped then
    return;
  end if;
  update auto_top_up set cap_noticed_at = p_at
  where account_id = p_account and (cap_noticed_at is null or cap_noticed_at < date_trunc('month', p_at, 'UTC'))
    returning * into v_auto_top_up;
  if not found then
    return;
  end if;
  insert into notice (account_id, kind, details) values (p_account, 'auto_top_up_cap_reached',
    jsonb_build_object('monthly_cap_usd', v_auto_top_up.monthly_cap::numeric(38,12)::text, 'next_attempt_at', p_until));
end
$$;
grant execute on function note_auto_top_up_wait to holdfast_worker;

-- Which accounts of these requests are below their threshold and not known to wait: a level, as accounts_to_notify. An
-- attempt that is under way is left alone for a minute; after that its run may be lost.
create function accounts_to_top_up(p_requests uuid[]) returns uuid[]
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select coalesce(array_agg(u.account_id), '{}') from auto_top_up u join account a on a.id = u.account_id
  where u.account_id in (select r.account_id from unnest(p_requests) as wanted (id) join request r using (id))
    and u.state = 'active' and u.frozen_at is null and a.balance < u.threshold
    and (u.next_attempt_at is null or u.next_attempt_at <= clock_timestamp())
    and not exists (select from auto_top_up_attempt x
      where x.account_id = u.account_id and x.state = 'open' and x.started_at > clock_timestamp() - interval '1 minute')
$$;
grant execute on function accounts_to_top_up to holdfast_worker;

-- Accounts that must have a run: one with an attempt that is not over, or one that may charge and has not for so long
-- that what should have started it was lost. A settlement finds only accounts that still spend; an empty one is found
-- here.
create function find_quiet_auto_top_ups(p_age_seconds numeric, p_limit integer) returns uuid[]
language sql stable security definer set search_path = holdfast, pg_temp as $$
  with age as (select clock_timestamp() - make_interval(secs => p_age_seconds::double precision) as before)
  select coalesce(array_agg(account_id), '{}') from (
    select x.account_id from auto_top_up_attempt x, age where x.state = 'open' and x.started_at < age.before
    union
    select u.account_id from auto_top_up u join account a on a.id = u.account_id, age
    where u.state = 'active' and u.frozen_at is null and a.frozen_at is null and a.balance < u.threshold
      and greatest(u.next_attempt_at, u.changed_at) < age.before
    limit p_limit
  ) quiet
$$;
grant execute on function find_quiet_auto_top_ups to holdfast_worker;

create trigger append_only before update or delete on auto_top_up_consent for each row execute function deny_change();
create trigger append_only_truncate before truncate on auto_top_up_consent
  for each statement execute function deny_change();
