-- Kept cards and what is charged to them by itself; credit by hand; payments that their card's bank takes for fraud.
--
-- Lock order: auto_top_up, top-up, payment, hand_credit, then accounts (post_transfer). The request path reads none of these.
set role holdfast_owner;
set search_path = holdfast;

-- An account's customer object at a provider. A deleted one is never used again; `n` tells its successor's creation from its own.
create table payment_customer (
  account_id uuid not null references account,
  provider text not null,
  n integer not null,
  customer_id text not null,
  created_at timestamptz not null default now(),
  deleted_at timestamptz,
  primary key (account_id, provider, n),
  constraint provider_customer_once unique (provider, customer_id)
);
create unique index payment_customer_current on payment_customer (account_id, provider) where deleted_at is null;

-- A card that its customer let us keep: what is needed to name it and to charge it, never its number.
create table saved_card (
  id uuid primary key default uuidv7(),
  account_id uuid not null references account,
  provider text not null,
  customer_id text not null,
  payment_method text not null,
  brand text not null,
  last4 text not null,
  exp_month integer not null,
  exp_year integer not null,
  fingerprint text,
  saved_at timestamptz not null default now(),
  removed_at timestamptz,
  removed_reason text,
  constraint saved_card_once unique (provider, payment_method),
  constraint last4_is_no_card_number check (last4 ~ '^\d{4}$'),
  constraint removed_has_reason check ((removed_at is null) = (removed_reason is null))
);
create unique index saved_card_current on saved_card (account_id) where removed_at is null;

-- A customer's order to top up by itself. `frozen_at` is ours and outlives every change of the customer's.
create table auto_top_up (
  account_id uuid primary key references account,
  state text not null,
  pause_reason text,
  threshold usd_not_negative,
  amount usd_not_negative,
  monthly_cap usd_not_negative,
  strikes integer not null default 0,  -- declined attempts in a row
  next_attempt_at timestamptz,         -- no attempt is worth a look before
  cap_noticed_at timestamptz,
  frozen_at timestamptz,
  frozen_reason text,
  changed_at timestamptz not null default now(),
  constraint auto_state_known check (state in ('active', 'paused', 'off')),
  constraint paused_has_reason check ((state = 'paused') = (pause_reason is not null)),
  constraint order_is_complete check (num_nulls(threshold, amount, monthly_cap) = 0 or (state = 'off' and num_nulls(threshold, amount, monthly_cap) = 3)),
  constraint one_charge_within_cap check (amount > 0 and amount <= monthly_cap),
  constraint strikes_not_negative check (strikes >= 0),
  constraint auto_frozen_has_reason check ((frozen_at is null) = (frozen_reason is null))
);

-- Why automatic top-ups of an account are frozen: each dispute, full refund and fraud warning freezes them once, until it is won or a
-- person frees them. As long as one of these is not freed, `auto_top_up.frozen_at` is set.
create table auto_top_up_freeze (
  account_id uuid not null references account,
  cause text not null,               -- the provider and its object
  kind text not null,
  frozen_at timestamptz not null default now(),
  freed_at timestamptz,
  freed_by text,                     -- a person, or the provider where it took its cause back
  primary key (account_id, cause),
  constraint freeze_cause_known check (kind in ('dispute', 'refund', 'fraud_warning')),
  constraint freed_by_somebody check ((freed_at is null) = (freed_by is null))
);

-- What the customer agreed to, word for word by its version, and when. Evidence in a dispute.
create table auto_top_up_consent (
  id uuid primary key default uuidv7(),
  account_id uuid not null references account,
  text_version text not null,
  threshold usd_not_negative not null,
  amount usd_not_negative not null,
  monthly_cap usd_not_negative not null,
  given_by text not null,
  given_at timestamptz not null default now()
);
create index auto_top_up_consent_account on auto_top_up_consent (account_id, id desc);
create trigger append_only before update or delete on auto_top_up_consent for each row execute function deny_change();
create trigger append_only_truncate before truncate on auto_top_up_consent for each statement execute function deny_change();

