-- Requests and what follows from them. Ids are UUIDv7; a request is partitioned by its id, so the primary key is global
-- and an old month can be dropped. The function in here is part of a CHECK, so it is frozen with its table.
set role holdfast_owner;
set search_path = holdfast;

create domain token_count as bigint constraint token_count_not_negative check (value >= 0);
create domain request_state as text constraint state_known check (value in ('held', 'finished', 'charged', 'released'));
create domain request_outcome as text constraint outcome_known check (value
  in ('completed', 'client_disconnected', 'cut_by_limit', 'cut_by_time', 'upstream_error', 'upstream_timeout',
  'empty_completion', 'orphaned', 'refused'));

-- The rules between the columns of a request; raises the name of the one that a row breaks.
create function request_is_sound(state text, outcome text, hold numeric, list_cost numeric, cost numeric, free boolean,
  finished_at timestamptz, settled_at timestamptz, refusal_code text) returns boolean
language plpgsql immutable as $$
declare
  billed boolean not null := coalesce(outcome in ('completed', 'client_disconnected', 'cut_by_limit', 'cut_by_time'),
    false);
  broken text := case
    when num_nulls(outcome, list_cost, cost, finished_at) <> case state when 'held' then 4 else 0 end
      then 'outcome_iff_not_held'
    when (state in ('charged', 'released')) <> (settled_at is not null) then 'settled_iff_terminal'
    when cost < 0 or cost > list_cost then 'cost_within_list_cost'
    when not billed and cost <> 0 then 'unbilled_costs_nothing'
    when settled_at is not null and (state = 'charged') <> (billed and not free) then 'charged_iff_billed'
    when free and (hold <> 0 or cost <> 0) then 'free_holds_nothing'
    when coalesce(outcome = 'refused', false) <> (refusal_code is not null) then 'refused_has_code'
  end;
begin
  if broken is null then
    return true;
  end if;
  raise exception using errcode = 'check_violation', constraint = broken, table = 'request',
    message = format('a request breaks the rule %s', broken);
end
$$;

-- One row is the request's whole life and, once settled, its log line. Columns in the order an operator reads them.
create table request (
  id uuid not null,
  account_id uuid not null,
  key_id uuid not null,
  model_id text not null,
  state request_state not null default 'held',
  outcome request_outcome,
  hold usd_not_negative not null,
  list_cost usd,                     -- what was rated
  cost usd,                          -- min(list_cost, hold) while finished; what was charged once settled
  free boolean not null default false,
  stream boolean not null default false,
  estimated boolean not null default false,
  input_tokens token_count,
  output_tokens token_count,
  cached_input_tokens token_count,
  reasoning_tokens token_count,
  price_version integer,             -- null only on refused rows of models without a price, and on :free
  latency_ms integer,                -- from arrival to the end of the answer
  first_token_ms integer,
  created_at timestamptz not null default clock_timestamp(),
  finished_at timestamptz,
  settled_at timestamptz,
  expires_at timestamptz not null,
  window_start timestamptz not null default '-infinity',  -- the key's limit window the hold was taken in
  gateway_id uuid not null,          -- the gateway process that owns the hold
  client_left_at timestamptz,
  resolver_started_at timestamptz,   -- when the sweep last handed this orphan to resolveOrphan
  workflow_id text,
  refusal_code text,
  settle_error text,
  asked_units jsonb,                 -- answers beyond the first and web searches that the body asked for, when not zero
  usage_detail jsonb,                -- dimensions without a column, when not zero
  raw_usage jsonb,                   -- what the upstream reported, kept only where it was unusable or cut
  -- What went wrong at the provider, for staff; null for a plain answer of the model's first upstream.
  upstream_name text,                -- its place in the catalogue and its host, never its key
  upstream_kind text,                -- domain/requests/upstream-evidence.ts has the list
  upstream_status integer,           -- null where no answer came
  upstream_code text,                -- the provider's own
  upstream_message text,             -- the provider's own words, bounded, without quotations
  primary key (id),
  constraint request_sound check (request_is_sound(state, outcome, hold, list_cost, cost, free, finished_at, settled_at,
    refusal_code))
) partition by range (id);
create index request_log on request (account_id, id desc);
create index request_finished on request (account_id, finished_at) include (key_id, hold, cost)
  where state = 'finished';
