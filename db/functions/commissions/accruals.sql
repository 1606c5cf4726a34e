-- What an affiliate earns on the top-ups of those it referred.
--
-- An accrual is written by the transaction that moves the payment it is about, whichever path that came on: triggers on
-- `payment` see to it, so no path can forget. It is never edited; what changes a payment later is a further accrual.
--
-- The rules are written twice on purpose. commission_on and commission_lost write what is owed;
-- domain/commissions/commission.ts computes the same again when a run is replayed (recomputeAccrual), so that a mistake
-- in one of the two shows. When an accrual matures is said here alone (commission_matures_at), because the triggers
-- write it; days and rates are those of the rule that is pinned on the accrual.
--
-- Lock order: payment, accounts, accruals.

-- Two things happen to an accrual, each once: its payment becomes final, and a run takes it.
create function guard_accrual() returns trigger language plpgsql as $$
begin
  if old.matures_at is null then
    old.matures_at := new.matures_at;
  end if;
  if old.run is null then
    old.run := new.run;
  end if;
  if old is not distinct from new then
    return new;
  end if;
  raise exception using errcode = 'HF900', message = format('accrual %s cannot change', old.id);
end
$$;

-- The commission on what was credited; whole pico-USD, rounded down, once per payment.
create function commission_on(p_base numeric, p_rate integer) returns numeric
language sql immutable parallel safe as $$
  select div(p_base * 1e12 * p_rate, 1000000) * 1e-12
$$;
grant execute on function commission_on to holdfast_management, holdfast_reporter, holdfast_auditor;

-- How much of it is lost when that much of the credit is gone, rounded down; the whole of it when all is gone.
create function commission_lost(p_base numeric, p_rate integer, p_reversed numeric) returns numeric
language sql immutable parallel safe as $$
  select case when p_base = 0 then 0 else div(commission_on(p_base, p_rate) * 1e12 * p_reversed, p_base) * 1e-12 end
$$;
grant execute on function commission_lost to holdfast_management, holdfast_reporter, holdfast_auditor;

-- Why an accrual may not be paid now, as a code; null where nothing is in the way. What takes back what was paid always
-- may.
create function commission_hold(p_accrual commission_accrual, p_at timestamptz) returns text
language sql stable as $$
  select case
    when p_accrual.kind = 'correction' then null
    when p_accrual.amount < 0 and exists (select from commission_accrual e
      where e.payment_id = p_accrual.payment_id and e.kind = 'earned' and e.run is not null) then null
    else coalesce(
      (select case r.state when 'waiting' then 'review' else r.state end
        from commission_review r where r.payment_id = p_accrual.payment_id and r.state <> 'approved'),
      (select 'review' where p_accrual.run is null and self_referral_signals(p_accrual.affiliate_id,
        p_accrual.account_id) <> '{}'),
      (select 'affiliate_blocked' from affiliate f where f.account_id = p_accrual.affiliate_id
        and f.blocked_at is not null),
      (select 'fraud_warning' from payment p join commission_rule rule on rule.version = p_accrual.rule_version
        where p.id = p_accrual.payment_id and p.warned_at > p_at - make_interval(days => rule.dispute_days)),
      (select 'dispute' from payment_reversal o join commission_rule rule on rule.version = p_accrual.rule_version
        where o.payment = p_accrual.payment_id and o.kind = 'dispute' and o.direction = 'out'
          and o.created_at > p_at - make_interval(days => rule.dispute_days)
          and not exists (select from payment_reversal i
            where i.provider = o.provider and i.object_id = o.object_id and i.direction = 'in')
        limit 1))
  end
$$;
grant execute on function commission_hold to holdfast_management, holdfast_reporter, holdfast_auditor;

-- Writes what a credited payment earns for who referred its account; nothing where nobody did.
create function accrue_commission(p_payment payment) returns void
language plpgsql as $$
declare
  v_referral referral;
  v_rule commission_rule;
  v_rate_ppm integer;
  v_signals text[];
begin
  select * into v_referral from referral where account_id = p_payment.account_id;
  if not found then
    return;
  end if;
  select * into v_rule from commission_rule order by version desc limit 1;
  select coalesce(f.rate_ppm, v_rule.rate_ppm) into v_rate_ppm from affiliate f
  where f.account_id = v_referral.affiliate_id;
  insert into commission_accrual (affiliate_id, kind, amount, payment_id, account_id, base, rate_ppm, rule_version,
    reversed_from, reversed_to, accrued_at, matures_at)
  values (v_referral.affiliate_id, 'earned', commission_on(p_payment.credited, v_rate_ppm), p_payment.id,
    p_payment.account_id, p_payment.credited, v_rate_ppm, v_rule.version, 0, 0, p_payment.credited_at,
    commission_matures_at(p_payment, v_rule));
  v_signals := self_referral_signals(v_referral.affiliate_id, p_payment.account_id);
  if v_signals <> '{}' then
    insert into commission_review (payment_id, affiliate_id, account_id, signals)
    values (p_payment.id, v_referral.affiliate_id, p_payment.account_id, v_signals);
  end if;
