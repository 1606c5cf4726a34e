-- Money that comes in: top-up orders, the payments that credit them, what is taken back, and the providers' events as they came.
--
-- Lock order: top-up, payment (lock_payment, then its row), then accounts (post_transfer). Nothing on the request path touches the first two.
set role holdfast_owner;
set search_path = holdfast;

create domain top_up_state as text constraint top_up_state_known check (value in ('created', 'waiting', 'processing', 'credited',
  'expired', 'failed', 'quarantined', 'abandoned'));

-- An order. Its state is here, so that a run of its workflow can begin from the row at any time.
create table top_up (
  id uuid primary key,
  account_id uuid not null references account,
  state top_up_state not null default 'created',
  method text not null,              -- what the customer chose
  provider text not null,            -- who carries it
  amount usd_not_negative not null,  -- what is credited
  fee usd_not_negative not null,     -- what comes on top of it
  currency text not null,
  live boolean not null,
  provider_id text,                  -- the provider's checkout object
  checkout_url text,
  received usd_not_negative not null default 0,  -- the most that was seen to be paid in its currency; never falls
  received_other jsonb not null default '{}',  -- what is seen to be paid in other currencies, by code; there is no rate, so it is no sum of USD
  credited usd_not_negative not null default 0,
  stuck text,                        -- why a person has to look, as a code
  expires_at timestamptz not null,
  created_at timestamptz not null default now(),
  looked_at timestamptz not null default clock_timestamp(),  -- when its run last asked the provider
  save_card boolean not null default false,  -- the customer wants the card kept for automatic top-ups
  customer_id text,                  -- the provider's customer: whose card is kept or charged
  payment_method text,               -- the kept card that is charged, on an automatic top-up
  abandoned_by text,                 -- who gave the order up, by the interface; its run closes the checkout
  abandon_reason text,
  constraint auto_charges_a_card check ((method = 'auto') = (payment_method is not null)),
  constraint provider_object_once unique (provider, provider_id),
  constraint amount_above_zero check (amount > 0),
  constraint credited_iff_credited check ((state = 'credited') = (credited > 0))
);
create index top_up_account on top_up (account_id, id desc);
create index top_up_open on top_up (looked_at) where state in ('created', 'waiting', 'processing', 'quarantined');
create index top_up_stuck on top_up (id) where stuck is not null;
create index top_up_open_of_account on top_up (account_id) where state in ('created', 'waiting', 'processing');

-- A payment that was credited: once per (provider, payment id). Its id is the business id of its posting.
create table payment (
  id uuid primary key default uuidv7(),
  provider text not null,
  payment_id text not null,
  top_up_id uuid not null references top_up,
  account_id uuid not null references account,
  received usd_not_negative not null,
  credited usd_not_negative not null,
  reversed usd_not_negative not null default 0,
  posting_id uuid not null,
  credited_by text not null,
  credited_at timestamptz not null default now(),
  final_at timestamptz,              -- since when the payment itself cannot vanish any more; a reversal still can come
  warned_at timestamptz,             -- since when the card's bank takes it for fraud: commission on it has to wait
  constraint provider_payment_once unique (provider, payment_id),
  constraint reversed_within_credited check (reversed <= credited)
);
create index payment_top_up on payment (top_up_id);

-- A payment as its provider last showed it, credited or not: what a person may credit by hand, by the key that an automatic credit
-- of it has. People know a payment by other ids as well (its charge, its checkout, its transaction), and those lead here.
create table known_payment (
  provider text not null,
  payment_id text not null,
  top_up_id uuid references top_up,  -- null: the provider's books list it, and it names no order of ours
  -- 'listed': only the books show it, its order's own look has not; 'gone': its order's last look did not show it any more.
  status text not null,
  received numeric(38,12) not null,  -- in `currency`
  currency text not null,
  live boolean,                      -- null: the books do not say
  names text[] not null,             -- all its ids, in lower case; none is forgotten
  seen_at timestamptz not null default clock_timestamp(),
  primary key (provider, payment_id),
  constraint known_payment_status_known check (status in ('paid', 'processing', 'failed', 'no_payment', 'listed', 'gone'))
);
create index known_payment_top_up on known_payment (top_up_id);
create index known_payment_names on known_payment using gin (names);

