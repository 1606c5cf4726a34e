-- The ledger's tables. Money is DOMAIN usd: numeric would round silently and accept NaN, bigint ends at 9.2 million USD.
-- Ids are UUIDv7; request and posting are partitioned by id, so the primary key is global and an old month can be dropped.
set role holdfast_owner;
set search_path = holdfast;

create domain usd as numeric
  constraint usd_scale_and_bound check (scale(value) <= 12 and value > -1e20 and value < 1e20);

-- What concerns one column is a domain, and what concerns several columns of `account` or `request` is a function: PostgreSQL reads and plans
-- the expression of every table CHECK anew in each statement that writes the table (a fifth of the server's work for a
-- request), a domain's and a function's once per session.
create domain usd_not_negative as usd constraint amount_not_negative check (value >= 0);
create domain token_count as bigint constraint token_count_not_negative check (value >= 0);
create domain account_kind as text constraint kind_known check (value in ('customer', 'system'));
create domain account_name as text constraint name_length check (char_length(value) between 1 and 200);
create domain email_address as text constraint email_length check (char_length(value) between 3 and 320);
create domain freeze_kind as text constraint freeze_kind_known check (value in ('support', 'operator', 'fraud'));
create domain key_name as text constraint key_name_length check (char_length(value) between 1 and 100);
create domain sha256 as bytea constraint hash_is_sha256 check (octet_length(value) = 32);
create domain limit_period as text constraint limit_reset_known check (value in ('none', 'daily', 'weekly', 'monthly'));
create domain request_state as text constraint state_known check (value in ('held', 'finished', 'charged', 'released'));
create domain request_outcome as text constraint outcome_known check (value in ('completed', 'client_disconnected', 'cut_by_limit',
  'cut_by_time', 'upstream_error', 'upstream_timeout', 'empty_completion', 'orphaned', 'refused'));

-- First of the month etc. in UTC; '-infinity' for a limit that never resets.
create function limit_window(reset text, at timestamptz) returns timestamptz
language sql immutable parallel safe as $$
  select case reset
    when 'daily' then date_trunc('day', at, 'UTC')
    when 'weekly' then date_trunc('week', at, 'UTC')
    when 'monthly' then date_trunc('month', at, 'UTC')
    else '-infinity'::timestamptz
  end
$$;

-- The smallest UUIDv7 of a moment: partition bounds and time scans need no index of their own.
create function v7_floor(at timestamptz) returns uuid
language sql immutable parallel safe as $$
  select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid
$$;

-- The rules between the columns of an account; raises the name of the one that a row breaks.
create function account_is_sound(kind text, balance numeric, held numeric, frozen_at timestamptz, frozen_reason text) returns boolean
language plpgsql immutable as $$
declare
  broken text := case
    when kind <> 'customer' and (balance <> 0 or held <> 0) then 'system_has_no_live_balance'
    when (frozen_at is null) <> (frozen_reason is null) then 'frozen_has_reason'
  end;
begin
  if broken is null then return true; end if;
  raise exception using errcode = 'check_violation', constraint = broken, table = 'account',
    message = format('an account breaks the rule %s', broken);
end
$$;

-- Customers have a live balance; system accounts (revenue, cash by rail, promo, …) do not: theirs is the sum of
-- postings, because one row updated by every charge would make the whole system one hot account.
create table account (
  id uuid primary key default uuidv7(),
  kind account_kind not null,
  name account_name not null,
  balance usd not null default 0,
  held usd_not_negative not null default 0,
  created_at timestamptz not null default now(),
  frozen_at timestamptz,
  frozen_reason text,
  frozen_kind freeze_kind,
  low_balance_usd usd_not_negative not null default 1,
  low_balance_noticed_at timestamptz,
  email email_address,
  constraint account_sound check (account_is_sound(kind, balance, held, frozen_at, frozen_reason))
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01);
-- No index on balance or held, ever: it would end HOT updates of the hottest row.
create unique index account_system_name on account (name) where kind = 'system';
create unique index account_email on account (lower(email)) where email is not null;

