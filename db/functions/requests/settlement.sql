-- Settling finished requests: money moves, hot rows, in batches. requests/holds.sql has the lock order and
-- requests/finish.sql the two forms of speech that are for the planner.

-- Adds settled rows to the hourly rollup, in the order of the hours' own key. Called in the transaction that settles
-- them, which knows where the hours stand among its locks.
create function roll_up(p_requests uuid[]) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  insert into usage_hour as u (account_id, hour, model_id, key_id, requests, failed, input_tokens, output_tokens,
    cached_input_tokens, reasoning_tokens, cost)
  select account_id, date_trunc('hour', created_at, 'UTC'), model_id, key_id, count(*),
    count(*) filter (where not is_billed(outcome)),
    coalesce(sum(input_tokens) filter (where is_billed(outcome)), 0),
    coalesce(sum(output_tokens) filter (where is_billed(outcome)), 0),
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

-- What each overrunning batch row is charged: its hold in full, and above it only what balance − held still has, in id
-- order, each row also giving back what it did not use. An estimate takes nothing above its hold: nobody pays for more
-- than was set aside on our own count. The account rows are locked by the caller.
create function overrun_costs(p_requests uuid[]) returns table (request_id uuid, charged usd)
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_request record;
  v_account_id uuid;
  v_room numeric;
  v_paid numeric;
begin
  for v_request in
    select r.id, r.account_id, r.hold, r.list_cost, r.estimated, is_billed(r.outcome) as billed,
      a.balance - a.held as room
    from unnest(p_requests) as wanted (id) join request r using (id) join account a on a.id = r.account_id
    order by r.account_id, r.id
  loop
    if v_account_id is distinct from v_request.account_id then
      v_account_id := v_request.account_id;
      v_room := v_request.room;
    end if;
    v_paid := case when not v_request.billed then 0
      when v_request.list_cost <= v_request.hold then v_request.list_cost
      when v_request.estimated then v_request.hold
      else v_request.hold + least(v_request.list_cost - v_request.hold, greatest(v_room, 0)) end;
    v_room := v_room + v_request.hold - v_paid;
    request_id := v_request.id;
    charged := v_paid;
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
-- Writes the workflow id, also on rows that somebody else settled before this workflow came. Returns how many were
-- settled now.
create function settle_requests(p_requests uuid[], p_workflow text) returns integer
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_mine uuid[];
  v_keys uuid[];
  v_accounts uuid[];
  v_settled_before uuid[];
  v_overrun boolean;
  v_revenue uuid;
  v_moved_keys uuid[];
  v_moved_accounts uuid[];
  v_moved_windows timestamptz[];
  v_moved_holds numeric[];
  v_moved_costs numeric[];