-- One movement of a reversal: at most one per provider object and direction. A step of 0 says that there was nothing left to move.
create table payment_reversal (
  id uuid primary key default uuidv7(),
  provider text not null,
  object_id text not null,
  direction text not null,
  kind text not null,
  payment uuid not null references payment,
  amount usd_not_negative not null,
  posting_id uuid,
  created_at timestamptz not null default now(),
  constraint reversal_once unique (provider, object_id, direction),
  constraint direction_known check (direction in ('out', 'in')),
  constraint reversal_kind_known check (kind in ('refund', 'dispute', 'reorg')),
  constraint posted_iff_moved check ((posting_id is null) = (amount = 0))
);
create index payment_reversal_payment on payment_reversal (payment);
create trigger append_only before update or delete on payment_reversal for each row execute function deny_change();
create trigger append_only_truncate before truncate on payment_reversal for each statement execute function deny_change();

-- A refund or dispute of a credited payment that can still change, as its provider last said. Its run sees to it to the end; this is
-- how a run that was lost is missed.
create table open_reversal (
  payment uuid not null references payment,
  object_id text not null,
  seen_at timestamptz not null default clock_timestamp(),  -- for the first time
  primary key (payment, object_id)
);

-- A webhook event as it came. Stored before its 2xx; a poke, never the truth: what follows is read from the provider.
create table provider_event (
  provider text not null,
  event_id text not null,
  type text not null,
  payload jsonb not null,
  received_at timestamptz not null default clock_timestamp(),
  tried_at timestamptz,              -- when a sweep last delivered it again
  handled_at timestamptz,
  result text,
  primary key (provider, event_id)
);
create index provider_event_open on provider_event (coalesce(tried_at, received_at)) where handled_at is null;
create index provider_event_received on provider_event (provider, received_at);

-- What came in by webhooks and led to nothing, by cause: `refused` before it was stored, `foreign` afterwards. A row per cause, so whatever
-- strangers send it stays small; no body and no secret is in it.
create table webhook_count (
  provider text not null,
  kind text not null,
  reason text not null,
  n bigint not null default 0,
  first_at timestamptz not null default clock_timestamp(),
  last_at timestamptz not null default clock_timestamp(),
  last_detail text,                  -- of the latest one, in words
  primary key (provider, kind, reason),
  constraint webhook_count_kind_known check (kind in ('refused', 'foreign')),
  constraint webhook_count_is_short check (char_length(provider) <= 60 and char_length(reason) <= 60 and char_length(last_detail) <= 300)
);

-- Counts p_n more of a cause.
create function count_webhooks(p_provider text, p_kind text, p_reason text, p_n integer, p_detail text) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  insert into webhook_count as c (provider, kind, reason, n, last_detail) values (p_provider, p_kind, p_reason, p_n, left(p_detail, 300))
  on conflict (provider, kind, reason) do update set n = c.n + excluded.n, last_at = excluded.last_at, last_detail = excluded.last_detail
$$;

