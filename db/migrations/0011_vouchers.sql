-- Vouchers: credit that an operator gives away by code. A batch is one decision (amount, expiry, reason, approval); a
-- voucher is one code of it, stored as its hash.
set role holdfast_owner;
set search_path = holdfast;

insert into account (kind, name) values ('system', 'promo:voucher');

create table voucher_batch (
  id uuid primary key,
  name text not null,
  state text not null default 'waiting',
  count integer not null,
  amount usd not null,               -- of each voucher
  expires_at timestamptz,
  reason text not null,
  requested_by text not null,
  requested_at timestamptz not null default now(),
  decided_by text,                   -- null where no second person was needed
  decided_at timestamptz,
  voided_by text,
  voided_at timestamptz,
  void_reason text,
  constraint voucher_batch_state_known check (state in ('waiting', 'issued', 'rejected', 'void')),
  constraint voucher_batch_name_length check (char_length(name) between 1 and 200),
  constraint voucher_batch_count_bounds check (count between 1 and 10000),
  constraint voucher_amount_positive check (amount > 0),
  constraint voucher_batch_reason_length check (char_length(reason) between 3 and 2000),
  constraint voucher_batch_decided_iff_not_waiting check ((state = 'waiting') = (decided_at is null)),
  constraint voucher_batch_second_person check (state = 'rejected' or decided_by is null or decided_by <> requested_by),
  constraint voucher_batch_void_has_reason check (num_nulls(voided_by, voided_at, void_reason)
    = case state when 'void' then 0 else 3 end)
);

-- The id is the business id of the posting that redeems it: once, permanently.
create table voucher (
  id uuid primary key default uuidv7(),
  batch_id uuid not null references voucher_batch,
  hash sha256 not null,
  prefix text not null,
  redeemed_by uuid references account,
  redeemed_at timestamptz,
  posting_id uuid,
  constraint voucher_hash_unique unique (hash),
  constraint voucher_redeemed_whole check (num_nulls(redeemed_by, redeemed_at, posting_id) in (0, 3))
);
create index voucher_batch_vouchers on voucher (batch_id, id);
create index voucher_redeemed_by on voucher (redeemed_by, redeemed_at) where redeemed_at is not null;
create index voucher_batch_redeemed on voucher (batch_id) where redeemed_at is not null;

-- Attempts of an account to redeem that came to nothing, in the current window.
create table voucher_attempt (
  account_id uuid primary key references account,
  window_start timestamptz not null,
  attempts integer not null
);

-- Who reads reports and who manages may see every row; a role may write what is named here, and nothing else.
grant select on voucher_batch, voucher, voucher_attempt to
  holdfast_management, holdfast_reporter, holdfast_auditor;

reset role;
reset search_path;
