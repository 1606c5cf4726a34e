-- Adjustments by hand. Lock order: adjustment, the person's and the account's sums (advisory), then accounts
-- (post_transfer).

create function post_adjustment(p_id uuid) returns uuid
language sql security definer set search_path = holdfast, pg_temp as $$
  select post_transfer('adjustment', x.id,
    case when x.amount > 0 then system_account('adjustment') else x.account_id end,
    case when x.amount > 0 then x.account_id else system_account('adjustment') end,
    abs(x.amount), jsonb_build_object('reason', x.reason, 'requested_by', x.requested_by, 'approved_by', x.decided_by),
    false)
  from adjustment x where x.id = p_id
$$;

-- Asks for an adjustment under an id of the caller's choice (repeatable). It is posted at once within p_limits, else it
-- waits. A debit never takes a customer below balance − held (HF006).
create function request_adjustment(p_id uuid, p_account uuid, p_amount usd, p_reason text, p_by text, p_limits jsonb)
returns adjustment
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_adjustment adjustment;
  v_made boolean;
begin
  perform require_person(p_by);
  perform 1 from account where id = p_account and kind = 'customer';
  if not found then
    perform refuse('HF001', 'account unknown');
  end if;
  insert into adjustment (id, account_id, amount, reason, state, requested_by)
  values (p_id, p_account, p_amount, p_reason, 'waiting', p_by) on conflict do nothing;
  v_made := found;
  select * into v_adjustment from adjustment where id = p_id for update;
  if (v_adjustment.account_id, v_adjustment.amount, v_adjustment.reason)
    is distinct from (p_account, p_amount::numeric, p_reason) then
    perform refuse('HF009', 'adjustment id reused');
  end if;
  if v_made and count_hand_money('adjustment', v_adjustment.id, p_by, p_account, p_amount, p_limits) then
    update adjustment set state = 'posted', decided_at = now(), posting_id = post_adjustment(p_id) where id = p_id
    returning * into v_adjustment;
  end if;
  return v_adjustment;
end
$$;
grant execute on function request_adjustment to holdfast_management;

-- A second person decides a waiting adjustment; the one who asked for it may only reject it (HF014).
create function decide_adjustment(p_id uuid, p_approve boolean, p_by text) returns adjustment
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_adjustment adjustment;
begin
  perform require_person(p_by);
  select * into v_adjustment from adjustment where id = p_id for update;
  if not found then
    perform refuse('HF008', 'adjustment unknown');
  end if;
  if v_adjustment.state <> 'waiting' then
    return v_adjustment;
  end if;
  if p_approve and not approve('adjustment', v_adjustment.id, v_adjustment.requested_by, p_by) then
    return v_adjustment;
  end if;
  update adjustment set decided_by = p_by, decided_at = now() where id = p_id;
  update adjustment set state = case when p_approve then 'posted' else 'rejected' end,
    posting_id = case when p_approve then post_adjustment(p_id) end
  where id = p_id returning * into v_adjustment;
  return v_adjustment;
end
$$;
grant execute on function decide_adjustment to holdfast_management;