-- One attempt to charge a kept card. A slot is used up by its attempt, whatever becomes of it: giving it back after a
-- decline is how a card is charged hundreds of times in an afternoon.
create table auto_top_up_attempt (
  account_id uuid not null references auto_top_up,
  slot timestamptz not null,
  top_up_id uuid not null references top_up,
  amount usd_not_negative not null,
  monthly_cap usd_not_negative not null,  -- what was allowed when it began
  state text not null default 'open',
  failure text,
  started_at timestamptz not null default clock_timestamp(),
  ended_at timestamptz,
  primary key (account_id, slot),
  constraint attempt_once_per_order unique (top_up_id),
  constraint attempt_state_known check (state in ('open', 'succeeded', 'failed', 'abandoned')),
  constraint attempt_ended_iff_not_open check ((state = 'open') = (ended_at is null)),
  constraint failed_has_failure check ((state = 'failed') = (failure is not null))
);
create unique index auto_top_up_attempt_open on auto_top_up_attempt (account_id) where state = 'open';

-- A credit that was asked for by hand, keyed as the automatic one: by the payment's own id, never by another id of it. It waits for a
-- second person above a limit, above what its payment or its order is known to have received, and where the provider does not show the
-- payment as paid in the order's currency and mode. What was asked for in Temporal was asked for by nobody: it waits for two.
create table hand_credit (
  id uuid primary key default uuidv7(),
  action text not null,               -- the call that asked for it: a repeat asks for nothing new
  top_up_id uuid not null references top_up,
  account_id uuid not null references account,
  provider text not null,
  payment_id text not null,
  amount usd_not_negative not null,
  reason text not null,
  state text not null default 'waiting',
  is_known boolean not null,          -- the order's provider showed the payment as paid, in its currency and mode, when this was asked for
  shown numeric(38,12),               -- what the provider showed of the payment then, in `shown_currency`; null: it came outside of the provider
  shown_currency text,
  requested_by text,                  -- null: it was asked for in Temporal, where nobody is authenticated
  requested_at timestamptz not null default now(),
  decided_by text,
  decided_at timestamptz,
  payment uuid references payment,
  constraint hand_credit_action_once unique (action),
  constraint hand_credit_above_zero check (amount > 0),
  constraint hand_credit_state_known check (state in ('waiting', 'posted', 'rejected', 'superseded')),
  constraint hand_credit_posted_iff_payment check ((state = 'posted') = (payment is not null)),
  constraint hand_credit_decided_iff_not_waiting check ((state = 'waiting') = (decided_at is null)),
  constraint hand_credit_unknown_is_decided check (state <> 'posted' or (is_known and requested_by is not null) or decided_by is not null),
  constraint hand_credit_second_person check (state <> 'posted' or decided_by is null or decided_by <> requested_by),
  constraint hand_credit_reason_length check (char_length(reason) between 3 and 2000),
  constraint hand_credit_payment_id_length check (char_length(payment_id) between 1 and 200),
  constraint hand_credit_shown_unless_outside check (
    num_nulls(shown, shown_currency) = case when payment_id like 'outside/%' then 2 else 0 end)
);
create unique index hand_credit_open on hand_credit (provider, payment_id) where state in ('waiting', 'posted');
-- What came outside of a provider is one sum, whichever provider its order has.
create unique index hand_credit_outside_once on hand_credit (payment_id) where state in ('waiting', 'posted') and payment_id like 'outside/%';
create unique index payment_outside_once on payment (payment_id) where payment_id like 'outside/%';
create index hand_credit_top_up on hand_credit (top_up_id);

-- The customer object that is in use, else the number for a new one.
create function payment_customer_of(p_account uuid, p_provider text) returns table (customer_id text, next_n integer)
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select max(c.customer_id) filter (where c.deleted_at is null), coalesce(max(c.n), 0) + 1
  from payment_customer c where c.account_id = p_account and c.provider = p_provider
$$;

-- Keeps a customer object; the first one counts. Returns the one in use.
create function keep_payment_customer(p_account uuid, p_provider text, p_n integer, p_customer text) returns text
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  insert into payment_customer (account_id, provider, n, customer_id) values (p_account, p_provider, p_n, p_customer)
  on conflict do nothing;
  return (select customer_id from payment_customer where account_id = p_account and provider = p_provider and deleted_at is null);
end
$$;

create function note_top_up_customer(p_top_up uuid, p_customer text) returns top_up
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  t top_up;
begin
  update top_up set customer_id = p_customer where id = p_top_up and customer_id is null;
  select * into t from top_up where id = p_top_up;
  return t;