-- Creates an order; a repeat with the same id returns the row that is there. Refuses HF009 for other content under the same id, and
-- HF034 when p_open_max others of the account (null: any number) may still be paid: each is watched until it ends.
create function create_top_up(p_id uuid, p_account uuid, p_method text, p_provider text, p_amount usd, p_fee usd, p_currency text,
  p_live boolean, p_expires_seconds numeric, p_save_card boolean default false, p_open_max integer default null) returns top_up
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  t top_up;
begin
  if p_open_max is not null and not exists (select from top_up where id = p_id) then
    -- Not the account's row: requests wait for that one.
    perform pg_advisory_xact_lock(hashtextextended('holdfast.open_top_ups/' || p_account, 0));
    if (select count(*) from top_up where account_id = p_account and id <> p_id and state in ('created', 'waiting', 'processing'))
        >= p_open_max then
      perform refuse('HF034', 'too many open top-ups');
    end if;
  end if;
  insert into top_up (id, account_id, method, provider, amount, fee, currency, live, expires_at, save_card)
  values (p_id, p_account, p_method, p_provider, p_amount, p_fee, p_currency, p_live,
    now() + make_interval(secs => p_expires_seconds::double precision), p_save_card)
  on conflict (id) do nothing;
  select * into t from top_up where id = p_id;
  if (t.account_id, t.method, t.amount) is distinct from (p_account, p_method, p_amount::numeric) then
    perform refuse('HF009', 'top-up id reused');
  end if;
  return t;
end
$$;

-- Writes down the provider's object of an order. The first one counts; the row says which that is.
create function begin_checkout(p_id uuid, p_provider_id text, p_url text, p_expires_at timestamptz) returns top_up
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  t top_up;
begin
  update top_up set provider_id = p_provider_id, checkout_url = p_url, expires_at = coalesce(p_expires_at, expires_at),
    state = case when state = 'created' then 'waiting' else state end
  where id = p_id and provider_id is null;
  select * into t from top_up where id = p_id;
  return t;
end
$$;

-- Whoever credits a payment holds it until the end of the transaction: it may be credited on two orders at once, which do not wait for
-- each other's row. After the order, before what was asked for by hand.
create function lock_payment(p_provider text, p_payment_id text) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  select pg_advisory_xact_lock(hashtextextended('holdfast.payment/' || case when p_payment_id like 'outside/%' then '' else p_provider end
    || '/' || p_payment_id, 0))
$$;

-- Credits a payment, once per (provider, payment id), in one transaction with the order's state. Returns the payment, now or
-- before; HF051 when it was credited for another order. A frozen account is credited as well: the money is the customer's.
create function credit_payment(p_top_up uuid, p_payment_id text, p_received usd, p_credit usd, p_final boolean, p_by text) returns payment
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  t top_up;
  p payment;
begin
  select * into t from top_up where id = p_top_up for no key update;
  if not found then perform refuse('HF001', 'top-up unknown'); end if;
  perform lock_payment(t.provider, p_payment_id);
  select * into p from payment where provider = t.provider and payment_id = p_payment_id;
  if found then
    if p.top_up_id <> p_top_up then perform refuse('HF051', 'payment was credited for another top-up'); end if;
    return p;
  end if;
  p.id := uuidv7();
  p.posting_id := post_transfer('top_up', p.id, system_account('cash:' || t.provider), t.account_id, p_credit,
    jsonb_build_object('top_up', t.id, 'provider', t.provider, 'payment_id', p_payment_id, 'received', p_received::text,
      'fee', t.fee::text, 'credited_by', p_by), true);
  insert into payment (id, provider, payment_id, top_up_id, account_id, received, credited, posting_id, credited_by, final_at)
  values (p.id, t.provider, p_payment_id, t.id, t.account_id, p_received, p_credit, p.posting_id, p_by,
    case when p_final then now() end) returning * into p;
  update top_up set state = 'credited', credited = credited + p_credit, stuck = null,
    received = greatest(received, (select sum(x.received) from payment x where x.top_up_id = p_top_up))
  where id = p_top_up;
  -- Who asked to credit it by hand need not decide any more.
  update hand_credit set state = 'superseded', decided_by = p_by, decided_at = now()
  where provider = t.provider and payment_id = p_payment_id and state = 'waiting';
  return p;
end
$$;

-- The payment itself cannot vanish any more.
create function finalize_payment(p_payment uuid) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  update payment set final_at = now() where id = p_payment and final_at is null
$$;

