-- Ending a request: finish (outcome and cost durable, own row only) and settle (money moves, hot rows, in batches).
--
-- Two forms of speech here are for the planner. Rows are looked up by a join with unnest(ids), not by `id = any (ids)`: only
-- the join prunes partitions per id. And the state of a row found by id is compared with `like`, not `=`: an equality would
-- let the planner walk the partial index of all held or finished rows, dead entries included, instead of the primary key.
set role holdfast_owner;
set search_path = holdfast;

create function is_billed(outcome text) returns boolean
language sql immutable parallel safe as $$
  select outcome in ('completed', 'client_disconnected', 'cut_by_limit', 'cut_by_time')
$$;

create function token_usage(r request) returns jsonb
language sql immutable as $$
  select jsonb_build_object('input_tokens', r.input_tokens, 'output_tokens', r.output_tokens,
    'cached_input_tokens', r.cached_input_tokens, 'reasoning_tokens', r.reasoning_tokens) || coalesce(r.usage_detail, '{}')
$$;

-- Adds settled rows to the hourly rollup, in the order of the hours' own key. Called in the transaction that settles them, which
-- knows where the hours stand among its locks.
create function roll_up(p_requests uuid[]) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  insert into usage_hour as u (account_id, hour, model_id, key_id, requests, failed, input_tokens, output_tokens,
    cached_input_tokens, reasoning_tokens, cost)
  select account_id, date_trunc('hour', created_at, 'UTC'), model_id, key_id, count(*), count(*) filter (where not is_billed(outcome)),
    coalesce(sum(input_tokens) filter (where is_billed(outcome)), 0), coalesce(sum(output_tokens) filter (where is_billed(outcome)), 0),
    coalesce(sum(cached_input_tokens) filter (where is_billed(outcome)), 0),
    coalesce(sum(reasoning_tokens) filter (where is_billed(outcome)), 0), sum(cost)
  from unnest(p_requests) as wanted (id) join request using (id)
  group by 1, 2, 3, 4 order by 1, 2, 3, 4
  on conflict (account_id, hour, model_id, key_id) do update set
    requests = u.requests + excluded.requests, failed = u.failed + excluded.failed,
    input_tokens = u.input_tokens + excluded.input_tokens, output_tokens = u.output_tokens + excluded.output_tokens,
    cached_input_tokens = u.cached_input_tokens + excluded.cached_input_tokens,
    reasoning_tokens = u.reasoning_tokens + excluded.reasoning_tokens, cost = u.cost + excluded.cost
$$;

-- Counts what `:free` requests used when they end. Called in the transaction that ends them, after the hours of the rollup.
-- What began before midnight and ended after it counts on the new day: one row per account is enough then.
create function end_free_use(p_requests uuid[]) returns void
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  today timestamptz;
begin
  perform 1 from free_use where account_id in (select r.account_id from unnest(p_requests) as wanted (id) join request r using (id))
  order by account_id for no key update;
  today := limit_window('daily', clock_timestamp());
  update free_use u set
    -- Never a reason not to record how a request ended; should it ever be off, `violations` says so.
    open = greatest(u.open - ended.requests, 0),
    day = today,
    day_tokens = case when u.day = today then u.day_tokens else 0 end + ended.tokens
  from (
    select r.account_id, count(*)::integer as requests, sum(coalesce(r.input_tokens, 0) + coalesce(r.output_tokens, 0)) as tokens
    from unnest(p_requests) as wanted (id) join request r using (id) group by r.account_id
  ) ended where u.account_id = ended.account_id;
end
$$;

-- Records how requests ended, many in one commit. Touches their own rows only. Element n:
--   'finished'  recorded now
--   'replayed'  the same end was recorded before
--   'late'      the hold had already ended otherwise: the usage is booked as platform cost and nothing is charged
--   'unknown'   no such request
-- What is not billed but was consumed is platform cost: of an end without a bill all of it, beside a bill what p_undelivered
-- says ({"usage", "list_cost"}), which nobody pays. A :free row ends here, released at cost 0; its list cost is the platform's.
create function finish_requests(p_request uuid[], p_outcome text[], p_list_cost usd[], p_input bigint[], p_output bigint[],
  p_cached bigint[], p_reasoning bigint[], p_detail jsonb[], p_raw jsonb[], p_estimated boolean[], p_latency_ms integer[],
  p_first_token_ms integer[], p_upstream jsonb[] default null, p_undelivered jsonb[] default null) returns text[]
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  done uuid[];
  freed uuid[];
  verdicts text[];
