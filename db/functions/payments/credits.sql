-- Payments that credit top-ups, once each. payments/top-ups.sql has the lock order.

-- A transaction that credits a payment holds it until the end of the transaction: it may be credited on two orders at
-- once, which do not wait for each other's row. After the order, before what was asked for by hand.
create function lock_payment(p_provider text, p_payment_id text) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  select pg_advisory_xact_lock(hashtextextended('holdfast.payment/'
    || case when p_payment_id like 'outside/%' then '' else p_provider end
    || '/' || p_payment_id, 0))
$$;

-- Credits a payment, once per (provider, payment id), in one transaction with the order's state. Returns the payment,
-- now or before; HF051 when it was credited for another order. A frozen account is credited as well: the money is the
-- customer's.
create function credit_payment(p_top_up uuid, p_payment_id text, p_received usd, p_credit usd, p_final boolean,
  p_by text) returns payment
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_top_up top_up;
  v_payment payment;
begin
  select * into v_top_up from top_up where id = p_top_up for no key update;
  if not found then
    perform refuse('HF001', 'top-up unknown');
  end if;
  perform lock_payment(v_top_up.provider, p_payment_id);
  select * into v_payment from payment where provider = v_top_up.provider and payment_id = p_payment_id;
  if found then
    if v_payment.top_up_id <> p_top_up then
      perform refuse('HF051', 'payment was credited for another top-up');
    end if;
    return v_payment;
  end if;
  v_payment.id := uuidv7();
  v_payment.posting_id := post_transfer('top_up', v_payment.id, system_account('cash:' || v_top_up.provider),
    v_top_up.account_id, p_credit, jsonb_build_object('top_up', v_top_up.id, 'provider', v_top_up.provider,
    'payment_id', p_payment_id, 'received', p_received::text,
      'fee', v_top_up.fee::text, 'credited_by', p_by), true);
  insert into payment (id, provider, payment_id, top_up_id, account_id, received, credited, posting_id, credited_by,
    final_at)
  values (v_payment.id, v_top_up.provider, p_payment_id, v_top_up.id, v_top_up.account_id, p_received, p_credit,
    v_payment.posting_id, p_by,
    case when p_final then now() end) returning * into v_payment;
  update top_up set state = 'credited', credited = credited + p_credit, stuck = null,
    received = greatest(received, (select sum(x.received) from payment x where x.top_up_id = p_top_up))
  where id = p_top_up;
  -- Who asked to credit it by hand need not decide any more.
  update hand_credit set state = 'superseded', decided_by = p_by, decided_at = now()
  where provider = v_top_up.provider and payment_id = p_payment_id and state = 'waiting';
  return v_payment;
end
$$;
grant execute on function credit_payment to holdfast_worker;

-- The payment itself cannot vanish any more.
create function finalize_payment(p_payment uuid) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  update payment set final_at = now() where id = p_payment and final_at is null
$$;
grant execute on function finalize_payment to holdfast_worker;

create function top_up_of_payment(p_provider text, p_payment_id text) returns uuid
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select top_up_id from payment where provider = p_provider and payment_id = p_payment_id
$$;
grant execute on function top_up_of_payment to holdfast_worker;

-- The credited payments of an order with the steps that were recorded for each.
create function payments_of(p_top_up uuid)
returns table (id uuid, payment_id text, received usd, credited usd, reversed usd, final_at timestamptz,
  warned_at timestamptz, steps text[])
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select p.id, p.payment_id, p.received, p.credited, p.reversed, p.final_at, p.warned_at,
    coalesce(array_agg(r.object_id || '/' || r.direction) filter (where r.id is not null), '{}')
  from payment p left join payment_reversal r on r.payment = p.id
  where p.top_up_id = p_top_up
  group by p.id order by p.id
$$;
grant execute on function payments_of to holdfast_worker;
