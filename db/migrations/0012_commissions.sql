-- Affiliates, what they earn on the top-ups of those they referred, and the runs that pay it.
set role holdfast_owner;
set search_path = holdfast;

create domain rate_ppm as integer constraint rate_within_the_whole check (value between 0 and 1000000);

-- How commissions are computed, by version; a version is pinned on every accrual and never changes.
create table commission_rule (
  version integer primary key,
  valid_from timestamptz not null,
  rate_ppm rate_ppm not null,        -- for affiliates without a rate of their own
  hold_days integer not null,        -- from credit to maturity, where a payment can be charged back
  final_hold_days integer not null,  -- from finality to maturity, where it cannot
  -- how long a warning of fraud or a dispute that was not won holds a payment's commission back
  dispute_days integer not null,
  created_by text not null,
  reason text not null,
  approved_by text,                  -- a second person, where the rule pays more or sooner than the one before it
  constraint rule_days_within_bounds check (least(hold_days, final_hold_days, dispute_days) >= 0
    and greatest(hold_days, final_hold_days, dispute_days) <= 3650)
);

insert into commission_rule values (1, '2000-01-01Z', 100000, 60, 0, 120, 'holdfast', 'the first rule');

create table affiliate (
  account_id uuid primary key references account,
  code text not null,
  rate_ppm rate_ppm,                 -- null: the rule's
  created_at timestamptz not null default now(),
  blocked_at timestamptz,
  blocked_reason text,
  constraint affiliate_code unique (code),
  constraint code_form check (code ~ '^[0-9a-z]{6,32}$'),
  constraint blocked_has_reason check ((blocked_at is null) = (blocked_reason is null))
);

-- Who referred an account: written by the statement that creates the account, frozen from then on.
create table referral (
  account_id uuid primary key references account,
  affiliate_id uuid not null references affiliate,
  code text not null,
  clicked_at timestamptz,            -- null where the code came without a click
  frozen_at timestamptz not null default now(),
  constraint nobody_refers_oneself check (account_id <> affiliate_id)
);
create index referral_affiliate on referral (affiliate_id, account_id);

-- What two accounts of one person have in common. A kind is a row here; a mark is what was seen of an account.
create table referral_signal (
  kind text primary key,
  description text not null
);

insert into referral_signal values
  ('discord_user', 'the same Discord user'),
  ('card_fingerprint', 'a card with the same fingerprint'),
  ('bank_fingerprint', 'a bank account with the same fingerprint'),
  ('payer_account', 'the same account at a payment service'),
  ('funding_address', 'crypto from the same address');

create table account_mark (
  account_id uuid not null references account,
  kind text not null references referral_signal,
  value text not null,
  seen_at timestamptz not null default now(),
  primary key (account_id, kind, value),
  constraint mark_value_length check (char_length(value) between 1 and 500)
);
create index account_mark_value on account_mark (kind, value);

create table commission_run (
  period text primary key,
  ends_at timestamptz not null,
  state text not null default 'posting',
  begun_by text not null,
  began_at timestamptz not null,
  accruals integer not null default 0,    -- in the list
  total usd not null default 0,           -- their sum
  posted integer not null default 0,      -- how many of them are posted
  posted_through uuid not null default '00000000-0000-0000-0000-000000000000',  -- the last of those
  finished_at timestamptz,
  csv_sha256 text,
  manifest text,
  constraint period_form check (period ~ '^20[0-9]{2}-(0[1-9]|1[0-2])$'),
  constraint run_state_known check (state in ('posting', 'posted', 'done')),
  constraint posting_has_some_left check (case state when 'posting' then posted <= accruals else posted = accruals end),
  constraint done_iff_finished check (num_nulls(finished_at, csv_sha256, manifest)
    = case state when 'done' then 0 else 3 end)
);

-- Who of the interface had a period paid; what nobody ordered was begun by the schedule.
create table commission_run_order (
  period text primary key,
  ordered_by text not null,
  ordered_at timestamptz not null default now()
);

