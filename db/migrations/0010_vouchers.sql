-- Vouchers: credit that an operator gives away by code. A batch is one decision (amount, expiry, reason, approval); a voucher is
-- one code of it, stored as its hash.
--
-- Lock order: voucher, batch, then accounts (post_transfer).
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
  constraint voucher_batch_void_has_reason check (num_nulls(voided_by, voided_at, void_reason) = case state when 'void' then 0 else 3 end)
);

-- The id is the business id of the posting that redeems it: once, for ever.
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

create function freeze_redeemed_voucher() returns trigger language plpgsql as $$
begin
  raise exception using errcode = 'HF900', message = format('voucher %s is redeemed and cannot change', old.id);
end
$$;
create trigger frozen_once_redeemed before update on voucher for each row
  when (old.redeemed_at is not null) execute function freeze_redeemed_voucher();
create trigger never_deleted before delete on voucher for each row execute function deny_change();
create trigger never_truncated before truncate on voucher for each statement execute function deny_change();

-- Attempts of an account to redeem that came to nothing, in the current window.
create table voucher_attempt (
  account_id uuid primary key references account,
  window_start timestamptz not null,
  attempts integer not null
);

-- What a voucher is at a moment; the one place that knows what comes before what.
create function voucher_state(v voucher, b voucher_batch, at timestamptz) returns text
language sql immutable as $$
  select case
    when v.redeemed_at is not null then 'redeemed'
    when b.state in ('void', 'rejected') then 'void'
    when b.expires_at <= at then 'expired'
    else b.state
  end
$$;

-- Makes a batch with its vouchers under an id of the caller's choice. It waits for a second person when what it is worth in total
-- exceeds p_limits; until then its codes redeem nothing.
create function create_voucher_batch(p_id uuid, p_name text, p_amount usd, p_expires_at timestamptz, p_reason text, p_by text,
  p_limits jsonb, p_hashes bytea[], p_prefixes text[]) returns voucher_batch
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  b voucher_batch;
begin
  perform require_person(p_by);
  insert into voucher_batch (id, name, state, count, amount, expires_at, reason, requested_by, decided_at)
  select p_id, p_name, case when waits then 'waiting' else 'issued' end, cardinality(p_hashes), p_amount, p_expires_at, p_reason, p_by,
    case when not waits then now() end
  from (select not count_hand_money('voucher_batch', p_id, p_by, null, p_amount * cardinality(p_hashes), p_limits) as waits) judged
  returning * into b;
  insert into voucher (batch_id, hash, prefix) select p_id, t.hash, t.prefix from unnest(p_hashes, p_prefixes) as t (hash, prefix);
  return b;
end
$$;

-- A second person decides a waiting batch; the one who asked for it may only reject it (HF014). One that was issued by one person alone
-- may be approved later: from then on the sums of the accounts that redeem it keep nothing of it back.
create function decide_voucher_batch(p_id uuid, p_approve boolean, p_by text) returns voucher_batch
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  b voucher_batch;
begin
  perform require_person(p_by);
  select * into b from voucher_batch where id = p_id for no key update;
  if not found then perform refuse('HF008', 'voucher batch unknown'); end if;
  if b.state <> 'waiting' and not (p_approve and b.state = 'issued' and b.decided_by is null) then return b; end if;
  if p_approve and not approve('voucher_batch', b.id, b.requested_by, p_by) then return b; end if;
  update voucher_batch set state = case when p_approve then 'issued' else 'rejected' end, decided_by = p_by, decided_at = now()
  where id = p_id returning * into b;
  return b;
end
$$;

-- Ends an issued batch: what is not redeemed yet never will be. A batch in another state stays as it is.
create function void_voucher_batch(p_id uuid, p_reason text, p_by text) returns voucher_batch
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  b voucher_batch;
begin
  perform require_person(p_by);
  update voucher_batch set state = 'void', voided_by = p_by, voided_at = now(), void_reason = p_reason
  where id = p_id and state = 'issued';
  select * into b from voucher_batch where id = p_id;
  if not found then perform refuse('HF008', 'voucher batch unknown'); end if;
  return b;
