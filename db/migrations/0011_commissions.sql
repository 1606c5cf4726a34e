-- Affiliates, what they earn on the top-ups of those they referred, and the runs that pay it.
--
-- An accrual is written by the transaction that moves the payment it is about, whichever path that came on: triggers on
-- `payment` see to it, so no path can forget. It is never edited; what changes a payment later is a further accrual. A run
-- takes accruals once (`run`, from null to a period), then lists and posts them in chunks.
--
-- Lock order: payment, accounts, accruals. A run's first step locks accruals only, its chunks lock the run and accounts.
set role holdfast_owner;
set search_path = holdfast;

create domain rate_ppm as integer constraint rate_within_the_whole check (value between 0 and 1000000);

-- How commissions are reckoned, by version; a version is pinned on every accrual and never changes.
create table commission_rule (
  version integer primary key,
  valid_from timestamptz not null,
  rate_ppm rate_ppm not null,        -- for affiliates without a rate of their own
  hold_days integer not null,        -- from credit to maturity, where a payment can be charged back
  final_hold_days integer not null,  -- from finality to maturity, where it cannot
  dispute_days integer not null,     -- how long a warning of fraud or a dispute that was not won holds a payment's commission back
  created_by text not null,
  reason text not null,
  approved_by text,                  -- a second person, where the rule pays more or sooner than the one before it
  constraint rule_days_within_bounds check (least(hold_days, final_hold_days, dispute_days) >= 0
    and greatest(hold_days, final_hold_days, dispute_days) <= 3650)
);
create trigger append_only before update or delete on commission_rule for each row execute function deny_change();
create trigger append_only_truncate before truncate on commission_rule for each statement execute function deny_change();
insert into commission_rule values (1, '2000-01-01Z', 100000, 60, 0, 120, 'holdfast', 'the first rule');

-- Whether a rule pays more, or sooner, than another.
create function pays_more(p_new commission_rule, p_old commission_rule) returns boolean
language sql immutable as $$
  select p_new.rate_ppm > p_old.rate_ppm or p_new.hold_days < p_old.hold_days or p_new.final_hold_days < p_old.final_hold_days
    or p_new.dispute_days < p_old.dispute_days
$$;

-- Publishes the next version, in force from now on for what is credited from now on. One that pays more or sooner than the version in
-- force takes a second person: HF014 unless p_approved_by is another one than p_by.
create function publish_commission_rule(p_rate rate_ppm, p_hold_days integer, p_final_hold_days integer, p_dispute_days integer,
  p_reason text, p_by text, p_approved_by text default null) returns commission_rule
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  last commission_rule;
  made commission_rule;
begin
  perform require_person(p_by);
  perform pg_advisory_xact_lock(hashtextextended('holdfast.commission_rule', 0));
  select * into last from commission_rule order by version desc limit 1;
  insert into commission_rule (version, valid_from, rate_ppm, hold_days, final_hold_days, dispute_days, created_by, reason, approved_by)
  values (last.version + 1, clock_timestamp(), p_rate, p_hold_days, p_final_hold_days, p_dispute_days, p_by, p_reason, p_approved_by)
  returning * into made;
  if pays_more(made, last) and same_person(p_by, p_approved_by) is distinct from false then
    perform refuse('HF014', 'a second person must approve');
  end if;
  return made;
end
$$;

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

-- Sets an affiliate's own rate; null is the rule's. Above the rule's and its own it takes a second person: HF014 unless p_approved_by is
-- another one than p_by. No row when the account is no affiliate.
create function set_affiliate_rate(p_affiliate uuid, p_rate rate_ppm, p_by text, p_approved_by text default null) returns setof affiliate
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  a affiliate;
  standing integer;
