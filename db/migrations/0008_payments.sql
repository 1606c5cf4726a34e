-- Money that comes in: top-up orders, the payments that credit them, what is taken back, the providers' events as they
-- came, and what of all this was compared with the providers' statements. The functions in here are expressions of
-- indexes, so they are frozen with their table.
set role holdfast_owner;
set search_path = holdfast;

create domain top_up_state as text constraint top_up_state_known check (value
  in ('created', 'waiting', 'processing', 'credited', 'expired', 'failed', 'quarantined', 'abandoned'));

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
  -- what is seen to be paid in other currencies, by code; there is no rate, so it is no sum of USD
  received_other jsonb not null default '{}',
  credited usd_not_negative not null default 0,
  stuck text,                        -- why a person has to look, as a code
  expires_at timestamptz not null,
  created_at timestamptz not null default now(),
  looked_at timestamptz not null default clock_timestamp(),  -- when its run last asked the provider
  save_card boolean not null default false,  -- the customer wants the card kept for automatic top-ups
  customer_id text,                  -- the provider's customer: whose card is kept or charged
  payment_method text,               -- the saved card that is charged, on an automatic top-up
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
create index payment_credited on payment (provider, credited_at);
create unique index payment_outside_once on payment (payment_id) where payment_id like 'outside/%';

-- A payment as its provider last showed it, credited or not: what a person may credit manually, by the key that an
-- automatic credit of it has. People know a payment by other ids as well (its charge, its checkout, its transaction),
-- and those lead here.
create table known_payment (
  provider text not null,
  payment_id text not null,
  top_up_id uuid references top_up,  -- null: the provider's statement lists it, and it names no order of ours
  -- 'listed': only the statement shows it, its order's own look has not; 'gone': its order's last look did not show it
  -- any more.
  status text not null,
  received numeric(38,12) not null,  -- in `currency`
  currency text not null,
  live boolean,                      -- null: the statement does not say
  names text[] not null,             -- all its ids, in lower case; none is forgotten
  seen_at timestamptz not null default clock_timestamp(),
  primary key (provider, payment_id),
  constraint known_payment_status_known check (status in ('paid', 'processing', 'failed', 'no_payment', 'listed',
    'gone'))
);
create index known_payment_top_up on known_payment (top_up_id);
create index known_payment_names on known_payment using gin (names);

-- One movement of a reversal: at most one per provider object and direction. A step of 0 says that there was nothing
-- left to move.
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

-- A refund or dispute of a credited payment that can still change, as its provider last said. Its run sees to it to the
-- end; this is how a run that was lost is missed.
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
create index provider_event_named on provider_event (lower(event_id)) where provider in ('stripe', 'creem');

-- What an event is about; Creem writes `object`, its Standard Webhooks form `data`.
create function creem_subject(p_payload jsonb) returns jsonb
language sql immutable parallel safe as $$
  select coalesce(p_payload -> 'object', p_payload -> 'data')
$$;

-- The request id (our order) of the checkout that an event names, itself or through a refund or dispute.
create function creem_request_id(p_payload jsonb) returns text
language sql immutable parallel safe set search_path = holdfast, pg_temp as $$
  select coalesce(creem_subject(p_payload) ->> 'request_id', creem_subject(p_payload) #>> '{checkout,request_id}')
$$;

create function creem_reversed_transaction(p_payload jsonb) returns text
language sql immutable parallel safe set search_path = holdfast, pg_temp as $$
  select creem_subject(p_payload) #>> '{transaction,id}'
$$;
create index creem_event_request on provider_event (creem_request_id(payload)) where provider = 'creem';
create index creem_event_transaction on provider_event (creem_reversed_transaction(payload)) where provider = 'creem';

-- What came in by webhooks and led to nothing, by cause: `refused` before it was stored, `foreign` afterwards. A row
-- per cause, so whatever strangers send it stays small; no body and no secret is in it.
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
  constraint webhook_count_is_short check (char_length(provider) <= 60 and char_length(reason) <= 60
    and char_length(last_detail) <= 300)
);

-- Which payments a run has dealt with, and on which page of it: an entry of the statement that agreed with the ledger,
-- or a payment of an order whose provider was asked. What is left of the ledger once the statement is through is what
-- the provider does not list. A page that is repeated finds its own marks and does not go by them. Rows stay while
-- their payment is in the period.
create table compared_payment (
  provider text not null,
  payment_id text not null,
  run timestamptz not null,          -- when it began
  page integer not null,
  asked boolean not null,            -- by asking the provider about its order, not only by its entry
  primary key (provider, payment_id)
);

-- When each part of reconciliation last came to its end: `ledger` for the ledger's own rules, else a provider.
create table reconciled (
  part text primary key,
  as_of timestamptz not null         -- when the run began: what came later, it need not have seen
);

-- Who reads reports and who manages may see every row; a role may write what is named here, and nothing else.
grant select on top_up, payment, known_payment, payment_reversal, open_reversal, provider_event, webhook_count,
  compared_payment, reconciled to
  holdfast_management, holdfast_reporter, holdfast_auditor;
grant select on webhook_count to holdfast_worker;

reset role;
reset search_path;