-- Moves an order to a state without money, from the state in which it was judged; a credited one stays as it is. Returns the row.
create function move_top_up(p_id uuid, p_from text, p_to text, p_stuck text, p_received usd) returns top_up
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  t top_up;
begin
  update top_up set state = p_to, stuck = p_stuck, received = greatest(received, p_received)
  where id = p_id and state = p_from and state <> 'credited'
    and (p_to, p_stuck, greatest(received, p_received)) is distinct from (state, stuck, received);
  update top_up set received = p_received where id = p_id and received < p_received;
  select * into t from top_up where id = p_id;
  return t;
end
$$;

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

-- Records one step of a reversal and moves its money, once per (provider, object, direction). `p_expected` is what was reversed
-- when the step was planned: false when that is no longer so, and the caller plans anew. The balance may fall below zero. A dispute, and a
-- refund after which nothing is left, freeze automatic top-ups with it: whoever took money back is not charged again unasked.
create function reverse_payment(p_payment uuid, p_object text, p_kind text, p_direction text, p_amount usd, p_expected usd)
returns boolean language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  p payment;
  made uuid := uuidv7();
  posted uuid;
  cash uuid;
begin
  perform lock_auto_top_up((select account_id from payment where id = p_payment));
  select * into p from payment where id = p_payment for no key update;
  if not found then perform refuse('HF001', 'payment unknown'); end if;
  if exists (select from payment_reversal where provider = p.provider and object_id = p_object and direction = p_direction) then
    return true;
  end if;
  if p.reversed <> p_expected then return false; end if;
  if p_amount > 0 then
    cash := system_account('cash:' || p.provider);
    posted := post_transfer(case p_direction when 'out' then 'top_up_reversal' else 'top_up_reversal_undone' end, made,
      case p_direction when 'out' then p.account_id else cash end, case p_direction when 'out' then cash else p.account_id end,
      p_amount, jsonb_build_object('top_up', p.top_up_id, 'provider', p.provider, 'payment_id', p.payment_id, 'object_id', p_object,
        'kind', p_kind), true);
  end if;
  insert into payment_reversal (id, provider, object_id, direction, kind, payment, amount, posting_id)
  values (made, p.provider, p_object, p_direction, p_kind, p_payment, p_amount, posted);
  update payment set reversed = reversed + case p_direction when 'out' then p_amount else -p_amount end where id = p_payment;
  if p_direction = 'in' then perform free_auto_top_up(p.account_id, p.provider || ' ' || p_object, 'provider');
  elsif p_kind = 'dispute' or p_kind = 'refund' and p.reversed + p_amount >= p.credited then
    -- This is reached once per object: money is gone only now, whatever a person has freed before.
    perform freeze_auto_top_up(p.account_id, p_kind, p.provider || ' ' || p_object, true);
  end if;
  return true;
end
$$;

-- Writes down which reversals of a payment can still change: these, and no others.
create function keep_open_reversals(p_payment uuid, p_objects text[]) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  delete from open_reversal where payment = p_payment and object_id <> all (p_objects);
  insert into open_reversal (payment, object_id) select p_payment, unnest(p_objects) on conflict do nothing
$$;

-- Reversals that can still change and whose order nobody has asked the provider for in so long that their run may be gone, the
-- longest first. No bank keeps a dispute open for half a year: an older one is left to the comparison with the provider's books.
create function find_quiet_reversals(p_age_seconds numeric, p_poll_seconds numeric, p_limit integer)
returns table (provider text, object_id text, top_up_id uuid)
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select p.provider, o.object_id, t.id
  from open_reversal o join payment p on p.id = o.payment join top_up t on t.id = p.top_up_id
  where o.seen_at > clock_timestamp() - interval '180 days'
    and t.looked_at < clock_timestamp() - make_interval(secs => (p_age_seconds + p_poll_seconds)::double precision)
  order by t.looked_at, o.object_id limit p_limit