begin
  perform require_person(p_by);
  select * into a from affiliate where account_id = p_affiliate for update;
  if not found then return; end if;
  select rate_ppm into standing from commission_rule order by version desc limit 1;
  if p_rate > greatest(standing, a.rate_ppm) and same_person(p_by, p_approved_by) is distinct from false then
    perform refuse('HF014', 'a second person must approve');
  end if;
  return query update affiliate set rate_ppm = p_rate where account_id = p_affiliate returning *;
end
$$;

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
create trigger append_only before update or delete on referral for each row execute function deny_change();
create trigger append_only_truncate before truncate on referral for each statement execute function deny_change();

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

-- Keeps what was seen of an account; repeatable.
create function note_account_mark(p_account uuid, p_kind text, p_value text) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  insert into account_mark (account_id, kind, value) values (p_account, p_kind, p_value) on conflict do nothing
$$;

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
  constraint done_iff_finished check (num_nulls(finished_at, csv_sha256, manifest) = case state when 'done' then 0 else 3 end)
);

-- Who of the interface had a period paid; what nobody ordered was begun by the schedule.
create table commission_run_order (
  period text primary key,
  ordered_by text not null,
  ordered_at timestamptz not null default now()
);

create function order_commission_run(p_period text, p_by text) returns void
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  perform require_person(p_by);
  insert into commission_run_order (period, ordered_by) values (p_period, p_by) on conflict do nothing;
end
$$;

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
  constraint sign_by_kind check (case kind when 'earned' then amount >= 0 when 'reversed' then amount < 0 when 'restored' then amount > 0
    else amount <> 0 end),
  constraint correction_iff_no_payment check (num_nulls(payment_id, account_id, base, rate_ppm, reversed_from, reversed_to)
    = case kind when 'correction' then 6 else 0 end),
  constraint run_takes_matured check (run is null or matures_at is not null)
);
create unique index commission_earned_once on commission_accrual (payment_id) where kind = 'earned';
create index commission_accrual_payment on commission_accrual (payment_id) where kind <> 'earned';
create index commission_accrual_affiliate on commission_accrual (affiliate_id, id desc);
create index commission_accrual_open on commission_accrual (matures_at) where run is null;
create index commission_accrual_run on commission_accrual (run, id) where run is not null;

-- Two things happen to an accrual, each once: its payment becomes final, and a run takes it.
create function guard_accrual() returns trigger language plpgsql as $$
begin
  if old.matures_at is null then old.matures_at := new.matures_at; end if;
  if old.run is null then old.run := new.run; end if;
  if old is not distinct from new then return new; end if;
  raise exception using errcode = 'HF900', message = format('accrual %s cannot change', old.id);
end
$$;
create trigger guarded before update on commission_accrual for each row execute function guard_accrual();
create trigger append_only before delete on commission_accrual for each row execute function deny_change();
create trigger append_only_truncate before truncate on commission_accrual for each statement execute function deny_change();

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
create trigger append_only before update or delete on commission_item for each row execute function deny_change();
create trigger append_only_truncate before truncate on commission_item for each statement execute function deny_change();

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
  constraint review_decided_iff_not_waiting check (num_nulls(decided_by, decided_at, decision_reason) = case state when 'waiting' then 3 else 0 end)
);
create index commission_review_waiting on commission_review (id) where state = 'waiting';
create index commission_review_pair on commission_review (affiliate_id, account_id);

-- What speaks for an affiliate and the one it referred being one person, but for what a person has approved of them before.
create function self_referral_signals(p_affiliate uuid, p_account uuid) returns text[]
language sql stable as $$
  select coalesce(array_agg(distinct mine.kind order by mine.kind), '{}')
  from account_mark mine join account_mark theirs on theirs.kind = mine.kind and theirs.value = mine.value
  where mine.account_id = p_account and theirs.account_id = p_affiliate
    and not exists (select from commission_review r
      where r.affiliate_id = p_affiliate and r.account_id = p_account and r.state = 'approved' and mine.kind = any (r.signals))
$$;

