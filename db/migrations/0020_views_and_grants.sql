-- What people read, what must always hold, and who may do what.
set role holdfast_owner;
set search_path = holdfast;

-- What a customer sees, exact at every moment, from one statement: finished rows count at their cost, not at their hold.
create view account_balance with (security_invoker = true) as
  select a.id as account_id,
    (a.balance - f.cost) as balance,
    (a.held - f.hold) as held,
    (a.balance - f.cost) - (a.held - f.hold) as available
  from account a
  cross join lateral (
    select coalesce(sum(r.cost), 0) as cost, coalesce(sum(r.hold), 0) as hold
    from request r where r.account_id = a.id and r.state = 'finished'
  ) f
  where a.kind = 'customer';

create view key_spending with (security_invoker = true) as
  select k.id as key_id,
    k.spent_total + f.cost as spent_total,
    case when limit_window(k.limit_reset, now()) > k.window_start then 0 else k.window_spent + f.window_cost end as window_spent,
    k.held - f.hold as held,
    case
      when k.limit_usd is null then null
      when k.limit_reset = 'none' then k.limit_usd - (k.spent_total + f.cost) - (k.held - f.hold)
      when limit_window(k.limit_reset, now()) > k.window_start then k.limit_usd
      else k.limit_usd - (k.window_spent + f.window_cost) - (k.window_held - f.window_hold)
    end as remaining
  from api_key k
  cross join lateral (
    select coalesce(sum(r.cost), 0) as cost, coalesce(sum(r.hold), 0) as hold,
      coalesce(sum(r.cost) filter (where r.window_start = k.window_start), 0) as window_cost,
      coalesce(sum(r.hold) filter (where r.window_start = k.window_start), 0) as window_hold
    from request r where r.account_id = k.account_id and r.key_id = k.id and r.state = 'finished'
  ) f;

create view refunded with (security_invoker = true) as
  select request_id, sum(amount) as amount from request_refund where state = 'posted' group by request_id;

-- Every invariant of the ledger, one row per breach; empty when healthy. One statement, one snapshot: correct under traffic.
create view violations with (security_invoker = true) as
  with entries as (select account_id, sum(amount) as amount from entry group by account_id),
  open_by_account as (select account_id, sum(hold) as hold from request where state in ('held', 'finished') group by account_id),
  open_by_key as (
    select r.key_id, sum(r.hold) as hold, sum(r.hold) filter (where r.window_start = k.window_start) as window_hold
    from request r join api_key k on k.id = r.key_id where r.state in ('held', 'finished') group by r.key_id
  ),
  charged_by_key as (
    select r.key_id, sum(r.cost) as cost, sum(r.cost) filter (where r.window_start = k.window_start) as window_cost
    from request r join api_key k on k.id = r.key_id where r.state = 'charged' group by r.key_id
  )
  select 'balance_equals_entries' as rule, a.id::text as subject, a.balance::text as stored, coalesce(e.amount, 0)::text as expected
  from account a left join entries e on e.account_id = a.id
  where a.kind = 'customer' and a.balance <> coalesce(e.amount, 0)
  union all
  select 'account_held_equals_open_holds', a.id::text, a.held::text, coalesce(o.hold, 0)::text
  from account a left join open_by_account o on o.account_id = a.id
  where a.kind = 'customer' and a.held <> coalesce(o.hold, 0)
  union all
  select 'key_held_equals_open_holds', k.id::text, k.held::text, coalesce(o.hold, 0)::text
  from api_key k left join open_by_key o on o.key_id = k.id where k.held <> coalesce(o.hold, 0)
  union all
  select 'key_spent_equals_charges', k.id::text, k.spent_total::text, coalesce(c.cost, 0)::text
  from api_key k left join charged_by_key c on c.key_id = k.id where k.spent_total <> coalesce(c.cost, 0)
  union all
  select 'key_window_equals_its_requests', k.id::text, (k.window_held + k.window_spent)::text,
    (coalesce(o.window_hold, 0) + coalesce(c.window_cost, 0))::text
  from api_key k left join open_by_key o on o.key_id = k.id left join charged_by_key c on c.key_id = k.id
  where k.window_held <> coalesce(o.window_hold, 0) or k.window_spent <> coalesce(c.window_cost, 0)
  union all
  select 'charge_has_its_request', p.business_id::text, p.amount::text, r.cost::text
  from posting p left join request r on r.id = p.business_id and r.state = 'charged' and r.account_id = p.debit
  where p.kind = 'charge' and (r.cost is distinct from p.amount
    or p.credit <> (select id from account where kind = 'system' and name = 'revenue'))
  union all
  select 'charged_request_has_its_posting', r.id::text, r.cost::text, p.amount::text
  from request r left join posting p on p.business_id = r.id and p.kind = 'charge'
  where r.state = 'charged' and r.cost > 0 and p.amount is distinct from r.cost
  union all
  select 'unpaid_usage_is_platform_cost', r.id::text, c.list_cost::text, (r.list_cost - r.cost)::text
  from request r left join platform_cost c on c.request_id = r.id
    and c.reason = case when r.state = 'charged' then 'overrun' else r.outcome end
  where r.state in ('charged', 'released') and r.list_cost > r.cost and c.list_cost is distinct from r.list_cost - r.cost
  union all
  select 'adjustment_has_its_posting', x.id::text, x.amount::text,
    (case p.credit when x.account_id then p.amount else -p.amount end)::text
  from adjustment x left join posting p on p.business_id = x.id and p.kind = 'adjustment' and x.account_id in (p.debit, p.credit)
  where x.state = 'posted' and x.amount is distinct from case p.credit when x.account_id then p.amount else -p.amount end
  union all
  select 'refund_has_its_posting', f.id::text, f.amount::text, p.amount::text
  from request_refund f left join posting p on p.business_id = f.id and p.kind = 'request_refund'
  where f.state = 'posted' and p.amount is distinct from f.amount
  union all
  select 'refunds_within_cost', r.id::text, f.amount::text, r.cost::text
  from refunded f join request r on r.id = f.request_id where f.amount > r.cost
  union all
  select 'debt_has_a_reversal', a.id::text, a.balance::text, '0'
  from account a where a.kind = 'customer' and a.balance < a.held
    and not exists (select 1 from posting p where p.debit = a.id and p.kind like '%reversal%')
  union all
  select 'usage_hours_equal_requests', coalesce(u.account_id, r.account_id)::text, u.cost::text, r.cost::text
  from (select account_id, sum(cost) as cost, sum(requests) as requests from usage_hour group by 1) u
  full join (select account_id, sum(cost) as cost, count(*) as requests from request
    where state in ('charged', 'released') and outcome <> 'refused' group by 1) r using (account_id)
  where u.cost is distinct from r.cost or u.requests is distinct from r.requests
  union all
  select 'hold_is_not_stale', id::text, expires_at::text, now()::text
  from request where state = 'held' and expires_at < now() - interval '1 hour'
  union all
  select 'settlement_is_not_stuck', id::text, finished_at::text, now()::text
  from request where state = 'finished' and settle_error is null and finished_at < now() - interval '1 hour'
  union all
  select 'payment_has_its_posting', t.id::text, t.credited::text, p.amount::text
  from payment t left join posting p on p.business_id = t.id and p.kind = 'top_up' and p.credit = t.account_id
  where p.amount is distinct from t.credited
  union all
  select 'top_up_has_its_payment', p.business_id::text, p.amount::text, null
  from posting p where p.kind = 'top_up' and not exists (select from payment t where t.id = p.business_id)
  union all
  select 'top_up_equals_its_payments', t.id::text, t.credited::text, coalesce(p.credited, 0)::text
  from top_up t left join (select top_up_id, sum(credited) as credited from payment group by 1) p on p.top_up_id = t.id
  where t.credited <> coalesce(p.credited, 0)
  union all
  select 'payment_equals_its_reversals', t.id::text, t.reversed::text, coalesce(r.amount, 0)::text
  from payment t left join (select payment, sum(case direction when 'out' then amount else -amount end) as amount
    from payment_reversal group by 1) r on r.payment = t.id
  where t.reversed <> coalesce(r.amount, 0)
  union all
  select 'reversal_has_its_posting', r.id::text, r.amount::text, p.amount::text
  from payment_reversal r left join posting p on p.business_id = r.id
    and p.kind = case r.direction when 'out' then 'top_up_reversal' else 'top_up_reversal_undone' end
  where r.amount > 0 and p.amount is distinct from r.amount
  union all
  select 'event_is_not_stuck', e.provider || ' ' || e.event_id, e.received_at::text, now()::text
  from provider_event e where e.handled_at is null and e.received_at < now() - interval '1 hour'
  union all
  select 'partitions_are_ahead', parent, null, 'a partition for next month'
  from unnest(array['request', 'posting']) parent
  where to_regclass(format('holdfast.%s_%s', parent, to_char((now() + interval '1 month') at time zone 'UTC', 'YYYY_MM'))) is null;