begin
  perform 1 from unnest(p_request) as wanted (id) join request r using (id) where r.state like 'held' order by id for no key update of r;
  with item as materialized (
    -- Of several ends of one request the first counts, as if they had come one after the other.
    select distinct on (t.request_id) * from unnest(p_request, p_outcome, p_list_cost, p_input, p_output, p_cached, p_reasoning,
      p_detail, p_raw, p_estimated, p_latency_ms, p_first_token_ms, p_upstream, p_undelivered) with ordinality as t (request_id,
      outcome, list_cost, input, output, cached, reasoning, detail, raw, estimated, latency_ms, first_token_ms, upstream,
      undelivered, ord)
    order by t.request_id, t.ord
  ), ended as (
    update request r set
      state = case when r.free then 'released' else 'finished' end,
      outcome = item.outcome,
      list_cost = case when r.free then 0 else item.list_cost end,
      cost = case when is_billed(item.outcome) then least(item.list_cost, r.hold) else 0 end,
      input_tokens = item.input, output_tokens = item.output, cached_input_tokens = item.cached, reasoning_tokens = item.reasoning,
      usage_detail = item.detail, raw_usage = item.raw, estimated = item.estimated, latency_ms = item.latency_ms,
      first_token_ms = item.first_token_ms, upstream_name = item.upstream->>'name', upstream_kind = item.upstream->>'kind',
      upstream_status = (item.upstream->>'status')::integer, upstream_code = item.upstream->>'code',
      upstream_message = item.upstream->>'message', finished_at = clock_timestamp(),
      settled_at = case when r.free then clock_timestamp() end
    from item where r.id = item.request_id and r.state like 'held'
    returning r.*
  ), unbilled as (
    insert into platform_cost (request_id, reason, usage, list_cost, estimated)
    select id, outcome, token_usage(ended::request), list_cost, estimated from ended where not is_billed(outcome) and list_cost > 0
    on conflict do nothing
  ), undelivered as (
    insert into platform_cost (request_id, reason, usage, list_cost, estimated)
    select item.request_id, 'undelivered', item.undelivered -> 'usage', (item.undelivered ->> 'list_cost')::usd, true
    from item join ended on ended.id = item.request_id where item.undelivered is not null
    on conflict do nothing
  ), given_away as (
    insert into platform_cost (request_id, reason, usage, list_cost, estimated)
    select ended.id, 'free', token_usage(ended::request), item.list_cost, ended.estimated
    from ended join item on item.request_id = ended.id where ended.free and item.list_cost > 0
    on conflict do nothing
  )
  select array_agg(id), array_agg(id) filter (where free) into done, freed from ended;
  if freed is not null then
    perform roll_up(freed);
    perform end_free_use(freed);
  end if;
  if cardinality(done) = cardinality(p_request) then
    return array_fill('finished'::text, array[cardinality(p_request)]);
  end if;

  -- The rest is repeats and late answers: rare, so it may take a second look at each row.
  with item as materialized (
    select *, row_number() over (partition by t.request_id order by t.ord) as nth
    from unnest(p_request, p_outcome, p_list_cost, p_input, p_output, p_cached, p_reasoning, p_detail, p_estimated)
      with ordinality as t (request_id, outcome, list_cost, input, output, cached, reasoning, detail, estimated, ord)
  ), judged as (
    select item.*, is_billed(r.outcome) as paid, case
      when item.request_id = any (done) and item.nth = 1 then 'finished'
      when r.id is null then 'unknown'
      when r.outcome = item.outcome and (r.free or r.list_cost = item.list_cost)
        and (r.input_tokens, r.output_tokens) is not distinct from (item.input, item.output) then 'replayed'
      else 'late'
    end as verdict
    from item left join request r on r.id = item.request_id
  ), late as (
    insert into platform_cost (request_id, reason, usage, list_cost, estimated)
    select request_id, 'late_finish', jsonb_build_object('input_tokens', input, 'output_tokens', output,
      'cached_input_tokens', cached, 'reasoning_tokens', reasoning) || coalesce(detail, '{}'), list_cost, estimated
    -- What the customer was billed by evidence meanwhile is not the platform's cost as well.
    from judged where verdict = 'late' and not paid and list_cost > 0 order by ord
    on conflict do nothing
  )
  select array_agg(verdict order by ord) into verdicts from judged;
  return verdicts;
