-- Corrections by hand: an accrual of the next run. Lock order: correction, the sums (advisory).

create function accrue_correction(p_correction commission_correction) returns void
language sql as $$
  insert into commission_accrual (id, affiliate_id, kind, amount, rule_version, accrued_at, matures_at)
  select p_correction.id, p_correction.affiliate_id, 'correction', p_correction.amount, max(version), now(), now()
  from commission_rule
$$;

-- Asks for a correction under an id of the caller's choice (repeatable). It is accrued at once within p_limits, else it
-- waits.
create function request_commission_correction(p_id uuid, p_affiliate uuid, p_amount usd, p_reason text, p_by text,
  p_limits jsonb) returns commission_correction
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_correction commission_correction;
  v_made boolean;
begin
  perform require_person(p_by);
  perform 1 from affiliate where account_id = p_affiliate;
  if not found then
    perform refuse('HF001', 'affiliate unknown');
  end if;
  insert into commission_correction (id, affiliate_id, amount, reason, requested_by)
  values (p_id, p_affiliate, p_amount, p_reason, p_by) on conflict do nothing;
  v_made := found;
  select * into v_correction from commission_correction where id = p_id for update;
  if (v_correction.affiliate_id, v_correction.amount, v_correction.reason)
    is distinct from (p_affiliate, p_amount::numeric, p_reason) then
    perform refuse('HF009', 'correction id reused');
  end if;
  if v_made and count_hand_money('commission_correction', v_correction.id, p_by, p_affiliate, p_amount, p_limits) then
    update commission_correction set state = 'accrued', decided_at = now() where id = p_id
    returning * into v_correction;
    perform accrue_correction(v_correction);
  end if;
  return v_correction;
end
$$;
grant execute on function request_commission_correction to holdfast_management;

-- A second person decides a waiting correction; the one who asked for it may only reject it (HF014).
create function decide_commission_correction(p_id uuid, p_approve boolean, p_by text) returns commission_correction
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_correction commission_correction;
begin
  perform require_person(p_by);
  select * into v_correction from commission_correction where id = p_id for update;
  if not found then
    perform refuse('HF008', 'correction unknown');
  end if;
  if v_correction.state <> 'waiting' then
    return v_correction;
  end if;
  if p_approve and not approve('commission_correction', v_correction.id, v_correction.requested_by, p_by) then
    return v_correction;
  end if;
  update commission_correction set state = case when p_approve then 'accrued' else 'rejected' end, decided_by = p_by,
    decided_at = now()
  where id = p_id returning * into v_correction;
  if p_approve then
    perform accrue_correction(v_correction);
  end if;
  return v_correction;
end
$$;
grant execute on function decide_commission_correction to holdfast_management;
