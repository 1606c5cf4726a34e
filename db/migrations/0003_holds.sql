-- Taking and growing holds. Refusals are SQLSTATEs, one per row of the HTTP error table:
--   HF001 key unknown · HF002 key revoked · HF003 key expired · HF004 account frozen · HF005 key limit (402)
--   HF006 account balance (403) · HF007 model not allowed · HF008 request unknown or ended · HF009 id reused
--   HF020 HF021 HF022 what `:free` models give is used up (429)
-- HF005 and HF006 carry {"remaining","required"} in DETAIL, and {"unsettled":true} while finished requests of the account
-- wait for their settlement: they still weigh their whole hold, so the caller settles them and asks again before the
-- refusal counts. Settling needs the account's lock, so what is true here was true when the money was looked at.
-- A refusal writes nothing; a fault is never one of these.
--
-- Lock order everywhere: request rows, then hours of the rollup, then rows of free_use, keys, accounts, each in the order of its key
-- (settle_requests has the one exception, and why it is safe). A hold inserts its request row last; nobody can wait for a
-- row that did not exist, and a repeated call waits on the key, so the order still holds.
set role holdfast_owner;
set search_path = holdfast;

create function refuse(code text, message text, remaining numeric default null, required numeric default null,
  unsettled boolean default false) returns void
language plpgsql as $$
begin
  raise exception using errcode = code, message = message,
    detail = json_build_object('remaining', remaining::text, 'required', required::text, 'unsettled', unsettled)::text;
end
$$;

-- Whether finished requests of an account wait for their settlement. One that waits for a person does not count.
create function has_unsettled(p_account uuid) returns boolean
language sql stable as $$
  select exists (select from request where account_id = p_account and state = 'finished' and settle_error is null)
$$;

-- What a key may still spend in the window that contains `at`; null when unlimited.
create function key_room(k api_key, at timestamptz) returns numeric
language sql immutable as $$
  select case
    when k.limit_usd is null then null
    when k.limit_reset = 'none' then k.limit_usd - k.spent_total - k.held
    when limit_window(k.limit_reset, at) > k.window_start then k.limit_usd
    else k.limit_usd - k.window_spent - k.window_held
  end
$$;

-- Grants a hold between `least` and `wanted` for a paid request, or refuses. Returns the amount granted.
-- A repeated call with the same id returns what the first one granted and changes nothing.
create function place_hold(p_request uuid, p_account uuid, p_key uuid, p_wanted usd, p_least usd, p_model text,
  p_price_version integer, p_stream boolean, p_gateway uuid, p_ttl_seconds numeric, p_asked jsonb default null) returns usd
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  k api_key;
  a account;
  r request;
  at timestamptz;
  room_of_key numeric;
  room_of_account numeric;
  granted numeric;
  wanted_window timestamptz;
begin
  select * into k from api_key where id = p_key and account_id = p_account for no key update;
  if not found then perform refuse('HF001', 'key unknown'); end if;
  select * into r from request where id = p_request;
  if found then
    if r.account_id = p_account and r.key_id = p_key and r.model_id = p_model and r.gateway_id = p_gateway
    then return r.hold; end if;
    perform refuse('HF009', 'request id reused');
  end if;
  select * into a from account where id = p_account and kind = 'customer' for no key update;
  if not found then perform refuse('HF001', 'account unknown'); end if;

  at := clock_timestamp();
  if k.revoked_at is not null then perform refuse('HF002', 'key revoked'); end if;
  if k.expires_at <= at then perform refuse('HF003', 'key expired'); end if;
  if a.frozen_at is not null then perform refuse('HF004', 'account frozen'); end if;
  if p_model <> all (k.models) then perform refuse('HF007', 'model not allowed'); end if;
  room_of_key := key_room(k, at);
  if room_of_key < p_least then
    perform refuse('HF005', 'key limit', greatest(room_of_key, 0), p_least, has_unsettled(p_account));
  end if;
  room_of_account := a.balance - a.held;
  if room_of_account < p_least then
    perform refuse('HF006', 'insufficient quota', greatest(room_of_account, 0), p_least, has_unsettled(p_account));
  end if;
  granted := least(p_wanted, room_of_key, room_of_account); -- least() passes over a null room

  -- Past this line it must succeed.
  wanted_window := greatest(limit_window(k.limit_reset, at), k.window_start);
  insert into request (id, account_id, key_id, model_id, hold, stream, price_version, created_at, expires_at, window_start, gateway_id,
    asked_units)
  values (p_request, p_account, p_key, p_model, granted, p_stream, p_price_version, at,
    at + make_interval(secs => p_ttl_seconds::double precision), wanted_window, p_gateway, p_asked);
  update api_key set
    held = held + granted,
    window_held = case when wanted_window > window_start then 0 else window_held end + granted,
    window_spent = case when wanted_window > window_start then 0 else window_spent end,
    window_start = wanted_window
  where id = p_key;
  update account set held = held + granted where id = p_account;
  return granted;
