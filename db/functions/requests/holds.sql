-- Taking and growing holds for paid requests. shared/refusals.sql has the SQLSTATEs of refusals.
--
-- Lock order everywhere: request rows, then hours of the rollup, then rows of free_use, keys, accounts, each in the
-- order of its key (settle_requests has the one exception, and why it is safe). A hold inserts its request row last;
-- nobody can wait for a row that did not exist, and a repeated call waits on the key, so the order still holds.

-- Whether finished requests of an account wait for their settlement. A request that waits for a person does not count.
create function has_unsettled(p_account uuid) returns boolean
language sql stable as $$
  select exists (select from request where account_id = p_account and state = 'finished' and settle_error is null)
$$;

-- Grants a hold between `p_least` and `p_wanted` for a paid request, or refuses. Returns the amount granted.
-- A repeated call with the same id returns what the first one granted and changes nothing.
create function place_hold(p_request uuid, p_account uuid, p_key uuid, p_wanted usd, p_least usd, p_model text,
  p_price_version integer, p_stream boolean, p_gateway uuid, p_ttl_seconds numeric, p_asked jsonb default null)
returns usd
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_key api_key;
  v_account account;
  v_request request;
  v_now timestamptz;
  v_room_of_key numeric;
  v_room_of_account numeric;
  v_granted numeric;
  v_wanted_window timestamptz;
begin
  select * into v_key from api_key where id = p_key and account_id = p_account for no key update;
  if not found then
    perform refuse('HF001', 'key unknown');
  end if;
  select * into v_request from request where id = p_request;
  if found then
    if v_request.account_id = p_account and v_request.key_id = p_key and v_request.model_id = p_model
      and v_request.gateway_id = p_gateway
    then
      return v_request.hold;
    end if;
    perform refuse('HF009', 'request id reused');
  end if;
  select * into v_account from account where id = p_account and kind = 'customer' for no key update;
  if not found then
    perform refuse('HF001', 'account unknown');
  end if;

  v_now := clock_timestamp();
  if v_key.revoked_at is not null then
    perform refuse('HF002', 'key revoked');
  end if;
  if v_key.expires_at <= v_now then
    perform refuse('HF003', 'key expired');
  end if;
  if v_account.frozen_at is not null then
    perform refuse('HF004', 'account frozen');
  end if;
  if p_model <> all (v_key.models) then
    perform refuse('HF007', 'model not allowed');
  end if;
  v_room_of_key := key_room(v_key, v_now);
  if v_room_of_key < p_least then
    perform refuse('HF005', 'key limit', greatest(v_room_of_key, 0), p_least, has_unsettled(p_account));
  end if;
  v_room_of_account := v_account.balance - v_account.held;
  if v_room_of_account < p_least then
    perform refuse('HF006', 'insufficient quota', greatest(v_room_of_account, 0), p_least, has_unsettled(p_account));
  end if;
  v_granted := least(p_wanted, v_room_of_key, v_room_of_account); -- least() passes over a null room

  -- Past this line it must succeed.
  v_wanted_window := greatest(limit_window(v_key.limit_reset, v_now), v_key.window_start);
  insert into request (id, account_id, key_id, model_id, hold, stream, price_version, created_at, expires_at,
    window_start, gateway_id, asked_units)
  values (p_request, p_account, p_key, p_model, v_granted, p_stream, p_price_version, v_now,
    v_now + make_interval(secs => p_ttl_seconds::double precision), v_wanted_window, p_gateway, p_asked);
  update api_key set
    held = held + v_granted,
    window_held = case when v_wanted_window > window_start then 0 else window_held end + v_granted,
    window_spent = case when v_wanted_window > window_start then 0 else window_spent end,
    window_start = v_wanted_window
  where id = p_key;
  update account set held = held + v_granted where id = p_account;
  return v_granted;
end
$$;
grant execute on function place_hold to holdfast_gateway;

-- Many holds in one statement set and one commit. Element n is the amount granted to item n, or null: then `place_hold`
-- gives the exact verdict (replay, refusal, smaller grant). Accepted items can never exceed the money: rows are locked
-- first, then checked against running sums.
create function place_holds(p_request uuid[], p_account uuid[], p_key uuid[], p_wanted usd[], p_model text[],
  p_price_version integer[], p_stream boolean[], p_gateway uuid, p_ttl_seconds numeric[], p_asked jsonb[] default '{}')
returns numeric[]
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_now timestamptz;
  v_granted numeric[];