revoke execute on all functions in schema holdfast from public;
alter default privileges for role holdfast_owner revoke execute on functions from public;

grant execute on function place_hold, place_holds, place_free_holds, extend_hold, note_client_left, finish_request, finish_requests, settle_account,
  log_refusals, gateway_heartbeat, gateway_stopped, find_key, catalogue to holdfast_gateway;

grant execute on function settle_requests, finish_request, finish_requests, mark_settle_error, accounts_to_notify, find_unsettled, find_orphans,
  note_reachable, orphan_facts, book_platform_cost, price_version_of, upstreams_of, open_case, notice_low_balance, decide_refund,
  ensure_partitions, begin_checkout, credit_payment, move_top_up, reverse_payment, handle_event, find_unhandled_events, event_of,
  find_quiet_top_ups, note_top_up_look, finalize_payment, top_up_of, top_up_of_payment, payments_of to holdfast_worker;

-- People's changes: whole rows where there is no money, single columns where there is.
grant select on all tables in schema holdfast to holdfast_management, holdfast_reporter, holdfast_auditor;
grant execute on function limit_window, v7_floor, key_room, is_billed, request_is_sound to holdfast_management, holdfast_reporter, holdfast_auditor;
grant insert (id, kind, name, email, low_balance_usd) on account to holdfast_management;
grant update (name, email, low_balance_usd, low_balance_noticed_at, frozen_at, frozen_reason) on account to holdfast_management;
grant insert (id, account_id, name, hash, prefix, expires_at, limit_usd, limit_reset, models, ip_allowlist) on api_key to holdfast_management;
grant update (name, expires_at, limit_usd, limit_reset, models, ip_allowlist, revoked_at) on api_key to holdfast_management;
grant insert, update on model, access_token, review_case, idempotency_key to holdfast_management;
grant delete on idempotency_key to holdfast_management;
grant update (read_at) on notice to holdfast_management;
grant update (settle_error) on request to holdfast_management; -- a person sends a stuck row back to settlement
grant insert on operator_action to holdfast_management;
grant execute on function publish_price_version, request_refund, request_adjustment, decide_adjustment, system_account,
  create_top_up, store_event to holdfast_management;

reset role;
reset search_path;
