-- What is taken back of payments: refunds, disputes, reorganizations. payments/top-ups.sql has the lock order.
--
-- How much is moved is planned in domain/payments/top-up.ts (planReversals) and holds only while the payment is as it
-- was planned on. Whether automatic top-ups freeze with it is decided here: what is left of the payment is known only
-- under its lock.

-- Records one step of a reversal and moves its money, once per (provider, object, direction). `p_expected` is what was
-- reversed when the step was planned: false when that is no longer so, and the caller plans again. The balance may fall
-- below zero. A dispute, and a refund after which nothing is left, freeze automatic top-ups with it: a customer who
-- took money back is not charged again unasked.
create function reverse_payment(p_payment uuid, p_object text, p_kind text, p_direction text, p_amount usd,
  p_expected usd) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_payment payment;
  v_reversal_id uuid := uuidv7();
  v_posting_id uuid;
  v_cash uuid;
begin
  perform lock_auto_top_up((select account_id from payment where id = p_payment));
  select * into v_payment from payment where id = p_payment for no key update;
  if not found then
    perform refuse('HF001', 'payment unknown');
  end if;
  if exists (select from payment_reversal where provider = v_payment.provider and object_id = p_object
    and direction = p_direction) then
    return true;
  end if;
  if v_payment.reversed <> p_expected then
    return false;
  end if;
  if p_amount > 0 then
    v_cash := system_account('cash:' || v_payment.provider);
    v_posting_id := post_transfer(case p_direction when 'out' then 'top_up_reversal' else 'top_up_reversal_undone' end,
      v_reversal_id,
      case p_direction when 'out' then v_payment.account_id else v_cash end,
        case p_direction when 'out' then v_cash else v_payment.account_id end,
      p_amount, jsonb_build_object('top_up', v_payment.top_up_id, 'provider', v_payment.provider,
        'payment_id', v_payment.payment_id, 'object_id', p_object, 'kind', p_kind), true);
  end if;
  insert into payment_reversal (id, provider, object_id, direction, kind, payment, amount, posting_id)
  values (v_reversal_id, v_payment.provider, p_object, p_direction, p_kind, p_payment, p_amount, v_posting_id);
  update payment set reversed = reversed + case p_direction when 'out' then p_amount else -p_amount end
  where id = p_payment;
  if p_direction = 'in' then
    perform free_auto_top_up(v_payment.account_id, v_payment.provider || ' ' || p_object, 'provider');
  elsif p_kind = 'dispute' or p_kind = 'refund' and v_payment.reversed + p_amount >= v_payment.credited then
    -- This is reached once per object: money is gone only now, whatever a person has freed before.
    perform freeze_auto_top_up(v_payment.account_id, p_kind, v_payment.provider || ' ' || p_object, true);
  end if;
  return true;
end
$$;
grant execute on function reverse_payment to holdfast_worker;

-- Writes down which reversals of a payment can still change: these, and no others.
create function keep_open_reversals(p_payment uuid, p_objects text[]) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  delete from open_reversal where payment = p_payment and object_id <> all (p_objects);
  insert into open_reversal (payment, object_id) select p_payment, unnest(p_objects) on conflict do nothing
$$;
grant execute on function keep_open_reversals to holdfast_worker;

-- Reversals that can still change and whose order nobody has asked the provider for in so long that their run may be
-- gone, the longest first. No bank keeps a dispute open for half a year: an older one is left to the comparison with
-- the provider's statement.
create function find_quiet_reversals(p_age_seconds numeric, p_poll_seconds numeric, p_limit integer)
returns table (provider text, object_id text, top_up_id uuid)
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select p.provider, o.object_id, t.id
  from open_reversal o join payment p on p.id = o.payment join top_up t on t.id = p.top_up_id
  where o.seen_at > clock_timestamp() - interval '180 days'
    and t.looked_at < clock_timestamp() - make_interval(secs => (p_age_seconds + p_poll_seconds)::double precision)
  order by t.looked_at, o.object_id limit p_limit
$$;
grant execute on function find_quiet_reversals to holdfast_worker;

create trigger append_only before update or delete on payment_reversal for each row execute function deny_change();
create trigger append_only_truncate before truncate on payment_reversal
  for each statement execute function deny_change();