-- The commission on what was credited; whole pico-USD, rounded down, once per payment.
create function commission_on(p_base numeric, p_rate integer) returns numeric
language sql immutable parallel safe as $$
  select div(p_base * 1e12 * p_rate, 1000000) * 1e-12
$$;

-- How much of it is lost when that much of the credit is gone, rounded down; the whole of it when all is gone.
create function commission_lost(p_base numeric, p_rate integer, p_reversed numeric) returns numeric
language sql immutable parallel safe as $$
  select case when p_base = 0 then 0 else div(commission_on(p_base, p_rate) * 1e12 * p_reversed, p_base) * 1e-12 end
$$;

-- Why an accrual may not be paid now, as a code; null where nothing is in the way. What takes back what was paid always may.
create function commission_hold(a commission_accrual, p_at timestamptz) returns text
language sql stable as $$
  select case
    when a.kind = 'correction' then null
    when a.amount < 0 and exists (select from commission_accrual e
      where e.payment_id = a.payment_id and e.kind = 'earned' and e.run is not null) then null
    else coalesce(
      (select case r.state when 'waiting' then 'review' else r.state end
        from commission_review r where r.payment_id = a.payment_id and r.state <> 'approved'),
      (select 'review' where a.run is null and self_referral_signals(a.affiliate_id, a.account_id) <> '{}'),
      (select 'affiliate_blocked' from affiliate f where f.account_id = a.affiliate_id and f.blocked_at is not null),
      (select 'fraud_warning' from payment p join commission_rule rule on rule.version = a.rule_version
        where p.id = a.payment_id and p.warned_at > p_at - make_interval(days => rule.dispute_days)),
      (select 'dispute' from payment_reversal o join commission_rule rule on rule.version = a.rule_version
        where o.payment = a.payment_id and o.kind = 'dispute' and o.direction = 'out'
          and o.created_at > p_at - make_interval(days => rule.dispute_days)
          and not exists (select from payment_reversal i
            where i.provider = o.provider and i.object_id = o.object_id and i.direction = 'in')
        limit 1))
  end
$$;

-- Writes what a credited payment earns for who referred its account; nothing where nobody did.
create function accrue_commission(p payment) returns void
language plpgsql as $$
declare
  r referral;
  rule commission_rule;
  ppm integer;
  signals text[];
begin
  select * into r from referral where account_id = p.account_id;
  if not found then return; end if;
  select * into rule from commission_rule order by version desc limit 1;
  select coalesce(f.rate_ppm, rule.rate_ppm) into ppm from affiliate f where f.account_id = r.affiliate_id;
  insert into commission_accrual (affiliate_id, kind, amount, payment_id, account_id, base, rate_ppm, rule_version, reversed_from,
    reversed_to, accrued_at, matures_at)
  values (r.affiliate_id, 'earned', commission_on(p.credited, ppm), p.id, p.account_id, p.credited, ppm, rule.version, 0, 0,
    p.credited_at, commission_matures_at(p, rule));
  signals := self_referral_signals(r.affiliate_id, p.account_id);
  if signals <> '{}' then
    insert into commission_review (payment_id, affiliate_id, account_id, signals) values (p.id, r.affiliate_id, p.account_id, signals);
  end if;
end
$$;

-- A payment by card may be charged back for weeks; one on a chain is either final or gone.
create function commission_matures_at(p payment, rule commission_rule) returns timestamptz
language sql stable as $$
  select case when p.provider = 'crypto' then p.final_at + make_interval(days => rule.final_hold_days)
    else p.credited_at + make_interval(days => rule.hold_days) end
$$;

-- Takes back, or gives again, the share of the commission that follows from how much of a payment's credit is gone. What was
-- earned and is in a run already leaves the correction to the next one; else both wait for the same day.
create function adjust_commission(p payment, p_reversed_before usd) returns void
language plpgsql as $$
declare
  e commission_accrual;
  change numeric;
