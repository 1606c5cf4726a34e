-- Vouchers: credit that an operator gives away by code.
--
-- Lock order: voucher, batch, then accounts (post_transfer).

create function freeze_redeemed_voucher() returns trigger language plpgsql as $$
begin
  raise exception using errcode = 'HF900', message = format('voucher %s is redeemed and cannot change', old.id);
end
$$;

-- What a voucher is at a moment; the one place that knows what comes before what.
create function voucher_state(p_voucher voucher, p_batch voucher_batch, p_at timestamptz) returns text
language sql immutable as $$
  select case
    when p_voucher.redeemed_at is not null then 'redeemed'
    when p_batch.state in ('void', 'rejected') then 'void'
    when p_batch.expires_at <= p_at then 'expired'
    else p_batch.state
  end
$$;
grant execute on function voucher_state to holdfast_management, holdfast_reporter, holdfast_auditor;

-- Makes a batch with its vouchers under an id of the caller's choice. It waits for a second person when what it is
-- worth in total exceeds p_limits; until then its codes redeem nothing.
create function create_voucher_batch(p_id uuid, p_name text, p_amount usd, p_expires_at timestamptz, p_reason text,
  p_by text, p_limits jsonb, p_hashes bytea[], p_prefixes text[]) returns voucher_batch
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_batch voucher_batch;
begin
  perform require_person(p_by);
  insert into voucher_batch (id, name, state, count, amount, expires_at, reason, requested_by, decided_at)
  select p_id, p_name, case when waits then 'waiting' else 'issued' end, cardinality(p_hashes), p_amount, p_expires_at,
    p_reason, p_by, case when not waits then now() end
  from (select not count_hand_money('voucher_batch', p_id, p_by, null, p_amount * cardinality(p_hashes), p_limits)
    as waits) judged
  returning * into v_batch;
  insert into voucher (batch_id, hash, prefix) select p_id, t.hash, t.prefix
  from unnest(p_hashes, p_prefixes) as t (hash, prefix);
  return v_batch;
end
$$;
grant execute on function create_voucher_batch to holdfast_management;

-- A second person decides a waiting batch; the one who asked for it may only reject it (HF014). A batch that was issued
-- by one person alone may be approved later: from then on the sums of the accounts that redeem it keep nothing of it
-- back.
create function decide_voucher_batch(p_id uuid, p_approve boolean, p_by text) returns voucher_batch
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_batch voucher_batch;
begin
  perform require_person(p_by);
  select * into v_batch from voucher_batch where id = p_id for no key update;
  if not found then
    perform refuse('HF008', 'voucher batch unknown');
  end if;
  if v_batch.state <> 'waiting' and not (p_approve and v_batch.state = 'issued' and v_batch.decided_by is null) then
    return v_batch;
  end if;
  if p_approve and not approve('voucher_batch', v_batch.id, v_batch.requested_by, p_by) then
    return v_batch;
  end if;
  update voucher_batch set state = case when p_approve then 'issued' else 'rejected' end, decided_by = p_by,
    decided_at = now()
  where id = p_id returning * into v_batch;
  return v_batch;
end
$$;
grant execute on function decide_voucher_batch to holdfast_management;

-- Ends an issued batch: what is not redeemed yet never will be. A batch in another state stays as it is.
create function void_voucher_batch(p_id uuid, p_reason text, p_by text) returns voucher_batch
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_batch voucher_batch;
begin
  perform require_person(p_by);
  update voucher_batch set state = 'void', voided_by = p_by, voided_at = now(), void_reason = p_reason
  where id = p_id and state = 'issued';
  select * into v_batch from voucher_batch where id = p_id;
  if not found then
    perform refuse('HF008', 'voucher batch unknown');
  end if;
  return v_batch;
end
$$;
grant execute on function void_voucher_batch to holdfast_management;