create table commission_accrual (
  id uuid primary key default uuidv7(),
  affiliate_id uuid not null references affiliate,
  kind text not null,
  amount usd not null,               -- negative takes back
  payment_id uuid references payment,
  account_id uuid references account, -- who paid
  base usd_not_negative,             -- what was credited for the payment
  rate_ppm rate_ppm,
  rule_version integer not null references commission_rule,
  reversed_from usd_not_negative,    -- how much of the credit was gone before this accrual and after it
  reversed_to usd_not_negative,
  reversal_id uuid references payment_reversal,
  accrued_at timestamptz not null,
  matures_at timestamptz,            -- null while the payment is not final
  run text references commission_run,
  constraint accrual_kind_known check (kind in ('earned', 'reversed', 'restored', 'correction')),
  constraint sign_by_kind check (case kind when 'earned' then amount >= 0 when 'reversed' then amount < 0
    when 'restored' then amount > 0
    else amount <> 0 end),
  constraint correction_iff_no_payment check (num_nulls(payment_id, account_id, base, rate_ppm, reversed_from,
    reversed_to)
    = case kind when 'correction' then 6 else 0 end),
  constraint run_takes_matured check (run is null or matures_at is not null)
);
create unique index commission_earned_once on commission_accrual (payment_id) where kind = 'earned';
create index commission_accrual_payment on commission_accrual (payment_id) where kind <> 'earned';
create index commission_accrual_affiliate on commission_accrual (affiliate_id, id desc);
create index commission_accrual_open on commission_accrual (matures_at) where run is null;
create index commission_accrual_run on commission_accrual (run, id) where run is not null;

-- The list of a run, in the order of its file; written with the postings.
create table commission_item (
  run text not null references commission_run,
  n integer not null,
  accrual_id uuid not null references commission_accrual,
  amount usd not null,
  posting_id uuid,
  primary key (run, n),
  constraint accrual_in_one_run unique (accrual_id),
  constraint item_posted_iff_not_zero check ((posting_id is null) = (amount = 0))
);

-- The bytes of a run's result file (`dry_run` 0) and of those of its dry runs (from 1).
create table commission_file_part (
  period text not null,
  dry_run integer not null,
  part integer not null,
  content bytea not null,
  primary key (period, dry_run, part)
);

-- Dry runs and replays: what they found. They change nothing else.
create table commission_check (
  kind text not null,
  period text not null,
  n integer not null,
  requested_by text not null,
  requested_at timestamptz not null default now(),
  finished_at timestamptz,
  result jsonb,
  manifest text,                     -- of a dry run's file
  primary key (kind, period, n),
  constraint check_kind_known check (kind in ('dry_run', 'replay')),
  constraint check_finished_iff_result check ((finished_at is null) = (result is null))
);

-- A top-up that may be its affiliate's own. Its accruals wait until a person decides.
create table commission_review (
  id uuid primary key default uuidv7(),
  payment_id uuid not null references payment,
  affiliate_id uuid not null references affiliate,
  account_id uuid not null references account,
  signals text[] not null,
  state text not null default 'waiting',
  opened_at timestamptz not null default now(),
  decided_by text,
  decided_at timestamptz,
  decision_reason text,
  constraint review_once unique (payment_id),
  constraint review_state_known check (state in ('waiting', 'approved', 'denied')),
  constraint review_decided_iff_not_waiting check (num_nulls(decided_by, decided_at, decision_reason)
    = case state when 'waiting' then 3 else 0 end)
);
create index commission_review_waiting on commission_review (id) where state = 'waiting';
create index commission_review_pair on commission_review (affiliate_id, account_id);

-- Corrections by hand: an accrual of the next run, above a threshold only with a second person.
create table commission_correction (
  id uuid primary key,
  affiliate_id uuid not null references affiliate,
  amount usd not null,
  reason text not null,
  state text not null default 'waiting',
  requested_by text not null,
  requested_at timestamptz not null default now(),
  decided_by text,
  decided_at timestamptz,
  constraint correction_not_zero check (amount <> 0),
  constraint correction_state_known check (state in ('waiting', 'accrued', 'rejected')),
  constraint correction_decided_iff_not_waiting check ((state = 'waiting') = (decided_at is null)),
  constraint correction_second_person check (state <> 'accrued' or decided_by is null or decided_by <> requested_by),
  constraint correction_reason_length check (char_length(reason) between 3 and 2000)
);
create index commission_correction_affiliate on commission_correction (affiliate_id, id desc);

-- What a file's line is made of, with what it must agree with: the payment as it is, the posting as it was made.
create type commission_line as (n integer, accrual_id uuid, kind text, affiliate_id uuid, account_id uuid,
  payment_id uuid, top_up_id uuid, base numeric, rate_ppm integer, rule_version integer, reversed_from numeric,
  reversed_to numeric, amount numeric, accrued_at timestamptz, matures_at timestamptz, payment_credited numeric,
  listed_amount numeric, posted_amount numeric);

-- Who reads reports and who manages may see every row; a role may write what is named here, and nothing else.
grant select on commission_rule, affiliate, referral, referral_signal, account_mark, commission_run,
  commission_run_order, commission_accrual, commission_item, commission_file_part, commission_check, commission_review,
  commission_correction to
  holdfast_management, holdfast_reporter, holdfast_auditor;
grant insert (account_id, code) on affiliate to holdfast_management;
grant update (blocked_at, blocked_reason) on affiliate to holdfast_management;
grant insert (account_id, affiliate_id, code, clicked_at) on referral to holdfast_management;

reset role;
reset search_path;