begin
  -- Waits for a run that is taking it: then this accrual belongs to the run after.
  select * into e from commission_accrual where payment_id = p.id and kind = 'earned' for no key update;
  if not found then return; end if;
  change := commission_lost(e.base, e.rate_ppm, p_reversed_before) - commission_lost(e.base, e.rate_ppm, p.reversed);
  if change = 0 then return; end if;
  insert into commission_accrual (affiliate_id, kind, amount, payment_id, account_id, base, rate_ppm, rule_version, reversed_from,
    reversed_to, reversal_id, accrued_at, matures_at)
  values (e.affiliate_id, case when change < 0 then 'reversed' else 'restored' end, change, p.id, e.account_id, e.base, e.rate_ppm,
    e.rule_version, p_reversed_before, p.reversed, (select id from payment_reversal where payment = p.id order by id desc limit 1),
    now(), case when e.run is null then e.matures_at else now() end);
end
$$;

-- The payment cannot vanish any more: what waited for that has a day now.
create function mature_commission(p payment) returns void
language sql as $$
  update commission_accrual a set matures_at = commission_matures_at(p, r) from commission_rule r
  where a.payment_id = p.id and a.matures_at is null and r.version = a.rule_version
$$;

create function commission_follows_payment() returns trigger language plpgsql as $$
begin
  if tg_op = 'INSERT' then
    perform accrue_commission(new);
    return null;
  end if;
  if new.final_at is distinct from old.final_at then perform mature_commission(new); end if;
  if new.reversed <> old.reversed then perform adjust_commission(new, old.reversed); end if;
  return null;
end
$$;
create trigger accrues_commission after insert on payment for each row execute function commission_follows_payment();
create trigger adjusts_commission after update of reversed, final_at on payment for each row execute function commission_follows_payment();

-- What became of an affiliate's accruals at `p_at`. `phase` is where each stands by itself, `is_reversed` whether what it was
-- earned on is gone whole: then a further accrual has taken it back.
create function commission_entries(p_affiliate uuid, p_at timestamptz) returns table (id uuid, kind text, amount usd, account_id uuid,
  payment_id uuid, base usd_not_negative, rate_ppm rate_ppm, rule_version integer, accrued_at timestamptz, matures_at timestamptz, run text,
  posting_id uuid, held_by text, phase text, is_reversed boolean)
language sql stable as $$
  select a.id, a.kind, a.amount, a.account_id, a.payment_id, a.base, a.rate_ppm, a.rule_version, a.accrued_at, a.matures_at, a.run,
    i.posting_id, h.held_by,
    case when i.accrual_id is not null then 'credited' when h.held_by in ('denied', 'review') then h.held_by
      when h.held_by is not null then 'held' when a.run is not null or a.matures_at <= p_at then 'matured' else 'pending' end,
    a.kind = 'earned' and exists (select from payment p where p.id = a.payment_id and p.reversed = p.credited and p.credited > 0)
  from commission_accrual a left join commission_item i on i.accrual_id = a.id
    left join lateral (select commission_hold(a, p_at) as held_by where a.run is null) h on true
  where a.affiliate_id = p_affiliate
$$;

-- The first moment after a period.
create function commission_period_end(p_period text) returns timestamptz
language sql immutable as $$
  select make_timestamptz(left(p_period, 4)::integer, right(p_period, 2)::integer, 1, 0, 0, 0, 'UTC') + interval '1 month'
$$;

-- Begins the run of a period, once: takes every accrual that is in no run, has matured by the period's end and is not held
-- back. A repeat returns the run as it is. Refuses HF040 while the period has not ended at `p_at`.
create function begin_commission_run(p_period text, p_at timestamptz) returns commission_run
language plpgsql security definer set search_path = holdfast, pg_temp set enable_seqscan = on set enable_hashjoin = on
set timezone = 'UTC' as $$
declare
  r commission_run;
  ends timestamptz := commission_period_end(p_period);
