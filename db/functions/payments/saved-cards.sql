-- Cards that are kept, and the customer objects that they belong to at their provider.

-- The customer object that is in use, else the number for a new one.
create function payment_customer_of(p_account uuid, p_provider text) returns table (customer_id text, next_n integer)
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select max(c.customer_id) filter (where c.deleted_at is null), coalesce(max(c.n), 0) + 1
  from payment_customer c where c.account_id = p_account and c.provider = p_provider
$$;
grant execute on function payment_customer_of to holdfast_worker;

-- Keeps a customer object; the first one counts. Returns the one in use.
create function keep_payment_customer(p_account uuid, p_provider text, p_n integer, p_customer text) returns text
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  insert into payment_customer (account_id, provider, n, customer_id) values (p_account, p_provider, p_n, p_customer)
  on conflict do nothing;
  return (select customer_id from payment_customer where account_id = p_account and provider = p_provider
    and deleted_at is null);
end
$$;
grant execute on function keep_payment_customer to holdfast_worker;

create function note_top_up_customer(p_top_up uuid, p_customer text) returns top_up
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_top_up top_up;
begin
  update top_up set customer_id = p_customer where id = p_top_up and customer_id is null;
  select * into v_top_up from top_up where id = p_top_up;
  return v_top_up;
end
$$;
grant execute on function note_top_up_customer to holdfast_worker;

-- Keeps a card, once; it replaces the account's former one. A removed card does not come back.
create function save_card(p_account uuid, p_provider text, p_customer text, p_method text, p_brand text, p_last4 text,
  p_exp_month integer, p_exp_year integer, p_fingerprint text) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  perform pg_advisory_xact_lock(hashtextextended(p_account::text, 9));
  if exists (select from saved_card where provider = p_provider and payment_method = p_method) then
    return false;
  end if;
  update saved_card set removed_at = now(), removed_reason = 'replaced'
  where account_id = p_account and removed_at is null;
  insert into saved_card (account_id, provider, customer_id, payment_method, brand, last4, exp_month, exp_year,
    fingerprint)
  values (p_account, p_provider, p_customer, p_method, p_brand, p_last4, p_exp_month, p_exp_year, p_fingerprint);
  return true;
end
$$;
grant execute on function save_card to holdfast_worker;

-- A saved card, or all cards of a customer object, are gone at the provider. Says how many of ours that were.
create function remove_cards(p_provider text, p_method text, p_customer text, p_reason text) returns integer
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_gone uuid[];
begin
  update payment_customer set deleted_at = now() where provider = p_provider and customer_id = p_customer
    and deleted_at is null;
  with removed as (
    update saved_card set removed_at = now(), removed_reason = p_reason
    where provider = p_provider and (payment_method = p_method or customer_id = p_customer) and removed_at is null
    returning account_id
  )
  select coalesce(array_agg(account_id), '{}') into v_gone from removed;
  perform pause_auto_top_up(x, 'card_removed', '{}') from unnest(v_gone) x;
  return cardinality(v_gone);
end
$$;
grant execute on function remove_cards to holdfast_worker;