create index request_held on request (gateway_id, expires_at) where state = 'held';

-- Usage that nobody pays: reasons are outcomes without a bill, late_finish, overrun, undelivered (beside a bill for
-- what was delivered), orphan (found by evidence), and free (a `:free` model, at its list price or that of the model it
-- is named after). No postings: these sums are the platform's cost and loss, not anybody's balance.
create table platform_cost (
  request_id uuid not null,
  reason text not null,
  usage jsonb not null,
  list_cost usd not null,
  -- counted here, or taken as it was held, because no provider said what it was
  estimated boolean not null default false,
  created_at timestamptz not null default clock_timestamp(),
  primary key (request_id, reason),
  constraint list_cost_not_negative check (list_cost >= 0)
);
-- A gateway that was taken for dead and the look-up at the upstream may both report one orphan's usage: it counts once.
create unique index platform_cost_orphan on platform_cost (request_id) where reason in ('late_finish', 'orphan');

-- What an account uses of `:free` models, over all its keys and all gateways. Its own row, so that paid requests never
-- wait for it.
create table free_use (
  account_id uuid primary key references account,
  open integer not null default 0,                  -- requests held now
  minute timestamptz not null default '-infinity',  -- UTC, of the last request that began
  minute_requests integer not null default 0,
  day timestamptz not null default '-infinity',     -- UTC, of the last request that ended
  day_tokens token_count not null default 0
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01);

create table usage_hour (
  account_id uuid not null,
  hour timestamptz not null,
  model_id text not null,
  key_id uuid not null,
  requests bigint not null,
  failed bigint not null,
  input_tokens numeric not null,
  output_tokens numeric not null,
  cached_input_tokens numeric not null,
  reasoning_tokens numeric not null,
  cost usd not null,
  primary key (account_id, hour, model_id, key_id)
) with (fillfactor = 70);

create table gateway_instance (
  id uuid primary key,
  started_at timestamptz not null default clock_timestamp(),
  heartbeat_at timestamptz not null default clock_timestamp(),
  stopped_at timestamptz,
  description text not null
) with (fillfactor = 50);

-- Since when the sweep has reached the database without a gap: a gateway that is silent while the database was away is
-- not gone.
create table database_reachability (
  only_row boolean primary key default true check (only_row),
  since timestamptz not null default clock_timestamp(),
  seen_at timestamptz not null default clock_timestamp()
);

insert into database_reachability default values;

create table request_refund (
  request_id uuid not null,
  n integer not null,
  id uuid not null unique default uuidv7(),
  account_id uuid not null,
  amount usd not null,
  reason text not null,
  state text not null default 'waiting',
  needs_approval boolean not null default true,
  requested_by text not null,
  requested_at timestamptz not null default now(),
  decided_by text,
  decided_at timestamptz,
  posting_id uuid,
  primary key (request_id, n),
  constraint refund_amount_positive check (amount > 0),
  constraint refund_state_known check (state in ('waiting', 'posted', 'rejected')),
  constraint refund_decided_iff_not_waiting check ((state = 'waiting') = (decided_at is null)),
  constraint refund_posted_iff_posting check ((state = 'posted') = (posting_id is not null)),
  constraint refund_reason_length check (char_length(reason) between 3 and 2000)
);

-- Who reads reports and who manages may see every row; a role may write what is named here, and nothing else.
grant select on request, platform_cost, free_use, usage_hour, gateway_instance, database_reachability, request_refund to
  holdfast_management, holdfast_reporter, holdfast_auditor;
grant update (settle_error) on request to holdfast_management; -- a person sends a stuck row back to settlement
grant execute on function request_is_sound to holdfast_management, holdfast_reporter, holdfast_auditor;

reset role;
reset search_path;