begin
  if p_at < ends then perform refuse('HF040', 'the period has not ended'); end if;
  insert into commission_run (period, ends_at, begun_by, began_at)
  values (p_period, ends, coalesce((select ordered_by from commission_run_order o where o.period = p_period), 'schedule'), p_at)
  on conflict do nothing returning * into r;
  if not found then
    select * into r from commission_run where period = p_period;
    return r;
  end if;
  -- Signals that appeared after the accrual: whoever is held back for one has a review that a person can decide.
  insert into commission_review (payment_id, affiliate_id, account_id, signals)
  select a.payment_id, a.affiliate_id, a.account_id, self_referral_signals(a.affiliate_id, a.account_id)
  from commission_accrual a
  where a.run is null and a.matures_at <= ends and a.kind = 'earned' and exists (select from account_mark m where m.account_id = a.account_id)
    and self_referral_signals(a.affiliate_id, a.account_id) <> '{}'
  on conflict do nothing;
  with taken as (
    update commission_accrual a set run = p_period
    where a.run is null and a.matures_at <= ends and commission_hold(a, ends) is null
    returning amount
  )
  update commission_run set accruals = t.n, total = t.total, state = case when t.n = 0 then 'posted' else 'posting' end
  from (select count(*)::integer as n, coalesce(sum(amount), 0) as total from taken) t
  where period = p_period returning * into r;
  return r;
end
$$;

-- Lists and posts the next accruals of a run, at most `p_limit`, in one transaction. A repeat goes on where the last one ended.
create function post_commissions(p_period text, p_limit integer) returns commission_run
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  r commission_run;
  a commission_accrual;
  house uuid := system_account('commission');
  made uuid;
  last uuid;
begin
  select * into r from commission_run where period = p_period for update;
  if not found then perform refuse('HF001', 'run unknown'); end if;
  if r.state <> 'posting' then return r; end if;
  -- post_transfer locks one account after the other; a request of two affiliates must never meet them in another order.
  perform 1 from account where id in (select affiliate_id from commission_accrual
    where run = p_period and id > r.posted_through order by id limit p_limit) order by id for no key update;
  for a in select * from commission_accrual where run = p_period and id > r.posted_through order by id limit p_limit loop
    made := case when a.amount <> 0 then post_transfer('commission', a.id,
      case when a.amount > 0 then house else a.affiliate_id end, case when a.amount > 0 then a.affiliate_id else house end,
      abs(a.amount), jsonb_build_object('run', p_period, 'kind', a.kind, 'payment', a.payment_id, 'account', a.account_id,
        'base', a.base::text, 'rate_ppm', a.rate_ppm, 'rule_version', a.rule_version, 'reversed_from', a.reversed_from::text,
        'reversed_to', a.reversed_to::text, 'reversal', a.reversal_id), true) end;
    r.posted := r.posted + 1;
    last := a.id;
    insert into commission_item (run, n, accrual_id, amount, posting_id) values (p_period, r.posted, a.id, a.amount, made);
  end loop;
  update commission_run set posted = r.posted, posted_through = coalesce(last, posted_through),
    state = case when r.posted = accruals then 'posted' else 'posting' end
  where period = p_period returning * into r;
  return r;
end
$$;

-- What a file's line is made of, with what it must agree with: the payment as it is, the posting as it was made.
create type commission_line as (n integer, accrual_id uuid, kind text, affiliate_id uuid, account_id uuid, payment_id uuid, top_up_id uuid,
  base numeric, rate_ppm integer, rule_version integer, reversed_from numeric, reversed_to numeric, amount numeric,
  accrued_at timestamptz, matures_at timestamptz, payment_credited numeric, listed_amount numeric, posted_amount numeric);

