-- Credits that people ask for, keyed as automatic ones. payments/auto-top-ups.sql has the lock order.

-- The payment of an order that a person may credit, by its own key: one that the provider shows for this order, or that
-- its statement lists for none. Else HF050, and HF051 for one of another order: a credit under a wrong key would not
-- keep the right one from being credited as well. Nothing for money that came outside of the provider,
-- `outside/<reference>`.
create function creditable_payment(p_top_up top_up, p_payment_id text) returns known_payment
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_known known_payment;
begin
  if p_payment_id like 'outside/%' then
    return null;
  end if;
  select * into v_known from known_payment where provider = p_top_up.provider and payment_id = p_payment_id for share;
  if not found or v_known.status = 'gone' then
    perform refuse('HF050', 'the provider does not show this payment');
  end if;
  if v_known.top_up_id <> p_top_up.id then
    perform refuse('HF051', 'the payment is of another order');
  end if;
  return v_known;
end
$$;

-- Credits what a person vouches for, through the same function and key as a payment that credits itself.
create function post_hand_credit(p_id uuid) returns hand_credit
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_credit hand_credit;
  v_payment payment;
begin
  select * into v_credit from hand_credit where id = p_id;
  perform creditable_payment(t, v_credit.payment_id) from top_up t where t.id = v_credit.top_up_id;
  v_payment := credit_payment(v_credit.top_up_id, v_credit.payment_id, v_credit.amount, v_credit.amount, true,
    coalesce(v_credit.requested_by, v_credit.decided_by));
  update hand_credit set state = 'posted', payment = v_payment.id, decided_at = coalesce(v_credit.decided_at, now()),
    decided_by = v_credit.decided_by
  where id = p_id returning * into v_credit;
  return v_credit;
end
$$;

-- Asks for a manual credit under an action's name (repeatable). It is posted at once within p_limits, as long as the
-- provider shows the payment as paid, in the order's currency and mode, and neither it nor the order is credited with
-- more than was received; else it waits. p_by null: nobody of the interface asks, and it always waits. Refuses HF032
-- for a payment that is credited, HF033 for one that waits, and as creditable_payment.
create function request_hand_credit(p_action text, p_top_up uuid, p_payment_id text, p_amount usd, p_reason text,
  p_by text, p_limits jsonb) returns hand_credit
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_top_up top_up;
  v_known known_payment;
  v_credit hand_credit;
begin
  if p_by is not null then
    perform require_person(p_by);
  end if;
  select * into v_top_up from top_up where id = p_top_up for no key update;
  if not found then
    perform refuse('HF001', 'top-up unknown');
  end if;
  select * into v_credit from hand_credit where action = p_action;
  if found then
    if (v_credit.top_up_id, v_credit.payment_id, v_credit.amount, v_credit.reason)
      is distinct from (p_top_up, p_payment_id, p_amount::numeric, p_reason) then
      perform refuse('HF009', 'action was used for another credit');
    end if;
    return v_credit;
  end if;
  perform lock_payment(v_top_up.provider, p_payment_id);
  if exists (select from payment where provider = v_top_up.provider and payment_id = p_payment_id)
    or p_payment_id like 'outside/%' and exists (select from payment
      where payment_id = p_payment_id and payment_id like 'outside/%')
  then
    perform refuse('HF032', 'payment is credited already');
  end if;
  if p_payment_id like 'outside/%' and exists (select from hand_credit
    where payment_id = p_payment_id and payment_id like 'outside/%'
    and state in ('waiting', 'posted'))
  then
    perform refuse('HF033', 'a credit of this payment waits already');
  end if;
  v_known := creditable_payment(v_top_up, p_payment_id);
  insert into hand_credit (action, top_up_id, account_id, provider, payment_id, amount, reason, is_known, shown,
    shown_currency, requested_by)
  values (p_action, v_top_up.id, v_top_up.account_id, v_top_up.provider, p_payment_id, p_amount, p_reason,
    coalesce(v_known.status = 'paid' and v_known.top_up_id = v_top_up.id and v_known.currency = v_top_up.currency
      and v_known.live = v_top_up.live, false), v_known.received, v_known.currency, p_by)
  on conflict (provider, payment_id) where state in ('waiting', 'posted') do nothing returning * into v_credit;
  if not found then
    perform refuse('HF033', 'a credit of this payment waits already');
  end if;
  if p_by is not null and v_credit.is_known and p_amount <= v_known.received
    and v_top_up.credited + p_amount <= v_top_up.received
    and count_hand_money('hand_credit', v_credit.id, p_by, v_top_up.account_id, p_amount, p_limits)
  then
    return post_hand_credit(v_credit.id);
  end if;
  return v_credit;
end
$$;
grant execute on function request_hand_credit to holdfast_management;

-- The same from Temporal, where any name can be typed and none counts: what is asked for there waits for two persons of
-- the interface.
create function ask_hand_credit(p_action text, p_top_up uuid, p_payment_id text, p_amount usd, p_reason text)
returns hand_credit
language sql security definer set search_path = holdfast, pg_temp as $$
  select request_hand_credit(p_action, p_top_up, p_payment_id, p_amount, p_reason, null, null)
$$;
grant execute on function ask_hand_credit to holdfast_worker;

-- A second person decides a waiting credit; the one who asked for it may only reject it (HF014). The first of two that
-- are needed leaves it waiting.
create function decide_hand_credit(p_id uuid, p_approve boolean, p_by text) returns hand_credit
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_credit hand_credit;
begin
  perform require_person(p_by);
  -- The order and the payment first, as credit_payment locks them.
  perform 1 from top_up where id = (select top_up_id from hand_credit where id = p_id) for no key update;
  perform lock_payment(provider, payment_id) from hand_credit where id = p_id;
  select * into v_credit from hand_credit where id = p_id for update;
  if not found then
    perform refuse('HF001', 'manual credit unknown');
  end if;
  if v_credit.state <> 'waiting' then
    return v_credit;
  end if;
  if not p_approve then
    update hand_credit set state = 'rejected', decided_by = p_by, decided_at = now() where id = p_id
    returning * into v_credit;
    return v_credit;
  end if;
  if not approve('hand_credit', v_credit.id, v_credit.requested_by, p_by) then
    return v_credit;
  end if;
  update hand_credit set decided_by = p_by where id = p_id;
  return post_hand_credit(p_id);
end
$$;
grant execute on function decide_hand_credit to holdfast_management;

create function hand_credits_of(p_top_up uuid) returns setof hand_credit
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select * from hand_credit where top_up_id = p_top_up order by id
$$;
grant execute on function hand_credits_of to holdfast_worker, holdfast_management;