end
$$;

-- Keeps a card, once; it replaces the account's former one. One that was removed does not come back.
create function save_card(p_account uuid, p_provider text, p_customer text, p_method text, p_brand text, p_last4 text,
  p_exp_month integer, p_exp_year integer, p_fingerprint text) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  perform pg_advisory_xact_lock(hashtextextended(p_account::text, 9));
  if exists (select from saved_card where provider = p_provider and payment_method = p_method) then return false; end if;
  update saved_card set removed_at = now(), removed_reason = 'replaced' where account_id = p_account and removed_at is null;
  insert into saved_card (account_id, provider, customer_id, payment_method, brand, last4, exp_month, exp_year, fingerprint)
  values (p_account, p_provider, p_customer, p_method, p_brand, p_last4, p_exp_month, p_exp_year, p_fingerprint);
  return true;
end
$$;

-- Pauses an active order and tells its customer, once.
create function pause_auto_top_up(p_account uuid, p_reason text, p_details jsonb) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  update auto_top_up set state = 'paused', pause_reason = p_reason, next_attempt_at = null, changed_at = now()
  where account_id = p_account and state = 'active';
  if not found then return false; end if;
  insert into notice (account_id, kind, details)
  values (p_account, 'auto_top_up_paused', jsonb_build_object('reason', p_reason) || p_details);
  return true;
end
$$;

-- A kept card, or all cards of a customer object, are gone at the provider. Says how many of ours that were.
create function remove_cards(p_provider text, p_method text, p_customer text, p_reason text) returns integer
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  gone uuid[];
begin
  update payment_customer set deleted_at = now() where provider = p_provider and customer_id = p_customer and deleted_at is null;
  with removed as (
    update saved_card set removed_at = now(), removed_reason = p_reason
    where provider = p_provider and (payment_method = p_method or customer_id = p_customer) and removed_at is null
    returning account_id
  )
  select coalesce(array_agg(account_id), '{}') into gone from removed;
  perform pause_auto_top_up(x, 'card_removed', '{}') from unnest(gone) x;
  return cardinality(gone);
end
$$;

-- Everything that is decided on and shown, as of `p_at`; a row for every customer, also one that never asked for it.
create function auto_top_up_of(p_account uuid, p_at timestamptz) returns table (state text, pause_reason text, threshold usd, amount usd,
  monthly_cap usd, strikes integer, next_attempt_at timestamptz, frozen_reason text, account_frozen boolean, balance usd,
  provider text, customer_id text, payment_method text, brand text, last4 text, exp_month integer, exp_year integer,
  freezes jsonb, consent_version text, consented_at timestamptz, spent_this_month usd, open_top_up uuid,
  last_top_up uuid, last_slot timestamptz, last_state text, last_failure text, last_started_at timestamptz)
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select coalesce(u.state, 'off'), u.pause_reason, u.threshold, u.amount, u.monthly_cap, coalesce(u.strikes, 0), u.next_attempt_at,
    u.frozen_reason, a.frozen_at is not null, a.balance,
    k.provider, k.customer_id, k.payment_method, k.brand, k.last4, k.exp_month, k.exp_year,
    (select coalesce(jsonb_agg(jsonb_build_object('kind', f.kind, 'at', f.frozen_at) order by f.frozen_at), '[]')
      from auto_top_up_freeze f where f.account_id = a.id and f.freed_at is null),
    c.text_version, c.given_at,
    (select coalesce(sum(p.credited), 0) from payment p join top_up t on t.id = p.top_up_id
      where t.account_id = a.id and t.method = 'auto' and p.credited_at >= date_trunc('month', p_at, 'UTC'))
      + case when last.state = 'open' then last.amount else 0 end,
    case when last.state = 'open' then last.top_up_id end,
    last.top_up_id, last.slot, last.state, last.failure, last.started_at
  from account a
  left join auto_top_up u on u.account_id = a.id
  left join saved_card k on k.account_id = a.id and k.removed_at is null
  left join lateral (select * from auto_top_up_consent x where x.account_id = a.id order by x.id desc limit 1) c on true
  left join lateral (select * from auto_top_up_attempt x where x.account_id = a.id order by x.slot desc limit 1) last on true
  where a.id = p_account and a.kind = 'customer'
