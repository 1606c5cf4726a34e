-- The addresses that orders were given, and where each was paid from.

-- Gives a top-up its address, once; a repeat returns the one that it has. Nothing when another top-up has that address:
-- the caller then derives the next one.
create function assign_deposit_address(p_top_up uuid, p_path text, p_wallet text, p_address text)
returns setof deposit_address
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  -- Positions become visible in their order, because the next one is given only after this transaction has ended.
  perform pg_advisory_xact_lock(hashtext('holdfast.deposit_address'));
  if exists (select from deposit_address where address = p_address and top_up_id <> p_top_up) then
    return;
  end if;
  insert into deposit_address (position, path, wallet, address, top_up_id)
  values ((select coalesce(max(position), 0) + 1 from deposit_address), p_path, p_wallet, p_address, p_top_up)
  on conflict (top_up_id) do nothing;
  return query select * from deposit_address where top_up_id = p_top_up;
end
$$;
grant execute on function assign_deposit_address to holdfast_worker;

create function deposit_address_of(p_top_up uuid) returns setof deposit_address
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select * from deposit_address where top_up_id = p_top_up
$$;
grant execute on function deposit_address_of to holdfast_worker;

create function watched_addresses(p_after integer, p_limit integer) returns setof deposit_address
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select * from deposit_address where position > p_after order by position limit p_limit
$$;
grant execute on function watched_addresses to holdfast_worker;