end
$$;

-- `finish_requests` for one request, without the cost of a batch; what is not the plain case goes there.
create function finish_request(p_request uuid, p_outcome text, p_list_cost usd, p_input bigint, p_output bigint, p_cached bigint,
  p_reasoning bigint, p_detail jsonb, p_raw jsonb, p_estimated boolean, p_latency_ms integer, p_first_token_ms integer,
  p_upstream jsonb default null, p_undelivered jsonb default null) returns text
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  update request set
    state = 'finished', outcome = p_outcome, list_cost = p_list_cost, cost = least(p_list_cost, hold),
    input_tokens = p_input, output_tokens = p_output, cached_input_tokens = p_cached, reasoning_tokens = p_reasoning,
    usage_detail = p_detail, raw_usage = p_raw, estimated = p_estimated, latency_ms = p_latency_ms,
    first_token_ms = p_first_token_ms, upstream_name = p_upstream->>'name', upstream_kind = p_upstream->>'kind',
    upstream_status = (p_upstream->>'status')::integer, upstream_code = p_upstream->>'code',
    upstream_message = p_upstream->>'message', finished_at = clock_timestamp()
  where id = p_request and state like 'held' and not free and is_billed(p_outcome) and p_undelivered is null;
  if found then return 'finished'; end if;
  return (finish_requests(array[p_request], array[p_outcome], array[p_list_cost], array[p_input], array[p_output],
    array[p_cached], array[p_reasoning], array[p_detail], array[p_raw], array[p_estimated], array[p_latency_ms],
    array[p_first_token_ms], array[p_upstream], array[p_undelivered]))[1];
end
$$;

-- What each overrunning batch row is charged: its hold in full, and above it only what balance − held still has, in id
-- order, each row also giving back what it did not use. An estimate takes nothing above its hold: nobody pays for more than
-- was set aside on our own count. The account rows are locked by the caller.
create function overrun_costs(p_requests uuid[]) returns table (request_id uuid, charged usd)
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  row record;
  account uuid;
  room numeric;
  paid numeric;
begin
  for row in
    select r.id, r.account_id, r.hold, r.list_cost, r.estimated, is_billed(r.outcome) as billed, a.balance - a.held as room
    from unnest(p_requests) as wanted (id) join request r using (id) join account a on a.id = r.account_id
    order by r.account_id, r.id
  loop
    if account is distinct from row.account_id then
      account := row.account_id;
      room := row.room;
    end if;
    paid := case when not row.billed then 0
      when row.list_cost <= row.hold then row.list_cost
      when row.estimated then row.hold
      else row.hold + least(row.list_cost - row.hold, greatest(room, 0)) end;
    room := room + row.hold - paid;
    request_id := row.id;
    charged := paid;
    return next;
  end loop;
end
$$;

-- The advisory lock that settlements share, and one with an overrun has alone.
create function settlement_lock() returns bigint
language sql immutable parallel safe as $$ select hashtextextended('holdfast.settlement', 0) $$;

-- Locks what holds wait for, in the order that everybody keeps.
create function lock_keys_and_accounts(p_keys uuid[], p_accounts uuid[]) returns void
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  perform 1 from api_key where id = any (p_keys) order by id for no key update;
  perform 1 from account where id = any (p_accounts) order by id for no key update;
end
$$;

-- Charges or gives back finished requests: one ordered-lock statement set, one commit, idempotent (ids that are not
-- `finished`, or that wait for a person after a settle error, are skipped). Each key and account row is updated once.
-- Writes the workflow id, also on rows that somebody else settled before this workflow came. Returns how many were settled now.
create function settle_requests(p_requests uuid[], p_workflow text) returns integer
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  mine uuid[];
  keys uuid[];
  accounts uuid[];
  settled_before uuid[];
  overrun boolean;
  revenue uuid;
  moved_keys uuid[];
  moved_accounts uuid[];
  moved_windows timestamptz[];
  moved_holds numeric[];
  moved_costs numeric[];
