-- Top-up orders, from their checkout to their end. What is credited is decided in domain/payments/top-up.ts.
--
-- Lock order: top-up, payment (lock_payment, then its row), then accounts (post_transfer). Nothing on the request path
-- touches the first two.

-- Creates an order; a repeat with the same id returns the row that is there. Refuses HF009 for other content under the
-- same id, and HF034 when p_open_max others of the account (null: any number) may still be paid: each is watched until
-- it ends.
create function create_top_up(p_id uuid, p_account uuid, p_method text, p_provider text, p_amount usd, p_fee usd,
  p_currency text, p_live boolean, p_expires_seconds numeric, p_save_card boolean default false,
  p_open_max integer default null) returns top_up
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_top_up top_up;
begin
  if p_open_max is not null and not exists (select from top_up where id = p_id) then
    -- Not the account's row: requests wait for that one.
    perform pg_advisory_xact_lock(hashtextextended('holdfast.open_top_ups/' || p_account, 0));
    if (select count(*) from top_up where account_id = p_account and id <> p_id
      and state in ('created', 'waiting', 'processing'))
        >= p_open_max then
      perform refuse('HF034', 'too many open top-ups');
    end if;
  end if;
  insert into top_up (id, account_id, method, provider, amount, fee, currency, live, expires_at, save_card)
  values (p_id, p_account, p_method, p_provider, p_amount, p_fee, p_currency, p_live,
    now() + make_interval(secs => p_expires_seconds::double precision), p_save_card)
  on conflict (id) do nothing;
  select * into v_top_up from top_up where id = p_id;
  if (v_top_up.account_id, v_top_up.method, v_top_up.amount) is distinct from (p_account, p_method, p_amount::numeric)
    then
    perform refuse('HF009', 'top-up id reused');
  end if;
  return v_top_up;
end
$$;
grant execute on function create_top_up to holdfast_management;

-- Writes down the provider's object of an order. The first one counts; the row says which that is.
create function begin_checkout(p_id uuid, p_provider_id text, p_url text, p_expires_at timestamptz) returns top_up
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_top_up top_up;
begin
  update top_up set provider_id = p_provider_id, checkout_url = p_url, expires_at = coalesce(p_expires_at, expires_at),
    state = case when state = 'created' then 'waiting' else state end
  where id = p_id and provider_id is null;
  select * into v_top_up from top_up where id = p_id;
  return v_top_up;
end
$$;
grant execute on function begin_checkout to holdfast_worker;

-- Moves an order to a state without money, from the state in which it was judged; a credited one stays as it is.
-- Returns the row.
create function move_top_up(p_id uuid, p_from text, p_to text, p_stuck text, p_received usd) returns top_up
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_top_up top_up;
begin
  update top_up set state = p_to, stuck = p_stuck, received = greatest(received, p_received)
  where id = p_id and state = p_from and state <> 'credited'
    and (p_to, p_stuck, greatest(received, p_received)) is distinct from (state, stuck, received);
  update top_up set received = p_received where id = p_id and received < p_received;
  select * into v_top_up from top_up where id = p_id;
  return v_top_up;
end
$$;
grant execute on function move_top_up to holdfast_worker;

-- A person gives an order up, once; its run closes the checkout. Says whether it was open and nobody had.
create function abandon_top_up(p_id uuid, p_reason text, p_by text) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  perform require_person(p_by);
  update top_up set abandoned_by = p_by, abandon_reason = p_reason
  where id = p_id and abandoned_by is null and state in ('created', 'waiting', 'processing', 'quarantined');
  return found;
end
$$;
grant execute on function abandon_top_up to holdfast_management;

-- Open orders whose run has not asked the provider for so long that it may be gone, the longest first: a new one is
-- asked for at once, one that waits for its customer only every `p_poll_seconds`. A credited one of which the provider
-- would not tell all is asked for once an hour, so that it is well again soon after the cause is mended.
create function find_quiet_top_ups(p_age_seconds numeric, p_poll_seconds numeric, p_limit integer) returns uuid[]
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select coalesce(array_agg(id order by looked_at), '{}') from (
    select id, looked_at from top_up
    where state in ('created', 'waiting', 'processing', 'quarantined')
      and looked_at < clock_timestamp() - make_interval(secs => p_age_seconds::double precision)
      and (state = 'created'
        or looked_at < clock_timestamp() - make_interval(secs => (p_age_seconds + p_poll_seconds)::double precision))
    union all
    select id, looked_at from top_up
    where stuck is not null and state = 'credited' and looked_at < clock_timestamp() - interval '1 hour'
    order by looked_at limit p_limit
  ) quiet
$$;
grant execute on function find_quiet_top_ups to holdfast_worker;

create function note_top_up_look(p_id uuid) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  update top_up set looked_at = clock_timestamp() where id = p_id
$$;
grant execute on function note_top_up_look to holdfast_worker;

-- Why a provider tells less of an order than it must, as a code; null once it tells all. Of credited orders as well:
-- what goes back of their payments is not seen meanwhile.
create function note_top_up_stuck(p_id uuid, p_stuck text) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  update top_up set stuck = p_stuck where id = p_id and stuck is distinct from p_stuck
$$;
grant execute on function note_top_up_stuck to holdfast_worker;

create function top_up_of(p_id uuid) returns setof top_up
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select * from top_up where id = p_id
$$;
grant execute on function top_up_of to holdfast_worker;