begin
  perform 1 from api_key where id = any (p_key) order by id for no key update;
  perform 1 from account where id = any (p_account) order by id for no key update;
  v_now := clock_timestamp();
  with item as materialized (
    select * from unnest(p_request, p_account, p_key, p_wanted, p_model, p_price_version, p_stream, p_ttl_seconds,
      p_asked)
      with ordinality as t (request_id, account_id, key_id, wanted, model, price_version, stream, ttl, asked, ord)
  ), running as (
    select item.*,
      sum(wanted) over (partition by account_id order by ord) as account_sum,
      sum(wanted) over (partition by key_id order by ord) as key_sum
    from item
  ), accepted as (
    select running.*, greatest(limit_window(k.limit_reset, v_now), k.window_start) as window_start
    from running
    join api_key k on k.id = running.key_id and k.account_id = running.account_id
    join account a on a.id = running.account_id
    where a.kind = 'customer' and a.frozen_at is null and k.revoked_at is null
      and (k.expires_at is null or k.expires_at > v_now)
      and (k.models is null or running.model = any (k.models))
      and running.account_sum <= a.balance - a.held
      and (k.limit_usd is null or running.key_sum <= key_room(k, v_now))
  ), inserted as (
    insert into request (id, account_id, key_id, model_id, hold, stream, price_version, created_at, expires_at,
      window_start, gateway_id, asked_units)
    select request_id, account_id, key_id, model, wanted, stream, price_version, v_now,
      v_now + make_interval(secs => ttl::double precision), window_start, p_gateway, asked
    from accepted
    on conflict do nothing
    returning id, account_id, key_id, hold, window_start
  ), keys as (
    update api_key k set
      held = k.held + s.hold,
      window_held = case when s.window_start > k.window_start then 0 else k.window_held end + s.hold,
      window_spent = case when s.window_start > k.window_start then 0 else k.window_spent end,
      window_start = s.window_start
    from (select key_id, sum(hold) as hold, max(window_start) as window_start from inserted group by key_id) s
    where k.id = s.key_id
  ), accounts as (
    update account a set held = a.held + s.hold
    from (select account_id, sum(hold) as hold from inserted group by account_id) s
    where a.id = s.account_id
  )
  select array_agg(inserted.hold order by item.ord) into v_granted
  from item left join inserted on inserted.id = item.request_id;
  return v_granted;
end
$$;
grant execute on function place_holds to holdfast_gateway;

-- Raises a hold to `p_total` (absolute, so a repeat changes nothing) and returns the hold now in place; refuses as
-- place_hold does when key or account cannot carry it. A request of an earlier limit window is not held against the new
-- one; it may grow to what a whole window allows.
create function extend_hold(p_request uuid, p_total usd) returns usd
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_request request;
  v_key api_key;
  v_account account;
  v_more numeric;
  v_room numeric;
  v_same_window boolean;
begin
  select * into v_request from request where id = p_request for no key update;
  if not found or v_request.state <> 'held' then
    perform refuse('HF008', 'request unknown or ended');
  end if;
  v_more := p_total - v_request.hold;
  if v_more <= 0 or v_request.free then
    return v_request.hold;
  end if;
  select * into v_key from api_key where id = v_request.key_id for no key update;
  select * into v_account from account where id = v_request.account_id for no key update;
  if v_key.revoked_at is not null then
    perform refuse('HF002', 'key revoked');
  end if;
  if v_account.frozen_at is not null then
    perform refuse('HF004', 'account frozen');
  end if;
  v_same_window := v_request.window_start = v_key.window_start;
  v_room := case
    when v_key.limit_usd is null then null
    when v_key.limit_reset = 'none' then v_key.limit_usd - v_key.spent_total - v_key.held
    when v_same_window then v_key.limit_usd - v_key.window_spent - v_key.window_held
    -- The counters of its window are gone; what one window allows is the most that any request of it can take.
    else v_key.limit_usd - v_request.hold
  end;
  if v_room < v_more then
    perform refuse('HF005', 'key limit', greatest(v_room, 0), v_more, has_unsettled(v_request.account_id));
  end if;
  if v_account.balance - v_account.held < v_more then
    perform refuse('HF006', 'insufficient quota', greatest(v_account.balance - v_account.held, 0), v_more,
      has_unsettled(v_request.account_id));
  end if;

  -- Past this line it must succeed.
  update request set hold = p_total where id = p_request;
  update api_key set held = held + v_more, window_held = window_held + case when v_same_window then v_more else 0 end
  where id = v_request.key_id;
  update account set held = held + v_more where id = v_request.account_id;
  return p_total;
end
$$;
grant execute on function extend_hold to holdfast_gateway;

-- Notes when the client went away while the answer was still coming, with what was counted until then: the one mark
-- that makes an orphan billable, and the estimate to bill should no better evidence be found.
create function note_client_left(p_request uuid, p_input bigint, p_output bigint) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  update request set client_left_at = clock_timestamp(), input_tokens = p_input, output_tokens = p_output
  where id = p_request and state = 'held' and client_left_at is null
$$;
grant execute on function note_client_left to holdfast_gateway;