insert into account (kind, name) values
  ('system', 'revenue'), ('system', 'adjustment'), ('system', 'cash:stripe'), ('system', 'cash:creem'),
  ('system', 'cash:crypto'), ('system', 'promo'), ('system', 'commission'), ('system', 'chargeback');

create table api_key (
  id uuid primary key default uuidv7(),
  account_id uuid not null references account,
  held usd_not_negative not null default 0,
  spent_total usd not null default 0,
  limit_usd usd_not_negative,
  limit_reset limit_period not null default 'none',
  window_start timestamptz not null default '-infinity',
  window_spent usd not null default 0,
  window_held usd_not_negative not null default 0,
  expires_at timestamptz,
  revoked_at timestamptz,
  created_at timestamptz not null default now(),
  hash sha256 not null,
  prefix text not null,
  name key_name not null,
  models text[],
  ip_allowlist cidr[],
  created_by uuid,                   -- the access token it was made with
  constraint key_hash_unique unique (hash)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01);
create index api_key_account on api_key (account_id, id);
create index api_key_prefix on api_key (prefix text_pattern_ops);

-- The rules between the columns of a request; raises the name of the one that a row breaks.
create function request_is_sound(state text, outcome text, hold numeric, list_cost numeric, cost numeric, free boolean,
  finished_at timestamptz, settled_at timestamptz, refusal_code text) returns boolean
language plpgsql immutable as $$
declare
  billed boolean not null := coalesce(outcome in ('completed', 'client_disconnected', 'cut_by_limit', 'cut_by_time'), false);
  broken text := case
    when num_nulls(outcome, list_cost, cost, finished_at) <> case state when 'held' then 4 else 0 end then 'outcome_iff_not_held'
    when (state in ('charged', 'released')) <> (settled_at is not null) then 'settled_iff_terminal'
    when cost < 0 or cost > list_cost then 'cost_within_list_cost'
    when not billed and cost <> 0 then 'unbilled_costs_nothing'
    when settled_at is not null and (state = 'charged') <> (billed and not free) then 'charged_iff_billed'
    when free and (hold <> 0 or cost <> 0) then 'free_holds_nothing'
    when coalesce(outcome = 'refused', false) <> (refusal_code is not null) then 'refused_has_code'
  end;
begin
  if broken is null then return true; end if;
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
  constraint request_sound check (request_is_sound(state, outcome, hold, list_cost, cost, free, finished_at, settled_at, refusal_code))
) partition by range (id);
create index request_log on request (account_id, id desc);
create index request_finished on request (account_id, finished_at) include (key_id, hold, cost) where state = 'finished';
create index request_held on request (gateway_id, expires_at) where state = 'held';

-- One posting: debit pays credit, amount > 0. Zero-sum by construction; corrections are new postings, never edits.
-- The business id is the request, adjustment, refund or top-up the money belongs to: (business_id, kind) happens once.
create table posting (
  id uuid not null default uuidv7(),
  business_id uuid not null,
  kind text not null,
  debit uuid not null,
  credit uuid not null,
  amount usd not null,
  created_at timestamptz not null default clock_timestamp(),
  memo jsonb,
  primary key (business_id, kind),
  constraint amount_positive check (amount > 0),
  constraint two_accounts check (debit <> credit),
  constraint posting_kind_length check (char_length(kind) between 1 and 40)
) partition by range (business_id);
create index posting_debit on posting (debit, id);
create index posting_credit on posting (credit, id) where kind <> 'charge'; -- a charge's credit is revenue, read by sums only
create index posting_id on posting using brin (id);

create view entry with (security_invoker = true) as
  select id as posting_id, kind, business_id, debit as account_id, -amount as amount, created_at from posting
  union all
  select id, kind, business_id, credit, amount, created_at from posting;

