-- Accounts, their keys and tokens, and what customers are told. The function in here is part of a CHECK, so it is
-- frozen with its table.
set role holdfast_owner;
set search_path = holdfast;

create domain account_kind as text constraint kind_known check (value in ('customer', 'system'));
create domain account_name as text constraint name_length check (char_length(value) between 1 and 200);
create domain email_address as text constraint email_length check (char_length(value) between 3 and 320);
create domain freeze_kind as text constraint freeze_kind_known check (value in ('support', 'operator', 'fraud'));

-- The rules between the columns of an account; raises the name of the one that a row breaks.
create function account_is_sound(kind text, balance numeric, held numeric, frozen_at timestamptz, frozen_reason text)
returns boolean
language plpgsql immutable as $$
declare
  broken text := case
    when kind <> 'customer' and (balance <> 0 or held <> 0) then 'system_has_no_live_balance'
    when (frozen_at is null) <> (frozen_reason is null) then 'frozen_has_reason'
  end;
begin
  if broken is null then
    return true;
  end if;
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

create domain key_name as text constraint key_name_length check (char_length(value) between 1 and 100);
create domain limit_period as text constraint limit_reset_known check (value in ('none', 'daily', 'weekly', 'monthly'));

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

create table access_token (
  id uuid primary key default uuidv7(),
  hash bytea not null unique,
  role text not null,
  account_id uuid references account,
  name text not null,
  created_at timestamptz not null default now(),
  created_by uuid references access_token,   -- the token it was made with; null for one made on the machine
  person text,                               -- whose it is: its maker's, else the name given on the machine
  scopes text[],                             -- what a customer's token may do; null for staff, whose role says it
  expires_at timestamptz,
  revoked_at timestamptz,
  constraint staff_token_has_person check ((role = 'account') = (person is null)),
  constraint role_known check (role in ('account', 'operator', 'support', 'finance', 'auditor')),
  constraint account_role_names_account check ((role = 'account') = (account_id is not null)),
  constraint account_role_has_scopes check ((role = 'account') = (scopes is not null)),
  constraint scopes_known check (scopes <@ array['read', 'keys', 'money'] and cardinality(scopes) > 0),
  constraint token_hash_is_sha256 check (octet_length(hash) = 32)
);
create index access_token_maker on access_token (created_by) where created_by is not null;
create index access_token_account on access_token (account_id, id desc) where account_id is not null;
create index access_token_person on access_token (person) where person is not null;

create table notice (
  id uuid primary key default uuidv7(),
  account_id uuid not null references account,
  kind text not null,
  details jsonb not null,
  created_at timestamptz not null default now(),
  read_at timestamptz
);
create index notice_account on notice (account_id, id desc);

-- Who reads reports and who manages may see every row; a role may write what is named here, and nothing else.
grant select on account, api_key, access_token, notice to
  holdfast_management, holdfast_reporter, holdfast_auditor;
grant insert (id, kind, name, email, low_balance_usd) on account to holdfast_management;
grant update (name, email, low_balance_usd, low_balance_noticed_at) on account to holdfast_management;
grant update (name, expires_at, limit_usd, limit_reset, models, ip_allowlist, revoked_at)
  on api_key to holdfast_management;
grant update (read_at) on notice to holdfast_management;
grant execute on function account_is_sound to holdfast_management, holdfast_reporter, holdfast_auditor;

reset role;
reset search_path;