begin
  -- Rows that somebody else settled and that only lack the workflow id are locked here as well: every row this call will
  -- touch, in id order, before any key or account.
  select array_agg(id) filter (where is_mine), array_agg(distinct key_id) filter (where is_mine),
    array_agg(distinct account_id) filter (where is_mine),
    coalesce(bool_or(is_billed(outcome) and not estimated and list_cost > hold) filter (where is_mine), false), array_agg(id) filter (where not is_mine)
  into mine, keys, accounts, overrun, settled_before
  from (
    select r.id, r.key_id, r.account_id, r.outcome, r.list_cost, r.hold, r.estimated, r.settled_at is null as is_mine
    from (select distinct unnest(p_requests) as id) wanted join request r using (id)
    where (r.state like 'finished' and r.settle_error is null)
      or (p_workflow is not null and r.workflow_id is null and r.settled_at is not null and not r.free and r.outcome <> 'refused')
    order by r.id for no key update of r
  ) locked;

  if settled_before is not null then
    update request r set workflow_id = p_workflow from unnest(settled_before) as wanted (id) where r.id = wanted.id;
  end if;
  if mine is not null then
    -- Keys and accounts are what holds wait for, so they are locked last and for as little as possible. Only an overrun is
    -- decided by the account's money and must have it first; that order could deadlock with the usual one over the hours
    -- of the rollup, so a settlement with an overrun runs alone.
    if overrun then
      perform pg_advisory_xact_lock(settlement_lock());
      perform lock_keys_and_accounts(keys, accounts);
    else
      perform pg_advisory_xact_lock_shared(settlement_lock());
    end if;
    select id into strict revenue from account where kind = 'system' and name = 'revenue';
    with priced as materialized (
      -- Without an overrun the cost of a finished row is already what it is charged; the loop is only for the rare rest.
      select request_id, charged from overrun_costs(case when overrun then mine else '{}'::uuid[] end)
    ), settled as (
      update request r set
        state = case when is_billed(r.outcome) then 'charged' else 'released' end,
        cost = coalesce((select charged from priced where request_id = r.id), r.cost),
        settled_at = clock_timestamp(),
        workflow_id = p_workflow
      from unnest(mine) as wanted (id)
      where r.id = wanted.id
      returning r.*
    ), charges as (
      insert into posting (business_id, kind, debit, credit, amount)
      select id, 'charge', account_id, revenue, cost from settled where cost > 0
    ), losses as (
      insert into platform_cost (request_id, reason, usage, list_cost, estimated)
      select id, 'overrun', token_usage(settled::request), list_cost - cost, estimated from settled where is_billed(outcome) and list_cost > cost
    ), moved as (
      select key_id, account_id, window_start, sum(hold) as hold, sum(cost) as cost from settled group by key_id, account_id, window_start
    )
    select array_agg(key_id), array_agg(account_id), array_agg(window_start), array_agg(hold), array_agg(cost)
    into moved_keys, moved_accounts, moved_windows, moved_holds, moved_costs from moved;
    perform roll_up(mine);

    if not overrun then perform lock_keys_and_accounts(keys, accounts); end if;
    update api_key k set
      held = k.held - s.hold,
      spent_total = k.spent_total + s.cost,
      window_held = k.window_held - s.window_hold,
      window_spent = k.window_spent + s.window_cost
    from (
      select m.key_id, sum(m.hold) as hold, sum(m.cost) as cost,
        coalesce(sum(m.hold) filter (where m.window_start = before.window_start), 0) as window_hold,
        coalesce(sum(m.cost) filter (where m.window_start = before.window_start), 0) as window_cost
      from unnest(moved_keys, moved_windows, moved_holds, moved_costs) as m (key_id, window_start, hold, cost)
      join api_key before on before.id = m.key_id group by m.key_id
    ) s
    where k.id = s.key_id;
    update account a set held = a.held - s.hold, balance = a.balance - s.cost
    from (
      select m.account_id, sum(m.hold) as hold, sum(m.cost) as cost
      from unnest(moved_accounts, moved_holds, moved_costs) as m (account_id, hold, cost) group by m.account_id
    ) s
    where a.id = s.account_id;
  end if;
  return coalesce(cardinality(mine), 0);