-- Usage that nobody pays: reasons are outcomes without a bill, late_finish, overrun, undelivered (beside a bill for what was
-- delivered), orphan (found by evidence), and free (a `:free` model, at its list price or that of the model it is named after).
-- No postings: these sums are the platform's cost and loss, not anybody's balance.
create table platform_cost (
  request_id uuid not null,
  reason text not null,
  usage jsonb not null,
  list_cost usd not null,
  estimated boolean not null default false,  -- counted here, or taken as it was held, because no provider said what it was
  created_at timestamptz not null default clock_timestamp(),
  primary key (request_id, reason),
  constraint list_cost_not_negative check (list_cost >= 0)
);
-- A gateway that was taken for dead and the look-up at the upstream may both report one orphan's usage: it counts once.
create unique index platform_cost_orphan on platform_cost (request_id) where reason in ('late_finish', 'orphan');

-- What an account uses of `:free` models, over all its keys and all gateways. Its own row, so that paid requests never wait for it.
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

-- Since when the sweep has reached the database without a gap: a gateway that is silent while the database was away is not gone.
create table database_reachability (
  only_row boolean primary key default true check (only_row),
  since timestamptz not null default clock_timestamp(),
  seen_at timestamptz not null default clock_timestamp()
);
insert into database_reachability default values;

-- Append-only guards. Row triggers on the parent are inherited by partitions; truncate needs one per partition (ensure_partitions).
create function deny_change() returns trigger language plpgsql as $$
begin
  raise exception using errcode = 'HF900', message = format('%s is append-only: %s refused', tg_table_name, lower(tg_op));
end
$$;
create trigger append_only before update or delete on posting for each row execute function deny_change();
create trigger append_only_truncate before truncate on posting for each statement execute function deny_change();
create trigger append_only before update or delete on platform_cost for each row execute function deny_change();
create trigger append_only_truncate before truncate on platform_cost for each statement execute function deny_change();

create function freeze_settled_request() returns trigger language plpgsql as $$
begin
  if tg_op = 'UPDATE' and old.workflow_id is null and new.workflow_id is not null then
    old.workflow_id := new.workflow_id;
    if old is not distinct from new then return new; end if;
  end if;
  raise exception using errcode = 'HF900', message = format('request %s is settled and cannot change', old.id);
end
$$;
create trigger frozen_once_settled before update on request for each row
  when (old.settled_at is not null) execute function freeze_settled_request();
create trigger never_deleted before delete on request for each row execute function deny_change();
create trigger never_truncated before truncate on request for each statement execute function deny_change();

-- Makes the monthly partitions from the month before `at` to `months_ahead` after it; repeatable. An id outside all
-- partitions is refused, so the worker runs this daily and /readyz warns when fewer than one month is ahead.
create function ensure_partitions(months_ahead integer, at timestamptz default now()) returns integer
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  parent text;
  month timestamptz;
  name text;
  made integer := 0;
begin
  perform pg_advisory_xact_lock(hashtextextended('holdfast.ensure_partitions', 0));
  foreach parent in array array['request', 'posting'] loop
    for month in select generate_series(date_trunc('month', at, 'UTC') - interval '1 month',
      date_trunc('month', at, 'UTC') + make_interval(months => months_ahead), interval '1 month', 'UTC')
    loop
      name := format('%s_%s', parent, to_char(month at time zone 'UTC', 'YYYY_MM'));
      if to_regclass('holdfast.' || name) is null then
        execute format('create table %I partition of %I for values from (%L) to (%L) with (fillfactor = %s, '
          'autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02)', name, parent,
          v7_floor(month), v7_floor(month + interval '1 month'), case parent when 'request' then 60 else 100 end);
        execute format('create trigger append_only_truncate before truncate on %I for each statement execute function deny_change()', name);
        made := made + 1;
      end if;
    end loop;
  end loop;
  return made;
end
$$;
select ensure_partitions(3);

reset role;
reset search_path;