-- Redeems a voucher for an account, once. The verdict is a value, not a refusal: `redeemed` (also for the account that
-- redeemed it before, with what was answered then), `taken` by another account, `beyond_sums` where one person alone
-- gave it and the account would have more of such money than the limits of its batch allow, or the state that keeps it
-- from being redeemed; no row when no voucher has this hash. The batch is locked against being ended meanwhile, so a
-- void batch's counts are final.
create function redeem_voucher(p_hash bytea, p_account uuid)
returns table (verdict text, id uuid, amount usd, redeemed_at timestamptz, posting_id uuid)
language plpgsql security definer set search_path = holdfast, pg_temp as $$
#variable_conflict use_column
declare
  v_voucher voucher;
  v_batch voucher_batch;
  v_state_now text;
begin
  select * into v_voucher from voucher where hash = p_hash for no key update;
  if not found then
    return;
  end if;
  select * into v_batch from voucher_batch where voucher_batch.id = v_voucher.batch_id for share;
  v_state_now := voucher_state(v_voucher, v_batch, clock_timestamp());
  if v_state_now = 'issued' then
    if exists (select from account where account.id = p_account and frozen_at is not null) then
      perform refuse('HF004', 'account frozen');
    end if;
    -- What one person gave away alone counts for the account: as any manual movement, under its lock.
    if v_batch.decided_by is null and exceeds_account_sums('voucher_batch', v_batch.id, p_account, v_batch.amount) then
      return query select 'beyond_sums', v_voucher.id, v_batch.amount, v_voucher.redeemed_at, v_voucher.posting_id;
      return;
    end if;
    v_voucher.posting_id := post_transfer('voucher', v_voucher.id, system_account('promo:voucher'), p_account,
      v_batch.amount,
      jsonb_build_object('batch', v_batch.id, 'name', v_batch.name, 'reason', v_batch.reason,
        'requested_by', v_batch.requested_by, 'approved_by', v_batch.decided_by),
      false);
    update voucher set redeemed_by = p_account, redeemed_at = clock_timestamp(), posting_id = v_voucher.posting_id
    where voucher.id = v_voucher.id returning * into v_voucher;
    v_state_now := 'redeemed';
  end if;
  return query select case when v_state_now = 'redeemed' and v_voucher.redeemed_by <> p_account then 'taken'
    else v_state_now end, v_voucher.id, v_batch.amount, v_voucher.redeemed_at, v_voucher.posting_id;
end
$$;
grant execute on function redeem_voucher to holdfast_management;

-- Counts an attempt before it is made. Returns null when it may be made, else the seconds until the window ends.
create function count_voucher_attempt(p_account uuid, p_max integer, p_window_seconds numeric) returns numeric
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_now timestamptz := clock_timestamp();
  v_window_length interval := make_interval(secs => p_window_seconds::double precision);
  v_attempt voucher_attempt;
begin
  insert into voucher_attempt as t (account_id, window_start, attempts) values (p_account, v_now, 1)
  on conflict (account_id) do update set
    window_start = case when t.window_start + v_window_length <= v_now then v_now else t.window_start end,
    attempts = case when t.window_start + v_window_length <= v_now then 1 else least(t.attempts, p_max) + 1 end
  returning * into v_attempt;
  if v_attempt.attempts <= p_max then
    return null;
  end if;
  -- An earlier call may have begun the window after this call had looked at the clock.
  return least(greatest(extract(epoch from v_attempt.window_start + v_window_length - v_now), 1), p_window_seconds);
end
$$;
grant execute on function count_voucher_attempt to holdfast_management;

-- An attempt that redeemed something does not count.
create function forget_voucher_attempt(p_account uuid) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  update voucher_attempt set attempts = attempts - 1 where account_id = p_account and attempts > 0
$$;
grant execute on function forget_voucher_attempt to holdfast_management;

create trigger frozen_once_redeemed before update on voucher for each row
  when (old.redeemed_at is not null) execute function freeze_redeemed_voucher();
create trigger never_deleted before delete on voucher for each row execute function deny_change();
create trigger never_truncated before truncate on voucher for each statement execute function deny_change();