$$;

-- Keeps an event as it came; says whether it is new.
create function store_event(p_provider text, p_event text, p_type text, p_payload jsonb) returns boolean
language sql security definer set search_path = holdfast, pg_temp as $$
  with stored as (
    insert into provider_event (provider, event_id, type, payload) values (p_provider, p_event, p_type, p_payload)
    on conflict do nothing returning true as new
  )
  select exists (select from stored)
$$;

-- Which of these events have come, and when the last of the provider's did (null: none ever).
create function arrived_events(p_provider text, p_events text[]) returns table (known text[], last_at timestamptz)
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select coalesce((select array_agg(event_id) from provider_event where provider = p_provider and event_id = any (p_events)), '{}'),
    (select received_at from provider_event where provider = p_provider order by received_at desc limit 1)
$$;

create function handle_event(p_provider text, p_event text, p_result text) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  update provider_event set handled_at = clock_timestamp(), result = p_result
  where provider = p_provider and event_id = p_event and handled_at is null
$$;

-- Those about payments, or those about rewards (Discord, vote directories): each has a sweep of its own. The one whose last try (or
-- arrival) is longest ago comes first, so that any number of events that nobody can handle do not keep the others waiting.
create function find_unhandled_events(p_age_seconds numeric, p_limit integer, p_rewards boolean default false) returns setof provider_event
language sql security definer set search_path = holdfast, pg_temp as $$
  with waiting as (
    select provider, event_id from provider_event
    where handled_at is null and received_at < clock_timestamp() - make_interval(secs => p_age_seconds::double precision)
      and (provider = 'discord' or provider like 'votes/%') = p_rewards
    order by coalesce(tried_at, received_at) limit p_limit
    for update
  ), tried as (
    update provider_event set tried_at = clock_timestamp() from waiting
    where (provider_event.provider, provider_event.event_id) = (waiting.provider, waiting.event_id) returning provider_event.*
  )
  select * from tried order by received_at
$$;

-- Closes an event that is about nothing of ours, once, and counts it by its reason.
create function close_foreign_event(p_provider text, p_event text, p_reason text) returns void
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  update provider_event set handled_at = clock_timestamp(), result = 'foreign: ' || p_reason
  where provider = p_provider and event_id = p_event and handled_at is null;
  if found then perform count_webhooks(p_provider, 'foreign', p_reason, 1, p_event); end if;
end
$$;

create function event_of(p_provider text, p_event text) returns setof provider_event
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select * from provider_event where provider = p_provider and event_id = p_event
$$;

-- Open orders whose run has not asked the provider for so long that it may be gone, the longest first: a new one is asked for
-- at once, one that waits for its customer only every `p_poll_seconds`. A credited one of which the provider would not tell all is
-- asked for once an hour, so that it is well again soon after the cause is mended.
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

create function note_top_up_look(p_id uuid) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  update top_up set looked_at = clock_timestamp() where id = p_id
$$;

create function names_of_payment(p_payment_id text, p_others text[]) returns text[]
language sql immutable set search_path = holdfast, pg_temp as $$
  select array_agg(distinct lower(name) order by lower(name)) from unnest(array[p_payment_id] || coalesce(p_others, '{}')) name
$$;