end
$$;

-- Whether so much more of what one person gave away alone would exceed the sums of an account, by the limits that it was given under. Holds
-- the account's lock from then on.
create function exceeds_account_sums(p_kind text, p_subject uuid, p_account uuid, p_amount numeric) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  l jsonb := (select limits from hand_money where kind = p_kind and subject = p_subject);
  s record;
begin
  perform pg_advisory_xact_lock(hashtextextended('holdfast.hand_money/account/' || p_account, 0));
  select * into s from hand_money_sums(null, p_account, clock_timestamp());
  return s.account_day + p_amount > (l ->> 'account_day')::numeric or s.account_month + p_amount > (l ->> 'account_month')::numeric;
end
$$;

-- Redeems a voucher for an account, once. The verdict is a value, not a refusal: `redeemed` (also for the account that redeemed it
-- before, with what was answered then), `taken` by another account, `beyond_sums` where one person alone gave it and the account would have
-- more of such money than the limits of its batch allow, or the state that keeps it from being redeemed; no row when
-- no voucher has this hash. The batch is locked against being ended meanwhile, so a void batch's counts are final.
create function redeem_voucher(p_hash bytea, p_account uuid) returns table (verdict text, id uuid, amount usd, redeemed_at timestamptz,
  posting_id uuid)
language plpgsql security definer set search_path = holdfast, pg_temp as $$
#variable_conflict use_column
declare
  v voucher;
  b voucher_batch;
  state_now text;
begin
  select * into v from voucher where hash = p_hash for no key update;
  if not found then return; end if;
  select * into b from voucher_batch where voucher_batch.id = v.batch_id for share;
  state_now := voucher_state(v, b, clock_timestamp());
  if state_now = 'issued' then
    if exists (select from account where account.id = p_account and frozen_at is not null) then
      perform refuse('HF004', 'account frozen');
    end if;
    -- What one person gave away alone counts for the account: as any money by hand, under its lock.
    if b.decided_by is null and exceeds_account_sums('voucher_batch', b.id, p_account, b.amount) then
      return query select 'beyond_sums', v.id, b.amount, v.redeemed_at, v.posting_id;
      return;
    end if;
    v.posting_id := post_transfer('voucher', v.id, system_account('promo:voucher'), p_account, b.amount,
      jsonb_build_object('batch', b.id, 'name', b.name, 'reason', b.reason, 'requested_by', b.requested_by, 'approved_by', b.decided_by),
      false);
    update voucher set redeemed_by = p_account, redeemed_at = clock_timestamp(), posting_id = v.posting_id
    where voucher.id = v.id returning * into v;
    state_now := 'redeemed';
  end if;
  return query select case when state_now = 'redeemed' and v.redeemed_by <> p_account then 'taken' else state_now end,
    v.id, b.amount, v.redeemed_at, v.posting_id;
end
$$;

-- Counts an attempt before it is made. Returns null when it may be made, else the seconds until the window ends.
create function count_voucher_attempt(p_account uuid, p_max integer, p_window_seconds numeric) returns numeric
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  at timestamptz := clock_timestamp();
  window_length interval := make_interval(secs => p_window_seconds::double precision);
  a voucher_attempt;
begin
  insert into voucher_attempt as t (account_id, window_start, attempts) values (p_account, at, 1)
  on conflict (account_id) do update set
    window_start = case when t.window_start + window_length <= at then at else t.window_start end,
    attempts = case when t.window_start + window_length <= at then 1 else least(t.attempts, p_max) + 1 end
  returning * into a;
  if a.attempts <= p_max then return null; end if;
  -- Whoever came first may have begun the window after this call had looked at the clock.
  return least(greatest(extract(epoch from a.window_start + window_length - at), 1), p_window_seconds);
end
$$;

-- An attempt that redeemed something does not count.
create function forget_voucher_attempt(p_account uuid) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  update voucher_attempt set attempts = attempts - 1 where account_id = p_account and attempts > 0
$$;

reset role;
reset search_path;