$$;

-- Whoever decides about an account holds its order until the end of the transaction.
create function lock_auto_top_up(p_account uuid) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  select from auto_top_up where account_id = p_account for update
$$;

-- The customer orders it, with consent. Refuses HF030 without a kept card and HF031 while we have frozen it. Declines before this
-- do not count any more.
create function set_auto_top_up(p_account uuid, p_threshold usd, p_amount usd, p_cap usd, p_consent_version text, p_by text) returns void
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  if not exists (select from saved_card where account_id = p_account and removed_at is null) then
    perform refuse('HF030', 'no card is kept');
  end if;
  insert into auto_top_up (account_id, state, threshold, amount, monthly_cap)
  values (p_account, 'active', p_threshold, p_amount, p_cap)
  on conflict (account_id) do update set state = 'active', pause_reason = null, threshold = p_threshold, amount = p_amount,
    monthly_cap = p_cap, strikes = 0, next_attempt_at = null, cap_noticed_at = null, changed_at = now()
  where auto_top_up.frozen_at is null;
  if not found then perform refuse('HF031', 'automatic top-up is frozen'); end if;
  insert into auto_top_up_consent (account_id, text_version, threshold, amount, monthly_cap, given_by)
  values (p_account, p_consent_version, p_threshold, p_amount, p_cap, p_by);
end
$$;

create function end_auto_top_up(p_account uuid) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  update auto_top_up set state = 'off', pause_reason = null, next_attempt_at = null, changed_at = now()
  where account_id = p_account and state <> 'off'
$$;

-- Freezes automatic top-ups for a cause, once: what a person has freed stays free, however often its cause is seen again. It freezes
-- anew where the cause has become more than it was: p_again when it has taken money only now (an inquiry that becomes a dispute), and
-- where the provider, which had let go of it, comes back to it. Tells the customer, whose card would else be charged.
create function freeze_auto_top_up(p_account uuid, p_kind text, p_cause text, p_again boolean default false) returns void
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  insert into auto_top_up_freeze as f (account_id, cause, kind) values (p_account, p_cause, p_kind)
  on conflict (account_id, cause) do update set frozen_at = now(), freed_at = null, freed_by = null
  where f.freed_at is not null and (p_again or f.freed_by = 'provider');
  if not found then return; end if;
  insert into auto_top_up (account_id, state, frozen_at, frozen_reason) values (p_account, 'off', now(), p_kind || ' ' || p_cause)
  on conflict (account_id) do update set frozen_at = excluded.frozen_at, frozen_reason = excluded.frozen_reason
  where auto_top_up.frozen_at is null;
  insert into notice (account_id, kind, details)
  select p_account, 'auto_top_up_frozen', jsonb_build_object('reason', p_kind)
  from auto_top_up where account_id = p_account and state <> 'off';
end
$$;

-- Frees automatic top-ups of one cause, or of all; they are free once no cause is left. Says whether they were frozen and are not now.
create function free_auto_top_up(p_account uuid, p_cause text, p_by text) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  update auto_top_up_freeze set freed_at = now(), freed_by = p_by
  where account_id = p_account and freed_at is null and (p_cause is null or cause = p_cause);
  if exists (select from auto_top_up_freeze where account_id = p_account and freed_at is null) then return false; end if;
  update auto_top_up set frozen_at = null, frozen_reason = null, changed_at = now() where account_id = p_account and frozen_at is not null;
  return found;
end
$$;

-- A person has looked into what froze it. Says whether it was frozen.
create function unfreeze_auto_top_up(p_account uuid, p_by text) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  perform require_person(p_by);
  return free_auto_top_up(p_account, null, p_by);
end
$$;

-- Disputes of a payment to an account that are open, also those that have taken no money yet or of a payment that was never credited,
-- freeze automatic top-ups; those that are over in our favour free them again.
create function note_disputes(p_account uuid, p_provider text, p_open text[], p_won text[]) returns void
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  perform lock_auto_top_up(p_account);
  perform freeze_auto_top_up(p_account, 'dispute', p_provider || ' ' || x) from unnest(p_open) x;
  perform free_auto_top_up(p_account, p_provider || ' ' || x, 'provider') from unnest(p_won) x
  where exists (select from auto_top_up_freeze f
    where f.account_id = p_account and f.cause = p_provider || ' ' || x and f.freed_at is null);