-- The list of a run from line `p_after` on.
create function commission_lines(p_period text, p_after integer, p_limit integer) returns setof commission_line
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select i.n, a.id, a.kind, a.affiliate_id, a.account_id, a.payment_id, p.top_up_id, a.base, a.rate_ppm, a.rule_version, a.reversed_from,
    a.reversed_to, a.amount, a.accrued_at, a.matures_at, p.credited, i.amount,
    case when t.id = i.posting_id then case a.affiliate_id when t.credit then t.amount when t.debit then -t.amount end end
  from commission_item i join commission_accrual a on a.id = i.accrual_id left join payment p on p.id = a.payment_id
    left join posting t on t.business_id = a.id and t.kind = 'commission'
  where i.run = p_period and i.n > p_after
  order by i.n limit p_limit
$$;

-- What the run of a period would take now, in the order of its list. Writes nothing.
create function commission_candidates(p_period text) returns setof commission_line
language sql stable security definer set search_path = holdfast, pg_temp set enable_hashjoin = on as $$
  select null::integer, a.id, a.kind, a.affiliate_id, a.account_id, a.payment_id, p.top_up_id, a.base, a.rate_ppm, a.rule_version,
    a.reversed_from, a.reversed_to, a.amount, a.accrued_at, a.matures_at, p.credited, null::numeric, null::numeric
  from commission_accrual a left join payment p on p.id = a.payment_id
  where a.run is null and a.matures_at <= commission_period_end(p_period) and commission_hold(a, commission_period_end(p_period)) is null
  order by a.id
$$;

create function commission_run_of(p_period text) returns setof commission_run
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select * from commission_run where period = p_period
$$;

create function commission_rules() returns setof commission_rule
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select * from commission_rule order by version
$$;

-- How many accruals a run took; the list must have as many.
create function commission_taken(p_period text) returns integer
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select count(*)::integer from commission_accrual where run = p_period
$$;

-- Keeps a part of a file; a repeat writes the same. The parts of a run that is done stay as they are.
create function save_commission_part(p_period text, p_dry_run integer, p_part integer, p_content bytea) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  insert into commission_file_part (period, dry_run, part, content)
  select p_period, p_dry_run, p_part, p_content
  where p_dry_run > 0 or exists (select from commission_run where period = p_period and state = 'posted')
  on conflict (period, dry_run, part) do update set content = excluded.content
$$;

create function commission_part(p_period text, p_dry_run integer, p_part integer) returns bytea
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select content from commission_file_part where period = p_period and dry_run = p_dry_run and part = p_part
$$;

-- Closes a run whose accruals are posted and whose file is written. A repeat returns it as it is.
create function finish_commission_run(p_period text, p_at timestamptz, p_sha256 text, p_manifest text) returns commission_run
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  r commission_run;
begin
  update commission_run set state = 'done', finished_at = p_at, csv_sha256 = p_sha256, manifest = p_manifest
  where period = p_period and state = 'posted';
  select * into r from commission_run where period = p_period;
  return r;
end
$$;

-- Numbers a dry run or a replay of a period.
create function request_commission_check(p_kind text, p_period text, p_by text) returns commission_check
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  c commission_check;
begin
  perform pg_advisory_xact_lock(hashtextextended('holdfast.commission_check', 0));
  if p_kind = 'replay' and not exists (select from commission_run where period = p_period and state = 'done') then
    perform refuse('HF041', 'the run is not done');
  end if;
  insert into commission_check (kind, period, n, requested_by)
  select p_kind, p_period, coalesce(max(n), 0) + 1, p_by from commission_check where kind = p_kind and period = p_period
  returning * into c;
  return c;
end
$$;

-- Keeps what a dry run or a replay found; the first answer stands.
create function finish_commission_check(p_kind text, p_period text, p_n integer, p_at timestamptz, p_result jsonb, p_manifest text)
returns void language sql security definer set search_path = holdfast, pg_temp as $$
  update commission_check set finished_at = p_at, result = p_result, manifest = p_manifest
  where kind = p_kind and period = p_period and n = p_n and finished_at is null
