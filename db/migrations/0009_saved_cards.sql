-- Saved cards and what is charged to them automatically; manual credits.
set role holdfast_owner;
set search_path = holdfast;

-- An account's customer object at a provider. A deleted one is never used again; `n` tells its successor's creation
-- from its own.
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

-- A customer's order to top up automatically. `frozen_at` is ours and outlives every change of the customer's.
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
  constraint order_is_complete check (num_nulls(threshold, amount, monthly_cap) = 0
    or (state = 'off' and num_nulls(threshold, amount, monthly_cap) = 3)),
  constraint one_charge_within_cap check (amount > 0 and amount <= monthly_cap),
  constraint strikes_not_negative check (strikes >= 0),
  constraint auto_frozen_has_reason check ((frozen_at is null) = (frozen_reason is null))
);

-- Why automatic top-ups of an account are frozen: each dispute, full refund and fraud warning freezes them once, until
-- it is won or a person frees them. As long as one of these is not freed, `auto_top_up.frozen_at` is set.
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

-- One attempt to charge a saved card. A slot is used up by its attempt, whatever becomes of it: giving it back after a
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

-- A credit that was asked for by hand, keyed as the automatic one: by the payment's own id, never by another id of it.
-- It waits for a second person above a limit, above what its payment or its order is known to have received, and where
-- the provider does not show the payment as paid in the order's currency and mode. What was asked for in Temporal was
-- asked for by nobody: it waits for two.
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
  -- the order's provider showed the payment as paid, in its currency and mode, when this was asked for
  is_known boolean not null,
  -- what the provider showed of the payment then, in `shown_currency`; null: it came outside of the provider
  shown numeric(38,12),
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
  constraint hand_credit_unknown_is_decided check (state <> 'posted' or (is_known and requested_by is not null)
    or decided_by is not null),
  constraint hand_credit_second_person check (state <> 'posted' or decided_by is null or decided_by <> requested_by),
  constraint hand_credit_reason_length check (char_length(reason) between 3 and 2000),
  constraint hand_credit_payment_id_length check (char_length(payment_id) between 1 and 200),
  constraint hand_credit_shown_unless_outside check (
    num_nulls(shown, shown_currency) = case when payment_id like 'outside/%' then 2 else 0 end)
);
create unique index hand_credit_open on hand_credit (provider, payment_id) where state in ('waiting', 'posted');
-- What came outside of a provider is one sum, whichever provider its order has.
create unique index hand_credit_outside_once on hand_credit (payment_id)
  where state in ('waiting', 'posted') and payment_id like 'outside/%';
create index hand_credit_top_up on hand_credit (top_up_id);

-- Who reads reports and who manages may see every row; a role may write what is named here, and nothing else.
grant select on payment_customer, saved_card, auto_top_up, auto_top_up_freeze, auto_top_up_consent, auto_top_up_attempt,
  hand_credit to
  holdfast_management, holdfast_reporter, holdfast_auditor;

reset role;
reset search_path;