end
$$;

-- Begins an attempt: uses its slot up and writes the order that its charge pays. For who holds the lock and has decided.
create function begin_auto_top_up_attempt(p_account uuid, p_slot timestamptz, p_top_up uuid, p_fee usd, p_currency text, p_live boolean)
returns void language sql security definer set search_path = holdfast, pg_temp as $$
  insert into top_up (id, account_id, method, provider, amount, fee, currency, live, expires_at, customer_id, payment_method)
  select p_top_up, p_account, 'auto', k.provider, u.amount, p_fee, p_currency, p_live, now() + interval '1 day', k.customer_id,
    k.payment_method
  from auto_top_up u join saved_card k on k.account_id = u.account_id and k.removed_at is null where u.account_id = p_account;
  insert into auto_top_up_attempt (account_id, slot, top_up_id, amount, monthly_cap)
  select p_account, p_slot, p_top_up, amount, monthly_cap from auto_top_up where account_id = p_account
$$;

-- Whether an order of an open attempt may still be charged: consent can be withdrawn, and money can come otherwise, while the
-- provider is away.
create function auto_top_up_is_wanted(p_top_up uuid) returns boolean
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select exists (
    select from auto_top_up_attempt x join auto_top_up u using (account_id) join account a on a.id = x.account_id
      join top_up t on t.id = x.top_up_id
      join saved_card k on k.account_id = x.account_id and k.removed_at is null and k.payment_method = t.payment_method
    where x.top_up_id = p_top_up and x.state = 'open' and u.state = 'active' and u.frozen_at is null and a.frozen_at is null
      and a.balance < u.threshold
  )
$$;

-- The account of an attempt that is not over; null when it is.
create function open_attempt_account(p_top_up uuid) returns uuid
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select account_id from auto_top_up_attempt where top_up_id = p_top_up and state = 'open'
$$;

-- Ends an attempt, once, with what follows for the order; tells the customer of a decline. For who holds the lock and has decided.
create function finish_auto_top_up_attempt(p_top_up uuid, p_state text, p_failure text, p_strikes integer, p_pause text) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  x auto_top_up_attempt;
  told jsonb;
begin
  update auto_top_up_attempt set state = p_state, failure = p_failure, ended_at = clock_timestamp()
  where top_up_id = p_top_up and state = 'open' returning * into x;
  if not found then return false; end if;
  update auto_top_up set strikes = p_strikes, changed_at = now() where account_id = x.account_id;
  told := jsonb_build_object('top_up_id', 'top_' || replace(p_top_up::text, '-', ''), 'failure', p_failure,
    'amount_usd', x.amount::numeric(38,12)::text);
  if p_pause is not null and pause_auto_top_up(x.account_id, p_pause, told) then return true; end if;
  if p_state = 'failed' then insert into notice (account_id, kind, details) values (x.account_id, 'auto_top_up_failed', told); end if;
  return true;
end
$$;

-- Nothing will be tried before `p_until`. A cap that is reached is told once a month.
create function note_auto_top_up_wait(p_account uuid, p_until timestamptz, p_capped boolean, p_at timestamptz) returns void
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  u auto_top_up;
begin
  update auto_top_up set next_attempt_at = p_until where account_id = p_account;
  if not p_capped then return; end if;
  update auto_top_up set cap_noticed_at = p_at
  where account_id = p_account and (cap_noticed_at is null or cap_noticed_at < date_trunc('month', p_at, 'UTC')) returning * into u;
  if not found then return; end if;
  insert into notice (account_id, kind, details) values (p_account, 'auto_top_up_cap_reached',
    jsonb_build_object('monthly_cap_usd', u.monthly_cap::numeric(38,12)::text, 'next_attempt_at', p_until));
end
$$;

-- Which accounts of these requests are below their threshold and not known to wait: a level, as accounts_to_notify. An attempt
-- that is under way is left alone for a minute; after that its run may be lost.
create function accounts_to_top_up(p_requests uuid[]) returns uuid[]
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select coalesce(array_agg(u.account_id), '{}') from auto_top_up u join account a on a.id = u.account_id
  where u.account_id in (select r.account_id from unnest(p_requests) as wanted (id) join request r using (id))
    and u.state = 'active' and u.frozen_at is null and a.balance < u.threshold
    and (u.next_attempt_at is null or u.next_attempt_at <= clock_timestamp())
    and not exists (select from auto_top_up_attempt x
      where x.account_id = u.account_id and x.state = 'open' and x.started_at > clock_timestamp() - interval '1 minute')
