-- What freezes automatic top-ups, and frees them again. payments/auto-top-ups.sql has the lock order.
--
-- What freezes them is decided here and in reverse_payment, not in domain/payments/auto-top-up.ts, which takes a freeze
-- as given: whether a cause is new, and what is left of a payment, is known only under the lock of its row.

-- Freezes automatic top-ups for a cause, once: what a person has freed stays free, however often its cause is seen
-- again. It freezes again where the cause has become more than it was: p_again when it has taken money only now (an
-- inquiry that becomes a dispute), and where the provider, which had let go of it, comes back to it. Tells the
-- customer, whose card would else be charged.
create function freeze_auto_top_up(p_account uuid, p_kind text, p_cause text, p_again boolean default false)
returns void
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  insert into auto_top_up_freeze as f (account_id, cause, kind) values (p_account, p_cause, p_kind)
  on conflict (account_id, cause) do update set frozen_at = now(), freed_at = null, freed_by = null
  where f.freed_at is not null and (p_again or f.freed_by = 'provider');
  if not found then
    return;
  end if;
  insert into auto_top_up (account_id, state, frozen_at, frozen_reason)
  values (p_account, 'off', now(), p_kind || ' ' || p_cause)
  on conflict (account_id) do update set frozen_at = excluded.frozen_at, frozen_reason = excluded.frozen_reason
  where auto_top_up.frozen_at is null;
  insert into notice (account_id, kind, details)
  select p_account, 'auto_top_up_frozen', jsonb_build_object('reason', p_kind)
  from auto_top_up where account_id = p_account and state <> 'off';
end
$$;

-- Frees automatic top-ups of one cause, or of all; they are free once no cause is left. Says whether they were frozen
-- and are not now.
create function free_auto_top_up(p_account uuid, p_cause text, p_by text) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  update auto_top_up_freeze set freed_at = now(), freed_by = p_by
  where account_id = p_account and freed_at is null and (p_cause is null or cause = p_cause);
  if exists (select from auto_top_up_freeze where account_id = p_account and freed_at is null) then
    return false;
  end if;
  update auto_top_up set frozen_at = null, frozen_reason = null, changed_at = now()
  where account_id = p_account and frozen_at is not null;
  return found;
end
$$;

-- A person has looked into what froze it. Says whether it was frozen.
create function unfreeze_auto_top_up(p_account uuid, p_by text) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  perform require_person(p_by);
  return free_auto_top_up(p_account, null, p_by);
end
$$;
grant execute on function unfreeze_auto_top_up to holdfast_management;

-- Disputes of a payment to an account that are open, also those that have taken no money yet or of a payment that was
-- never credited, freeze automatic top-ups; those that are over in our favour free them again.
create function note_disputes(p_account uuid, p_provider text, p_open text[], p_won text[]) returns void
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  perform lock_auto_top_up(p_account);
  perform freeze_auto_top_up(p_account, 'dispute', p_provider || ' ' || x) from unnest(p_open) x;
  perform free_auto_top_up(p_account, p_provider || ' ' || x, 'provider') from unnest(p_won) x
  where exists (select from auto_top_up_freeze f
    where f.account_id = p_account and f.cause = p_provider || ' ' || x and f.freed_at is null);
end
$$;
grant execute on function note_disputes to holdfast_worker;

-- The card's bank takes a credited payment for fraud: a case with what a person needs, no automatic charges, and, where
-- asked for and something of the payment is left, no spending until a person has looked. Once per payment; says whether
-- it was now.
create function warn_payment(p_payment uuid, p_evidence jsonb, p_freeze boolean) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_payment payment;
  v_spent numeric;
  v_rest numeric;
begin
  update payment set warned_at = now() where id = p_payment and warned_at is null returning * into v_payment;
  if not found then
    return false;
  end if;
  select least(v_payment.credited, coalesce(sum(amount), 0)) into v_spent
  from posting where debit = v_payment.account_id and kind = 'charge' and created_at >= v_payment.credited_at;
  v_rest := greatest(v_payment.credited - v_payment.reversed - v_spent, 0);
  perform open_case('early_fraud_warning', v_payment.payment_id, p_evidence || jsonb_build_object(
    'payment', v_payment.payment_id,
    'top_up', 'top_' || replace(v_payment.top_up_id::text, '-', ''),
    'account', 'acct_' || replace(v_payment.account_id::text, '-', ''),
    'credited_usd', v_payment.credited::numeric(38,12)::text,
    'reversed_usd', v_payment.reversed::numeric(38,12)::text,
    'spent_since_usd', v_spent::numeric(38,12)::text,
    'left_usd', v_rest::numeric(38,12)::text));
  perform freeze_auto_top_up(v_payment.account_id, 'fraud_warning', v_payment.provider || ' ' || v_payment.payment_id);
  if p_freeze and v_rest > 0 then
    perform freeze_account(v_payment.account_id, 'fraud', 'early fraud warning on ' || v_payment.payment_id);
  end if;
  return true;
end
$$;
grant execute on function warn_payment to holdfast_worker;