begin
  -- Rows that somebody else settled and that only lack the workflow id are locked here as well: every row this call
  -- will touch, in id order, before any key or account.
  select array_agg(id) filter (where is_mine), array_agg(distinct key_id) filter (where is_mine),
    array_agg(distinct account_id) filter (where is_mine),
    coalesce(bool_or(is_billed(outcome) and not estimated and list_cost > hold) filter (where is_mine), false),
    array_agg(id) filter (where not is_mine)
  into v_mine, v_keys, v_accounts, v_overrun, v_settled_before
  from (
    select r.id, r.key_id, r.account_id, r.outcome, r.list_cost, r.hold, r.estimated, r.settled_at is null as is_mine
    from (select distinct unnest(p_requests) as id) wanted join request r using (id)
    where (r.state like 'finished' and r.settle_error is null)
      or (p_workflow is not null and r.workflow_id is null and r.settled_at is not null and not r.free
        and r.outcome <> 'refused')
    order by r.id for no key update of r
  ) locked;

  if v_settled_before is not null then
    update request r set workflow_id = p_workflow from unnest(v_settled_before) as wanted (id) where r.id = wanted.id;
  end if;
  if v_mine is not null then
    -- Keys and accounts are what holds wait for, so they are locked last and for as little as possible. Only an overrun
    -- is decided by the account's money and must have it first; that order could deadlock with the usual one over the
    -- hours of the rollup, so a settlement with an overrun runs alone.
    if v_overrun then
      perform pg_advisory_xact_lock(settlement_lock());
      perform lock_keys_and_accounts(v_keys, v_accounts);
    else
      perform pg_advisory_xact_lock_shared(settlement_lock());
    end if;
    select id into strict v_revenue from account where kind = 'system' and name = 'revenue';
    with priced as materialized (
      -- Without an overrun the cost of a finished row is already what it is charged; the loop is only for the rare
      -- rest.
      select request_id, charged from overrun_costs(case when v_overrun then v_mine else '{}'::uuid[] end)
    ), settled as (
      update request r set
        state = case when is_billed(r.outcome) then 'charged' else 'released' end,
        cost = coalesce((select charged from priced where request_id = r.id), r.cost),
        settled_at = clock_timestamp(),
        workflow_id = p_workflow
      from unnest(v_mine) as wanted (id)
      where r.id = wanted.id
      returning r.*
    ), charges as (
      insert into posting (business_id, kind, debit, credit, amount)
      select id, 'charge', account_id, v_revenue, cost from settled where cost > 0
    ), losses as (
      insert into platform_cost (request_id, reason, usage, list_cost, estimated)
      select id, 'overrun', token_usage(settled::request), list_cost - cost, estimated from settled
      where is_billed(outcome) and list_cost > cost
    ), moved as (
      select key_id, account_id, window_start, sum(hold) as hold, sum(cost) as cost from settled
      group by key_id, account_id, window_start
    )
    select array_agg(key_id), array_agg(account_id), array_agg(window_start), array_agg(hold), array_agg(cost)
    into v_moved_keys, v_moved_accounts, v_moved_windows, v_moved_holds, v_moved_costs from moved;
    perform roll_up(v_mine);

    if not v_overrun then
      perform lock_keys_and_accounts(v_keys, v_accounts);
    end if;
    update api_key k set
      held = k.held - s.hold,
      spent_total = k.spent_total + s.cost,
      window_held = k.window_held - s.window_hold,
      window_spent = k.window_spent + s.window_cost
    from (
      select m.key_id, sum(m.hold) as hold, sum(m.cost) as cost,
        coalesce(sum(m.hold) filter (where m.window_start = before.window_start), 0) as window_hold,
        coalesce(sum(m.cost) filter (where m.window_start = before.window_start), 0) as window_cost
      from unnest(v_moved_keys, v_moved_windows, v_moved_holds, v_moved_costs) as m (key_id, window_start, hold, cost)
      join api_key before on before.id = m.key_id group by m.key_id
    ) s
    where k.id = s.key_id;
    update account a set held = a.held - s.hold, balance = a.balance - s.cost
    from (
      select m.account_id, sum(m.hold) as hold, sum(m.cost) as cost
      from unnest(v_moved_accounts, v_moved_holds, v_moved_costs) as m (account_id, hold, cost) group by m.account_id
    ) s
    where a.id = s.account_id;
  end if;
  return coalesce(cardinality(v_mine), 0);
end
$$;
grant execute on function settle_requests to holdfast_worker;

-- Settles up to 1,000 finished rows of one account, oldest first, so that nobody is refused because a settlement is
-- late.
create function settle_account(p_account uuid) returns integer
language sql security definer set search_path = holdfast, pg_temp as $$
  select settle_requests(array(
    select id from request where account_id = p_account and state = 'finished' and settle_error is null
    order by finished_at limit 1000
  ), null)
$$;
grant execute on function settle_account to holdfast_gateway;

-- Marks a row that cannot be settled although the database works: its hold stays, a person decides.
create function mark_settle_error(p_request uuid, p_error text) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  update request set settle_error = left(p_error, 2000) where id = p_request and state = 'finished'
    and settle_error is null
$$;
grant execute on function mark_settle_error to holdfast_worker;
