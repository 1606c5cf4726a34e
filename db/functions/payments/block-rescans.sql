-- Blocks that somebody wants read again. payments/chain-scans.sql has the lock order.

-- Has a range of blocks read again; the same range again, while it waits, is the same rescan. Nothing when too many
-- wait.
create function request_block_rescan(p_id uuid, p_chain bigint, p_from bigint, p_to bigint, p_open_max integer,
  p_by text) returns setof block_rescan
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('holdfast.block_rescan', p_chain));
  insert into block_rescan (id, chain_id, from_block, to_block, requested_by)
  select p_id, p_chain, p_from, p_to, p_by
  where (select count(*) from block_rescan where chain_id = p_chain and done_at is null and top_up_id is null)
    < p_open_max
  on conflict do nothing;
  return query select * from block_rescan
    where id = p_id or chain_id = p_chain and from_block = p_from and to_block = p_to and done_at is null
      and top_up_id is null
    order by id limit 1;
end
$$;
grant execute on function request_block_rescan to holdfast_worker, holdfast_management;

-- Has an order's own address read again in its own time, on each of the chains; at most once at a time.
create function request_order_rescans(p_top_up uuid, p_chains bigint[], p_by text) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  insert into block_rescan (chain_id, top_up_id, requested_by) select chain_id, p_top_up, p_by
  from unnest(p_chains) chain_id
  on conflict do nothing
$$;
grant execute on function request_order_rescans to holdfast_worker;

-- The rescan that a chain's watch goes on with: orders first, which are short; one that does not come on lets others
-- pass.
create function next_block_rescan(p_chain bigint)
returns table (id uuid, from_block bigint, to_block bigint, next_block bigint, address text, since double precision,
  until double precision)
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select r.id, r.from_block, r.to_block, coalesce(r.next_block, r.from_block), a.address,
    extract(epoch from t.created_at)::double precision, extract(epoch from t.expires_at)::double precision
  from block_rescan r left join top_up t on t.id = r.top_up_id left join deposit_address a on a.top_up_id = r.top_up_id
  where r.chain_id = p_chain and r.done_at is null and (r.top_up_id is null or a.address is not null)
  order by r.fault is not null, r.top_up_id is null, r.id limit 1
$$;
grant execute on function next_block_rescan to holdfast_worker;

-- Writes down how far a rescan has come: it is done when there is nothing left. What it found is added up.
create function advance_block_rescan(p_id uuid, p_from bigint, p_to bigint, p_next bigint, p_found integer,
  p_fault text) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  update block_rescan set from_block = p_from, to_block = p_to, next_block = p_next, found = found + p_found,
    fault = p_fault, done_at = case when p_next > p_to then clock_timestamp() end
  where id = p_id and done_at is null
$$;
grant execute on function advance_block_rescan to holdfast_worker;
