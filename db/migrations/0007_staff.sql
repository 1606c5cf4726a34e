-- What people of the interface decide, and the record of who did what.
set role holdfast_owner;
set search_path = holdfast;

-- Who approved what, each person once. The subject is the adjustment, refund, batch, correction, credit, reward, review
-- or change.
create table approval (
  kind text not null,
  subject uuid not null,
  person text not null,
  actor text not null,
  given_at timestamptz not null default clock_timestamp(),
  primary key (kind, subject, person)
);

-- What one person moved by hand alone, without a second one: what the sums of a person and of an account are made of.
-- Amounts are absolute and never given back, so that taking back and moving again counts twice. `limits` are those that
-- were in force.
create table hand_money (
  kind text not null,
  subject uuid not null,
  person text not null,
  account_id uuid references account,  -- null for vouchers: whose they are shows when they are redeemed
  amount usd_not_negative not null,
  moved_at timestamptz not null,
  limits jsonb not null,
  primary key (kind, subject)
);
create index hand_money_person on hand_money (person, moved_at);
create index hand_money_account on hand_money (account_id, moved_at) where account_id is not null;

-- A change of the rules of money that nobody makes alone: kept as it was asked for, made when a second person approves.
create table change_request (
  id uuid primary key default uuidv7(),
  kind text not null,
  subject text not null,             -- the model, the affiliate's account, or the rule's name
  change jsonb not null,
  cause text not null,               -- what of it takes a second person
  reason text,
  state text not null default 'waiting',
  requested_by text not null,
  requested_at timestamptz not null default now(),
  decided_by text,
  decided_at timestamptz,
  constraint change_kind_known check (kind in ('affiliate_rate', 'commission_rule', 'price_version', 'model')),
  constraint change_state_known check (state in ('waiting', 'applied', 'rejected')),
  constraint change_decided_iff_not_waiting check (num_nulls(decided_by, decided_at)
    = case state when 'waiting' then 2 else 0 end)
);
create index change_request_waiting on change_request (id) where state = 'waiting';

-- Adjustments by hand. Above a threshold they wait here until a second person decides.
create table adjustment (
  id uuid primary key default uuidv7(),
  account_id uuid not null references account,
  amount usd not null,
  reason text not null,
  state text not null,
  requested_by text not null,
  requested_at timestamptz not null default now(),
  decided_by text,
  decided_at timestamptz,
  posting_id uuid,
  constraint adjustment_not_zero check (amount <> 0),
  constraint adjustment_state_known check (state in ('waiting', 'posted', 'rejected')),
  constraint adjustment_posted_iff_posting check ((state = 'posted') = (posting_id is not null)),
  constraint adjustment_second_person check (state <> 'posted' or decided_by is null or decided_by <> requested_by),
  constraint adjustment_reason_length check (char_length(reason) between 3 and 2000)
);

-- What waits for a person. At most one open case per kind and subject; evidence says what is known.
create table review_case (
  id uuid primary key default uuidv7(),
  kind text not null,
  subject text not null,
  evidence jsonb not null,
  opened_at timestamptz not null default now(),
  closed_at timestamptz,
  closed_by text,
  resolution text,
  constraint closed_has_resolution check (num_nulls(closed_at, closed_by, resolution) in (0, 3))
);
create unique index review_case_open on review_case (kind, subject) where closed_at is null;

create table operator_action (
  id uuid primary key default uuidv7(),
  at timestamptz not null default now(),
  actor text not null,
  action text not null,
  subject text not null,
  details jsonb not null
);

-- Answers of management POSTs that move money, for 24 h per account or operator: the same key gets the same answer.
create table idempotency_key (
  scope text not null,
  key text not null,
  body_hash bytea not null,
  subject uuid not null default uuidv7(),   -- the business id the first attempt used; a retry uses the same one
  status integer,
  answer jsonb,
  created_at timestamptz not null default now(),
  primary key (scope, key)
);

-- Who reads reports and who manages may see every row; a role may write what is named here, and nothing else.
grant select on approval, hand_money, change_request, adjustment, review_case, operator_action, idempotency_key to
  holdfast_management, holdfast_reporter, holdfast_auditor;
grant insert, update on review_case, idempotency_key to holdfast_management;
grant delete on idempotency_key to holdfast_management;
grant insert on operator_action to holdfast_management;

reset role;
reset search_path;
