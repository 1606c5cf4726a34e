-- Notices to customers, and who has to get the low-balance one.

-- Tells a customer of something that staff did with their account.
create function tell_account(p_account uuid, p_kind text, p_details jsonb) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  insert into notice (account_id, kind, details) values (p_account, p_kind, p_details)
$$;
grant execute on function tell_account to holdfast_management;

-- Writes the low-balance notice unless the balance has recovered or it was written before; says whether it was written.
create function notice_low_balance(p_account uuid) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_account account;
begin
  update account set low_balance_noticed_at = clock_timestamp()
  where id = p_account and low_balance_noticed_at is null and balance < low_balance_usd returning * into v_account;
  if not found then
    return false;
  end if;
  insert into notice (account_id, kind, details) values (p_account, 'low_balance',
    jsonb_build_object('balance_usd', v_account.balance::numeric(38,12)::text,
      'threshold_usd', v_account.low_balance_usd::numeric(38,12)::text));
  return true;
end
$$;
grant execute on function notice_low_balance to holdfast_worker;

-- Which accounts of these requests have fallen below their threshold and were not told: a level, not an edge, so a
-- crash between charge and follow-up loses nothing.
create function accounts_to_notify(p_requests uuid[]) returns uuid[]
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select coalesce(array_agg(a.id), '{}') from account a
  where a.id in (select r.account_id from unnest(p_requests) as wanted (id) join request r using (id))
    and a.low_balance_noticed_at is null and a.balance < a.low_balance_usd
$$;
grant execute on function accounts_to_notify to holdfast_worker;