end
$$;

-- A payment by card may be charged back for weeks; one on a chain is either final or gone.
create function commission_matures_at(p_payment payment, p_rule commission_rule) returns timestamptz
language sql stable as $$
  select case when p_payment.provider = 'crypto' then p_payment.final_at + make_interval(days => p_rule.final_hold_days)
    else p_payment.credited_at + make_interval(days => p_rule.hold_days) end
$$;

-- Takes back, or gives again, the share of the commission that follows from how much of a payment's credit is gone.
-- What was earned and is in a run already leaves the correction to the next one; else both wait for the same day.
create function adjust_commission(p_payment payment, p_reversed_before usd) returns void
language plpgsql as $$
declare
  v_earned commission_accrual;
  v_change numeric;
begin
  -- Waits for a run that is taking it: then this accrual belongs to the run after.
  select * into v_earned from commission_accrual where payment_id = p_payment.id and kind = 'earned' for no key update;
  if not found then
    return;
  end if;
  v_change := commission_lost(v_earned.base, v_earned.rate_ppm, p_reversed_before)
    - commission_lost(v_earned.base, v_earned.rate_ppm, p_payment.reversed);
  if v_change = 0 then
    return;
  end if;
  insert into commission_accrual (affiliate_id, kind, amount, payment_id, account_id, base, rate_ppm, rule_version,
    reversed_from, reversed_to, reversal_id, accrued_at, matures_at)
  values (v_earned.affiliate_id, case when v_change < 0 then 'reversed' else 'restored' end, v_change, p_payment.id,
    v_earned.account_id, v_earned.base, v_earned.rate_ppm, v_earned.rule_version, p_reversed_before, p_payment.reversed,
    (select id from payment_reversal where payment = p_payment.id order by id desc limit 1), now(),
    case when v_earned.run is null then v_earned.matures_at else now() end);
end
$$;

-- The payment cannot vanish any more: what waited for that has a day now.
create function mature_commission(p_payment payment) returns void
language sql as $$
  update commission_accrual a set matures_at = commission_matures_at(p_payment, r) from commission_rule r
  where a.payment_id = p_payment.id and a.matures_at is null and r.version = a.rule_version
$$;

create function commission_follows_payment() returns trigger language plpgsql as $$
begin
  if tg_op = 'INSERT' then
    perform accrue_commission(new);
    return null;
  end if;
  if new.final_at is distinct from old.final_at then
    perform mature_commission(new);
  end if;
  if new.reversed <> old.reversed then
    perform adjust_commission(new, old.reversed);
  end if;
  return null;
end
$$;

-- What became of an affiliate's accruals at `p_at`. `phase` is where each stands on its own, `is_reversed` whether what
-- it was earned on is gone whole: then a further accrual has taken it back.
create function commission_entries(p_affiliate uuid, p_at timestamptz)
returns table (id uuid, kind text, amount usd, account_id uuid, payment_id uuid, base usd_not_negative,
  rate_ppm rate_ppm, rule_version integer, accrued_at timestamptz, matures_at timestamptz, run text, posting_id uuid,
  held_by text, phase text, is_reversed boolean)
language sql stable as $$
  select a.id, a.kind, a.amount, a.account_id, a.payment_id, a.base, a.rate_ppm, a.rule_version, a.accrued_at,
    a.matures_at, a.run, i.posting_id, h.held_by,
    case when i.accrual_id is not null then 'credited' when h.held_by in ('denied', 'review') then h.held_by
      when h.held_by is not null then 'held' when a.run is not null or a.matures_at <= p_at then 'matured'
        else 'pending' end,
    a.kind = 'earned' and exists (select from payment p where p.id = a.payment_id and p.reversed = p.credited
      and p.credited > 0)
  from commission_accrual a left join commission_item i on i.accrual_id = a.id
    left join lateral (select commission_hold(a, p_at) as held_by where a.run is null) h on true
  where a.affiliate_id = p_affiliate
$$;
grant execute on function commission_entries to holdfast_management, holdfast_reporter, holdfast_auditor;

create trigger guarded before update on commission_accrual for each row execute function guard_accrual();
create trigger append_only before delete on commission_accrual for each row execute function deny_change();
create trigger append_only_truncate before truncate on commission_accrual
  for each statement execute function deny_change();
create trigger accrues_commission after insert on payment for each row execute function commission_follows_payment();
create trigger adjusts_commission after update of reversed, final_at on payment
  for each row execute function commission_follows_payment();
create trigger append_only before update or delete on referral for each row execute function deny_change();
create trigger append_only_truncate before truncate on referral for each statement execute function deny_change();