end
$$;

-- Settles up to 1,000 finished rows of one account, oldest first, so that nobody is refused because a settlement is late.
create function settle_account(p_account uuid) returns integer
language sql security definer set search_path = holdfast, pg_temp as $$
  select settle_requests(array(
    select id from request where account_id = p_account and state = 'finished' and settle_error is null
    order by finished_at limit 1000
  ), null)
$$;

-- Marks a row that cannot be settled although the database works: its hold stays, a person decides.
create function mark_settle_error(p_request uuid, p_error text) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  update request set settle_error = left(p_error, 2000) where id = p_request and state = 'finished' and settle_error is null
$$;

-- Logs refused requests (asynchronous, rate-limited by the gateway): rows that never held anything.
create function log_refusals(p_request uuid[], p_account uuid[], p_key uuid[], p_model text[], p_code text[], p_stream boolean[],
  p_latency_ms integer[], p_gateway uuid) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  insert into request (id, account_id, key_id, model_id, state, outcome, refusal_code, hold, list_cost, cost, stream, latency_ms,
    finished_at, settled_at, expires_at, gateway_id)
  select t.request_id, t.account_id, t.key_id, t.model, 'released', 'refused', t.code, 0, 0, 0, t.stream, t.latency_ms,
    clock_timestamp(), clock_timestamp(), clock_timestamp(), p_gateway
  from unnest(p_request, p_account, p_key, p_model, p_code, p_stream, p_latency_ms)
    as t (request_id, account_id, key_id, model, code, stream, latency_ms)
  on conflict do nothing
$$;

-- Moves money between two accounts once per (business id, kind). A repeat returns the first posting's id; a repeat with other
-- accounts or another amount is HF009. Without p_allow_negative a customer is never debited below balance − held (HF006).
create function post_transfer(p_kind text, p_business uuid, p_debit uuid, p_credit uuid, p_amount usd, p_memo jsonb,
  p_allow_negative boolean) returns uuid
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  made uuid;
  before posting;
  room numeric;
begin
  insert into posting (business_id, kind, debit, credit, amount, memo)
  values (p_business, p_kind, p_debit, p_credit, p_amount, p_memo)
  on conflict do nothing returning id into made;
  if made is null then
    select * into before from posting where business_id = p_business and kind = p_kind;
    if (before.debit, before.credit, before.amount) is distinct from (p_debit, p_credit, p_amount::numeric) then
      perform refuse('HF009', 'business id was posted with other accounts or another amount');
    end if;
    return before.id;
  end if;
  if (select count(*) from account where id in (p_debit, p_credit)) <> 2 then perform refuse('HF001', 'account unknown'); end if;
  perform 1 from account where id in (p_debit, p_credit) and kind = 'customer' order by id for no key update;
  select balance - held into room from account where id = p_debit and kind = 'customer';
  if not p_allow_negative and room < p_amount then perform refuse('HF006', 'insufficient quota', greatest(room, 0), p_amount); end if;
  update account set
    balance = balance + case when id = p_credit then p_amount else -p_amount end,
    -- Money that lifts the balance above the threshold arms the low-balance notice again.
    low_balance_noticed_at = case when id = p_credit and balance + p_amount >= low_balance_usd then null else low_balance_noticed_at end
  where id in (p_debit, p_credit) and kind = 'customer';
  return made;
end
$$;

create function system_account(p_name text) returns uuid
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select id from account where kind = 'system' and name = p_name
$$;

-- Which accounts of these requests have fallen below their threshold and were not told: a level, not an edge, so a crash
-- between charge and follow-up loses nothing.
create function accounts_to_notify(p_requests uuid[]) returns uuid[]
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select coalesce(array_agg(a.id), '{}') from account a
  where a.id in (select r.account_id from unnest(p_requests) as wanted (id) join request r using (id))
    and a.low_balance_noticed_at is null and a.balance < a.low_balance_usd
$$;

reset role;
reset search_path;