$$;

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

create function accrue_correction(c commission_correction) returns void
language sql as $$
  insert into commission_accrual (id, affiliate_id, kind, amount, rule_version, accrued_at, matures_at)
  select c.id, c.affiliate_id, 'correction', c.amount, max(version), now(), now() from commission_rule
$$;

-- Asks for a correction under an id of the caller's choice (repeatable). It is accrued at once within p_limits, else it waits.
create function request_commission_correction(p_id uuid, p_affiliate uuid, p_amount usd, p_reason text, p_by text, p_limits jsonb)
returns commission_correction language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  c commission_correction;
  made boolean;
begin
  perform require_person(p_by);
  perform 1 from affiliate where account_id = p_affiliate;
  if not found then perform refuse('HF001', 'affiliate unknown'); end if;
  insert into commission_correction (id, affiliate_id, amount, reason, requested_by)
  values (p_id, p_affiliate, p_amount, p_reason, p_by) on conflict do nothing;
  made := found;
  select * into c from commission_correction where id = p_id for update;
  if (c.affiliate_id, c.amount, c.reason) is distinct from (p_affiliate, p_amount::numeric, p_reason) then
    perform refuse('HF009', 'correction id reused');
  end if;
  if made and count_hand_money('commission_correction', c.id, p_by, p_affiliate, p_amount, p_limits) then
    update commission_correction set state = 'accrued', decided_at = now() where id = p_id returning * into c;
    perform accrue_correction(c);
  end if;
  return c;
end
$$;

-- A second person decides a waiting correction; the one who asked for it may only reject it (HF014).
create function decide_commission_correction(p_id uuid, p_approve boolean, p_by text) returns commission_correction
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  c commission_correction;
begin
  perform require_person(p_by);
  select * into c from commission_correction where id = p_id for update;
  if not found then perform refuse('HF008', 'correction unknown'); end if;
  if c.state <> 'waiting' then return c; end if;
  if p_approve and not approve('commission_correction', c.id, c.requested_by, p_by) then return c; end if;
  update commission_correction set state = case when p_approve then 'accrued' else 'rejected' end, decided_by = p_by, decided_at = now()
  where id = p_id returning * into c;
  if p_approve then perform accrue_correction(c); end if;
  return c;
end
$$;

-- What an approval of a review lets through, at most: what its payment has earned, whether or not something of it is taken back now (a
-- dispute may be won), and what other payments of the two accounts have earned that nothing else keeps back: from then on their common
-- signals speak against none of them.
create function commission_review_worth(r commission_review) returns numeric
language sql stable as $$
  select coalesce(sum(a.amount), 0) from commission_accrual a
  where a.kind = 'earned' and a.affiliate_id = r.affiliate_id and a.account_id = r.account_id
    and (a.payment_id = r.payment_id
      or a.run is null and not exists (select from commission_review o where o.payment_id = a.payment_id))
$$;

-- A person decides whether the commission on a referred top-up is earned. Paying it counts as money moved by hand: beyond p_limits it
-- takes a second person, and the first one's approval leaves it waiting. One that is decided stays as it is.
create function decide_commission_review(p_id uuid, p_state text, p_reason text, p_by text, p_limits jsonb) returns commission_review
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  r commission_review;
begin
  perform require_person(p_by);
  select * into r from commission_review where id = p_id for update;
  if not found then perform refuse('HF008', 'review unknown'); end if;
  if r.state <> 'waiting' then return r; end if;
  if p_state = 'approved' then
    if not approve_automatic('commission_review', r.id, r.affiliate_id, commission_review_worth(r), p_by, p_limits) then return r; end if;
  end if;
  update commission_review set state = p_state, decided_by = p_by, decided_at = now(), decision_reason = p_reason
  where id = p_id returning * into r;
  return r;
end
$$;

reset role;
reset search_path;