-- Writes down the payments of an order as its provider has just shown them: all of them. `received` is in `currency`.
create function note_payments(p_id uuid, p_payments jsonb) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  -- The order first, as a credit by hand locks it.
  select from top_up where id = p_id for no key update;
  insert into known_payment as k (provider, payment_id, top_up_id, status, received, currency, live, names)
  select t.provider, x.payment_id, t.id, x.status, x.received, x.currency, x.live, names_of_payment(x.payment_id, x.other_ids)
  from top_up t cross join jsonb_to_recordset(p_payments) as x(payment_id text, status text, received numeric, currency text, live boolean,
    other_ids text[])
  where t.id = p_id
  order by x.payment_id
  on conflict (provider, payment_id) do update set top_up_id = excluded.top_up_id, status = excluded.status, received = excluded.received,
    currency = excluded.currency, live = excluded.live, names = names_of_payment(k.payment_id, k.names || excluded.names),
    seen_at = clock_timestamp()
  where (k.top_up_id, k.status, k.received, k.currency, k.live) is distinct from
    (excluded.top_up_id, excluded.status, excluded.received, excluded.currency, excluded.live) or not k.names @> excluded.names;
  update known_payment k set status = 'gone', seen_at = clock_timestamp()
  where k.top_up_id = p_id and k.status not in ('listed', 'gone')
    and not exists (select from jsonb_to_recordset(p_payments) as x(payment_id text) where x.payment_id = k.payment_id);
  update top_up t set received_other = o.sums
  from (
    select coalesce(jsonb_object_agg(currency, received::text), '{}') as sums
    from (
      select k.currency, sum(k.received) as received from known_payment k join top_up t on t.id = k.top_up_id
      where k.top_up_id = p_id and k.status = 'paid' and k.currency <> t.currency group by k.currency
    ) other
  ) o
  where t.id = p_id and t.received_other <> o.sums
$$;

-- Writes down a payment that a provider's books list and that no order's own look has shown. What an order has shown stays as it is.
create function note_listed_payment(p_provider text, p_payment_id text, p_top_up uuid, p_received numeric, p_currency text)
returns void language sql security definer set search_path = holdfast, pg_temp as $$
  insert into known_payment (provider, payment_id, top_up_id, status, received, currency, names)
  values (p_provider, p_payment_id, (select id from top_up where id = p_top_up and provider = p_provider), 'listed', p_received, p_currency,
    names_of_payment(p_payment_id, null))
  on conflict do nothing
$$;

-- The payments that are known by any of these ids (in lower case), or that a stored event of any of these ids is about.
create function find_known_payments(p_names text[]) returns setof known_payment
language sql stable security definer set search_path = holdfast, pg_temp as $$
  with told as (
    select lower(value #>> '{}') as name
    from provider_event e cross join jsonb_path_query(e.payload, '$.** ? (@.type() == "string")') value
    where lower(e.event_id) = any (p_names) and e.provider in ('stripe', 'creem')
  )
  select * from known_payment k where k.names && (p_names || array(select name from told))
$$;
create index provider_event_named on provider_event (lower(event_id)) where provider in ('stripe', 'creem');

create function known_payments_of(p_top_up uuid) returns setof known_payment
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select * from known_payment where top_up_id = p_top_up order by payment_id
$$;

-- Why a provider tells less of an order than it must, as a code; null once it tells all. Of credited orders as well: what goes back of
-- their payments is not seen meanwhile.
create function note_top_up_stuck(p_id uuid, p_stuck text) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  update top_up set stuck = p_stuck where id = p_id and stuck is distinct from p_stuck
$$;

create function top_up_of(p_id uuid) returns setof top_up
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select * from top_up where id = p_id
$$;

create function top_up_of_payment(p_provider text, p_payment_id text) returns uuid
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select top_up_id from payment where provider = p_provider and payment_id = p_payment_id
$$;

-- The credited payments of an order with the steps that were recorded for each.
create function payments_of(p_top_up uuid) returns table (id uuid, payment_id text, received usd, credited usd, reversed usd,
  final_at timestamptz, warned_at timestamptz, steps text[])
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select p.id, p.payment_id, p.received, p.credited, p.reversed, p.final_at, p.warned_at,
    coalesce(array_agg(r.object_id || '/' || r.direction) filter (where r.id is not null), '{}')
  from payment p left join payment_reversal r on r.payment = p.id
  where p.top_up_id = p_top_up
  group by p.id order by p.id
$$;

reset role;
reset search_path;
