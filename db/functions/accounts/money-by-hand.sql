-- What one person may move alone: the sums, counted under a lock.

-- What a person moved alone, and what was moved so to an account, in the day and in the 30 days before a moment.
-- Vouchers count for their person when they are issued, and for an account when it redeems them.
create function hand_money_sums(p_person text, p_account uuid, p_at timestamptz)
returns table (person_day numeric, person_month numeric, account_day numeric, account_month numeric)
language plpgsql stable security definer set search_path = holdfast, pg_temp as $$
begin
  return query
  with of_person as (
    select amount, moved_at from hand_money where person = p_person and moved_at > p_at - interval '30 days'
  ), of_account as (
    select amount, moved_at from hand_money where account_id = p_account and moved_at > p_at - interval '30 days'
    union all
    select b.amount, v.redeemed_at from voucher v join voucher_batch b on b.id = v.batch_id and b.decided_by is null
    where v.redeemed_by = p_account and v.redeemed_at > p_at - interval '30 days'
  )
  select
    (select coalesce(sum(amount) filter (where moved_at > p_at - interval '1 day'), 0) from of_person),
    (select coalesce(sum(amount), 0) from of_person),
    (select coalesce(sum(amount) filter (where moved_at > p_at - interval '1 day'), 0) from of_account),
    (select coalesce(sum(amount), 0) from of_account);
end
$$;
grant execute on function hand_money_sums to holdfast_management, holdfast_reporter, holdfast_auditor;

-- Counts a movement that one person wants to make alone, and says whether it may be: neither it nor the sums with it
-- exceed the limits {movement, person_day, person_month, account_day, account_month}. Under a lock for the person and
-- for the account, so that two at once cannot both be the last. False counts nothing: it has to wait for a second
-- person. No limits: always false.
create function count_hand_money(p_kind text, p_subject uuid, p_by text, p_account uuid, p_amount numeric,
  p_limits jsonb) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_person text := require_person(p_by);
  v_worth numeric := abs(p_amount);
  v_sums record;
  v_now timestamptz;
begin
  if p_limits is null or v_worth > (p_limits ->> 'movement')::numeric then
    return false;
  end if;
  perform pg_advisory_xact_lock(hashtextextended('holdfast.hand_money/person/' || v_person, 0));
  if p_account is not null then
    perform pg_advisory_xact_lock(hashtextextended('holdfast.hand_money/account/' || p_account, 0));
  end if;
  v_now := clock_timestamp();
  select * into v_sums from hand_money_sums(v_person, p_account, v_now);
  if v_sums.person_day + v_worth > (p_limits ->> 'person_day')::numeric
    or v_sums.person_month + v_worth > (p_limits ->> 'person_month')::numeric
    or v_sums.account_day + v_worth > (p_limits ->> 'account_day')::numeric
      or v_sums.account_month + v_worth > (p_limits ->> 'account_month')::numeric
  then
    return false;
  end if;
  insert into hand_money (kind, subject, person, account_id, amount, moved_at, limits)
  values (p_kind, p_subject, v_person, p_account, v_worth, v_now, p_limits);
  return true;
end
$$;

-- Records an approval of what no person asked for (a reward above a cap, a commission under review), and says whether
-- it is enough: one within p_limits, which is then counted as moved by that person alone, else two. The caller holds
-- the subject's row.
create function approve_automatic(p_kind text, p_subject uuid, p_account uuid, p_amount numeric, p_by text,
  p_limits jsonb) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_alone boolean := not exists (select from approval where kind = p_kind and subject = p_subject)
    and count_hand_money(p_kind, p_subject, p_by, p_account, p_amount, p_limits);
begin
  return approve(p_kind, p_subject, null, p_by, case when v_alone then 1 else 2 end);
end
$$;

-- Whether so much more of what one person gave away alone would exceed the sums of an account, by the limits that it
-- was given under. Holds the account's lock from then on.
create function exceeds_account_sums(p_kind text, p_subject uuid, p_account uuid, p_amount numeric) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_limits jsonb := (select limits from hand_money where kind = p_kind and subject = p_subject);
  v_sums record;
begin
  perform pg_advisory_xact_lock(hashtextextended('holdfast.hand_money/account/' || p_account, 0));
  select * into v_sums from hand_money_sums(null, p_account, clock_timestamp());
  return v_sums.account_day + p_amount > (v_limits ->> 'account_day')::numeric
    or v_sums.account_month + p_amount > (v_limits ->> 'account_month')::numeric;
end
$$;

-- Every movement of money that people decided, with who asked and who decided. `alone`: no second person had a part in
-- it. What follows from the rules (a reward, a commission) was asked for by nobody.
create view hand_decision with (security_invoker = true) as
  select 'adjustment' as kind, id, account_id, abs(amount) as amount, requested_by, decided_by,
    decided_by is null as alone
  from adjustment where state = 'posted'
  union all
  select 'refund', id, account_id, amount, requested_by, decided_by, not needs_approval from request_refund
  where state = 'posted'
  union all
  select 'voucher_batch', id, null, amount * count, requested_by, decided_by, decided_by is null
  from voucher_batch where state in ('issued', 'void')
  union all
  select 'commission_correction', id, affiliate_id, abs(amount), requested_by, decided_by, decided_by is null
  from commission_correction where state = 'accrued'
  union all
  select 'hand_credit', id, account_id, amount, requested_by, decided_by, decided_by is null from hand_credit
  where state = 'posted'
  union all
  select 'reward', r.id, r.account_id, r.amount, nullif(r.requested_by, 'rules'), r.decided_by,
    case r.requested_by when 'rules' then (select count(*) < 2 from approval a
      where a.kind = 'reward' and a.subject = r.id)
      else r.decided_by is null end
  from reward r where r.state = 'posted' and (r.requested_by <> 'rules' or r.decided_by is not null)
  union all
  -- What it is worth changes with its payment afterwards; what it was worth is in hand_money.
  select 'commission_review', v.id, v.affiliate_id, 0, null, v.decided_by,
    (select count(*) < 2 from approval a where a.kind = 'commission_review' and a.subject = v.id)
  from commission_review v where v.state = 'approved';
grant select on hand_decision to holdfast_management, holdfast_reporter, holdfast_auditor;

create trigger append_only before update or delete on hand_money for each row execute function deny_change();
create trigger append_only_truncate before truncate on hand_money for each statement execute function deny_change();