end
$$;

-- Many holds in one statement set and one commit. Element n is the amount granted to item n, or null: then `place_hold`
-- gives the exact verdict (replay, refusal, smaller grant). Accepted items can never exceed the money: rows are locked
-- first, then checked against running sums.
create function place_holds(p_request uuid[], p_account uuid[], p_key uuid[], p_wanted usd[], p_model text[],
  p_price_version integer[], p_stream boolean[], p_gateway uuid, p_ttl_seconds numeric[], p_asked jsonb[] default '{}')
  returns numeric[]
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  at timestamptz;
  granted numeric[];
begin
  perform 1 from api_key where id = any (p_key) order by id for no key update;
  perform 1 from account where id = any (p_account) order by id for no key update;
  at := clock_timestamp();
  with item as materialized (
    select * from unnest(p_request, p_account, p_key, p_wanted, p_model, p_price_version, p_stream, p_ttl_seconds, p_asked)
      with ordinality as t (request_id, account_id, key_id, wanted, model, price_version, stream, ttl, asked, ord)
  ), running as (
    select item.*,
      sum(wanted) over (partition by account_id order by ord) as account_sum,
      sum(wanted) over (partition by key_id order by ord) as key_sum
    from item
  ), accepted as (
    select running.*, greatest(limit_window(k.limit_reset, at), k.window_start) as window_start
    from running
    join api_key k on k.id = running.key_id and k.account_id = running.account_id
    join account a on a.id = running.account_id
    where a.kind = 'customer' and a.frozen_at is null and k.revoked_at is null
      and (k.expires_at is null or k.expires_at > at)
      and (k.models is null or running.model = any (k.models))
      and running.account_sum <= a.balance - a.held
      and (k.limit_usd is null or running.key_sum <= key_room(k, at))
  ), inserted as (
    insert into request (id, account_id, key_id, model_id, hold, stream, price_version, created_at, expires_at, window_start, gateway_id,
      asked_units)
    select request_id, account_id, key_id, model, wanted, stream, price_version, at,
      at + make_interval(secs => ttl::double precision), window_start, p_gateway, asked
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
  select array_agg(inserted.hold order by item.ord) into granted
  from item left join inserted on inserted.id = item.request_id;
  return granted;
end
$$;

-- `:free` requests: key and account state are checked, limit and balance are not, and no row that paid requests need is touched.
-- What an account may use of them is bounded over all its keys and gateways, by its own row of `free_use`: tokens of a UTC
-- day (HF020; counted when requests end), requests of a UTC minute (HF021), and requests at once (HF022). A null bound does
-- not apply. Element n is null when item n is in place (also on a repeat, which is not counted again), else its SQLSTATE,
-- for the bounds with the seconds until the count begins again: 'HF021 37'.
create function place_free_holds(p_request uuid[], p_account uuid[], p_key uuid[], p_model text[], p_stream boolean[],
  p_gateway uuid, p_ttl_seconds numeric[], p_day_tokens bigint, p_minute_requests bigint, p_open bigint) returns text[]
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  at timestamptz;
  this_minute timestamptz;
  today timestamptz;
  verdicts text[];
begin
  insert into free_use (account_id)
  select id from account where id = any (p_account) and kind = 'customer' and not exists (select from free_use where account_id = id)
  order by id on conflict do nothing;
  perform 1 from free_use where account_id = any (p_account) order by account_id for no key update;
  at := clock_timestamp();
  this_minute := date_trunc('minute', at, 'UTC');
  today := limit_window('daily', at);
  with item as materialized (
    select t.*, r.id is not null as is_repeat, case
      when k.id is null or a.id is null then 'HF001'
      when r.id is not null then case when (r.account_id, r.key_id, r.model_id, r.gateway_id)
        is distinct from (t.account_id, t.key_id, t.model, p_gateway) then 'HF009' end
      when k.revoked_at is not null then 'HF002'
      when k.expires_at <= at then 'HF003'
      when a.frozen_at is not null then 'HF004'
      when t.model <> all (k.models) then 'HF007'
    end as refusal
    from unnest(p_request, p_account, p_key, p_model, p_stream, p_ttl_seconds)
      with ordinality as t (request_id, account_id, key_id, model, stream, ttl, ord)
    left join api_key k on k.id = t.key_id and k.account_id = t.account_id
    left join account a on a.id = t.account_id and a.kind = 'customer'
    left join request r on r.id = t.request_id
  ), judged as (
    select item.*, coalesce(refusal, case
      when is_repeat then null
      when u.day = today and u.day_tokens >= p_day_tokens
        then 'HF020 ' || ceil(extract(epoch from today + interval '1 day' - at))
      when case when u.minute = this_minute then u.minute_requests else 0 end + nth > p_minute_requests
        then 'HF021 ' || ceil(extract(epoch from this_minute + interval '1 minute' - at))
      when u.open + nth > p_open then 'HF022'
    end) as verdict
    from (
      select item.*, count(*) filter (where refusal is null and not is_repeat) over (partition by account_id order by ord) as nth
      from item
    ) item left join free_use u using (account_id)
  ), inserted as (
    insert into request (id, account_id, key_id, model_id, hold, free, stream, created_at, expires_at, gateway_id)
    select request_id, account_id, key_id, model, 0, true, stream, at, at + make_interval(secs => ttl::double precision), p_gateway
    from judged where verdict is null and not is_repeat
    on conflict do nothing
    returning account_id
  ), counted as (
    update free_use u set open = u.open + i.requests, minute = this_minute,
      minute_requests = case when u.minute = this_minute then u.minute_requests else 0 end + i.requests
    from (select account_id, count(*)::integer as requests from inserted group by account_id) i where u.account_id = i.account_id
  )
  select array_agg(verdict order by ord) into verdicts from judged;
  return verdicts;
end
$$;

-- Raises a hold to `p_total` (absolute, so a repeat changes nothing) and returns the hold now in place; refuses with the
-- codes above when key or account cannot carry it. A request of an earlier limit window is not held against the new one;
-- it may grow to what a whole window allows.
create function extend_hold(p_request uuid, p_total usd) returns usd
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  r request;
  k api_key;
  a account;
  more numeric;
  room numeric;
  same_window boolean;
begin
  select * into r from request where id = p_request for no key update;
  if not found or r.state <> 'held' then perform refuse('HF008', 'request unknown or ended'); end if;
  more := p_total - r.hold;
  if more <= 0 or r.free then return r.hold; end if;
  select * into k from api_key where id = r.key_id for no key update;
  select * into a from account where id = r.account_id for no key update;
  if k.revoked_at is not null then perform refuse('HF002', 'key revoked'); end if;
  if a.frozen_at is not null then perform refuse('HF004', 'account frozen'); end if;
  same_window := r.window_start = k.window_start;
  room := case
    when k.limit_usd is null then null
    when k.limit_reset = 'none' then k.limit_usd - k.spent_total - k.held
    when same_window then k.limit_usd - k.window_spent - k.window_held
    -- The counters of its window are gone; what one window allows is the most that any request of it can take.
    else k.limit_usd - r.hold
  end;
  if room < more then
    perform refuse('HF005', 'key limit', greatest(room, 0), more, has_unsettled(r.account_id));
  end if;
  if a.balance - a.held < more then
    perform refuse('HF006', 'insufficient quota', greatest(a.balance - a.held, 0), more, has_unsettled(r.account_id));
  end if;

  -- Past this line it must succeed.
  update request set hold = p_total where id = p_request;
  update api_key set held = held + more, window_held = window_held + case when same_window then more else 0 end where id = r.key_id;
  update account set held = held + more where id = r.account_id;
  return p_total;
end
$$;

-- Notes when the client went away while the answer was still coming, with what was counted until then: the one mark that
-- makes an orphan billable, and the estimate to bill should no better evidence be found.
create function note_client_left(p_request uuid, p_input bigint, p_output bigint) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  update request set client_left_at = clock_timestamp(), input_tokens = p_input, output_tokens = p_output
  where id = p_request and state = 'held' and client_left_at is null
$$;

reset role;
reset search_path;