$$;

-- Accounts that must have a run: one with an attempt that is not over, or one that may charge and has not for so long that what
-- should have started it was lost. A settlement finds only accounts that still spend; an empty one is found here.
create function find_quiet_auto_top_ups(p_age_seconds numeric, p_limit integer) returns uuid[]
language sql stable security definer set search_path = holdfast, pg_temp as $$
  with age as (select clock_timestamp() - make_interval(secs => p_age_seconds::double precision) as before)
  select coalesce(array_agg(account_id), '{}') from (
    select x.account_id from auto_top_up_attempt x, age where x.state = 'open' and x.started_at < age.before
    union
    select u.account_id from auto_top_up u join account a on a.id = u.account_id, age
    where u.state = 'active' and u.frozen_at is null and a.frozen_at is null and a.balance < u.threshold
      and greatest(u.next_attempt_at, u.changed_at) < age.before
    limit p_limit
  ) quiet
$$;

-- The card's bank takes a credited payment for fraud: a case with what a person needs, no automatic charges, and, where asked for
-- and something of the payment is left, no spending until a person has looked. Once per payment; says whether it was now.
create function warn_payment(p_payment uuid, p_evidence jsonb, p_freeze boolean) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  p payment;
  spent numeric;
  rest numeric;
begin
  update payment set warned_at = now() where id = p_payment and warned_at is null returning * into p;
  if not found then return false; end if;
  select least(p.credited, coalesce(sum(amount), 0)) into spent
  from posting where debit = p.account_id and kind = 'charge' and created_at >= p.credited_at;
  rest := greatest(p.credited - p.reversed - spent, 0);
  perform open_case('early_fraud_warning', p.payment_id, p_evidence || jsonb_build_object('payment', p.payment_id,
    'top_up', 'top_' || replace(p.top_up_id::text, '-', ''), 'account', 'acct_' || replace(p.account_id::text, '-', ''),
    'credited_usd', p.credited::numeric(38,12)::text, 'reversed_usd', p.reversed::numeric(38,12)::text,
    'spent_since_usd', spent::numeric(38,12)::text, 'left_usd', rest::numeric(38,12)::text));
  perform freeze_auto_top_up(p.account_id, 'fraud_warning', p.provider || ' ' || p.payment_id);
  if p_freeze and rest > 0 then perform freeze_account(p.account_id, 'fraud', 'early fraud warning on ' || p.payment_id); end if;
  return true;
end
$$;

-- The payment of an order that a person may credit, by its own key: one that the provider shows for this order, or that its books list
-- for none. Else HF050, and HF051 for one of another order: a credit under a wrong key would not keep the right one from being
-- credited as well. Nothing for money that came outside of the provider, `outside/<reference>`.
create function creditable_payment(t top_up, p_payment_id text) returns known_payment
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  k known_payment;
begin
  if p_payment_id like 'outside/%' then return null; end if;
  select * into k from known_payment where provider = t.provider and payment_id = p_payment_id for share;
  if not found or k.status = 'gone' then perform refuse('HF050', 'the provider does not show this payment'); end if;
  if k.top_up_id <> t.id then perform refuse('HF051', 'the payment is of another order'); end if;
  return k;
end
$$;

-- Credits what a person vouches for, through the same function and key as a payment that credits itself.
create function post_hand_credit(p_id uuid) returns hand_credit
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  h hand_credit;
  made payment;
begin
  select * into h from hand_credit where id = p_id;
  perform creditable_payment(t, h.payment_id) from top_up t where t.id = h.top_up_id;
  made := credit_payment(h.top_up_id, h.payment_id, h.amount, h.amount, true, coalesce(h.requested_by, h.decided_by));
  update hand_credit set state = 'posted', payment = made.id, decided_at = coalesce(h.decided_at, now()), decided_by = h.decided_by
  where id = p_id returning * into h;
  return h;
end
$$;

-- Asks for a credit by hand under an action's name (repeatable). It is posted at once within p_limits, as long as the provider shows
-- the payment as paid, in the order's currency and mode, and neither it nor the order is credited with more than was received; else it
-- waits. p_by null: nobody of the interface asks, and it always waits. Refuses HF032 for a payment that is credited, HF033 for one that
-- waits, and as creditable_payment.
create function request_hand_credit(p_action text, p_top_up uuid, p_payment_id text, p_amount usd, p_reason text, p_by text,
  p_limits jsonb) returns hand_credit language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  t top_up;
  k known_payment;
  h hand_credit;
begin
  if p_by is not null then perform require_person(p_by); end if;
  select * into t from top_up where id = p_top_up for no key update;
  if not found then perform refuse('HF001', 'top-up unknown'); end if;
  select * into h from hand_credit where action = p_action;
  if found then
    if (h.top_up_id, h.payment_id, h.amount, h.reason) is distinct from (p_top_up, p_payment_id, p_amount::numeric, p_reason) then
      perform refuse('HF009', 'action was used for another credit');
    end if;
    return h;
  end if;
  perform lock_payment(t.provider, p_payment_id);
  if exists (select from payment where provider = t.provider and payment_id = p_payment_id)
    or p_payment_id like 'outside/%' and exists (select from payment where payment_id = p_payment_id and payment_id like 'outside/%')
  then
    perform refuse('HF032', 'payment is credited already');
  end if;
  if p_payment_id like 'outside/%' and exists (select from hand_credit where payment_id = p_payment_id and payment_id like 'outside/%'
    and state in ('waiting', 'posted'))
  then
    perform refuse('HF033', 'a credit of this payment waits already');
  end if;
  k := creditable_payment(t, p_payment_id);
  insert into hand_credit (action, top_up_id, account_id, provider, payment_id, amount, reason, is_known, shown, shown_currency, requested_by)
  values (p_action, t.id, t.account_id, t.provider, p_payment_id, p_amount, p_reason,
    coalesce(k.status = 'paid' and k.top_up_id = t.id and k.currency = t.currency and k.live = t.live, false), k.received, k.currency, p_by)
  on conflict (provider, payment_id) where state in ('waiting', 'posted') do nothing returning * into h;
  if not found then perform refuse('HF033', 'a credit of this payment waits already'); end if;
  if p_by is not null and h.is_known and p_amount <= k.received and t.credited + p_amount <= t.received
    and count_hand_money('hand_credit', h.id, p_by, t.account_id, p_amount, p_limits)
  then
    return post_hand_credit(h.id);
  end if;
  return h;
end
$$;

-- The same from Temporal, where any name can be typed and none counts: what is asked for there waits for two persons of the interface.
create function ask_hand_credit(p_action text, p_top_up uuid, p_payment_id text, p_amount usd, p_reason text) returns hand_credit
language sql security definer set search_path = holdfast, pg_temp as $$
  select request_hand_credit(p_action, p_top_up, p_payment_id, p_amount, p_reason, null, null)
$$;

-- A second person decides a waiting credit; the one who asked for it may only reject it (HF014). The first of two that are needed leaves
-- it waiting.
create function decide_hand_credit(p_id uuid, p_approve boolean, p_by text) returns hand_credit
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  h hand_credit;
begin
  perform require_person(p_by);
  -- The order and the payment first, as credit_payment locks them.
  perform 1 from top_up where id = (select top_up_id from hand_credit where id = p_id) for no key update;
  perform lock_payment(provider, payment_id) from hand_credit where id = p_id;
  select * into h from hand_credit where id = p_id for update;
  if not found then perform refuse('HF001', 'credit by hand unknown'); end if;
  if h.state <> 'waiting' then return h; end if;
  if not p_approve then
    update hand_credit set state = 'rejected', decided_by = p_by, decided_at = now() where id = p_id returning * into h;
    return h;
  end if;
  if not approve('hand_credit', h.id, h.requested_by, p_by) then return h; end if;
  update hand_credit set decided_by = p_by where id = p_id;
  return post_hand_credit(p_id);
end
$$;

create function hand_credits_of(p_top_up uuid) returns setof hand_credit
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select * from hand_credit where top_up_id = p_top_up order by id
$$;

reset role;
reset search_path;
