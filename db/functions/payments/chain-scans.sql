-- What RPC vendors have shown of each chain. Only top-ups and payments move money; what is here is evidence.
--
-- Lock order: rescan, cursor, deposit. None is held while a top-up or an account is locked.

create function chain_cursors(p_chain bigint) returns setof chain_cursor
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select * from chain_cursor where chain_id = p_chain
$$;
grant execute on function chain_cursors to holdfast_worker;

-- Where a vendor's cursor stood, the highest first.
create function chain_checkpoints(p_chain bigint, p_vendor text) returns setof chain_checkpoint
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select * from chain_checkpoint where chain_id = p_chain and vendor = p_vendor order by height desc
$$;
grant execute on function chain_checkpoints to holdfast_worker;

-- Keeps those of a vendor's findings that moved our own tokens, and returns those that were new.
create function keep_own_transfers(p_chain bigint, p_findings jsonb)
returns table (tx_hash text, ordinal integer, sender text, address text, symbol text, amount usd, height bigint,
  top_up_id uuid)
language sql security definer set search_path = holdfast, pg_temp as $$
  with found as (
    select * from jsonb_to_recordset(p_findings) as f(tx_hash text, ordinal integer, sender text, address text,
      token text, symbol text, units numeric, amount numeric, height bigint, block_hash text,
      block_time double precision, own boolean)
    where coalesce(own, false) or exists (select from deposit_address o where o.address = f.sender)
  ), kept as (
    insert into own_transfer (chain_id, tx_hash, ordinal, sender, address, token, symbol, units, amount, height,
      block_hash, block_time)
    select p_chain, tx_hash, ordinal, sender, address, token, symbol, units, amount, height, block_hash,
      to_timestamp(block_time)
    from found order by tx_hash, ordinal
    on conflict do nothing returning *
  )
  select k.tx_hash, k.ordinal, k.sender, k.address, k.symbol, k.amount::usd, k.height, a.top_up_id
  from kept k join deposit_address a on a.address = k.address
$$;

-- Keeps what a vendor showed. A transfer that is known keeps its row; in another block it is asked for again. What
-- moved our own tokens is no deposit: it becomes a case. Returns how many deposits were new.
create function keep_findings(p_chain bigint, p_findings jsonb) returns integer
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_new_deposits integer;
begin
  perform open_case('transfer_from_own_address', p_chain || '/' || kept.tx_hash || '/' || kept.ordinal,
    jsonb_build_object(
      'chain_id', p_chain, 'tx_hash', kept.tx_hash, 'from', kept.sender, 'to', kept.address, 'token', kept.symbol,
      'amount', kept.amount::text, 'height', kept.height, 'top_up', 'top_' || replace(kept.top_up_id::text, '-', ''),
      'what', 'the transaction moves tokens of our own addresses, so it brings none; nothing was credited'))
  from keep_own_transfers(p_chain, p_findings) kept;
  with found as (
    select * from jsonb_to_recordset(p_findings) as f(tx_hash text, ordinal integer, sender text, address text,
      token text, symbol text, units numeric, amount numeric, height bigint, block_hash text,
      block_time double precision, own boolean)
    where not coalesce(own, false) and not exists (select from deposit_address o where o.address = f.sender)
  )
  insert into deposit (chain_id, tx_hash, ordinal, sender, address, token, symbol, units, amount, height, block_hash,
    block_time)
  select p_chain, tx_hash, ordinal, sender, address, token, symbol, units, amount, height, block_hash,
    to_timestamp(block_time)
  from found order by tx_hash, ordinal
  on conflict (chain_id, tx_hash, ordinal) do nothing;
  get diagnostics v_new_deposits = row_count;
  update deposit d set recheck = true
  from jsonb_to_recordset(p_findings) as f(tx_hash text, ordinal integer, block_hash text)
  where d.chain_id = p_chain and d.tx_hash = f.tx_hash and d.ordinal = f.ordinal and not d.recheck
    and (d.block_hash <> f.block_hash or d.state = 'undone');
  return v_new_deposits;
end
$$;
grant execute on function keep_findings to holdfast_worker;

-- Stores a vendor's cursor together with what was found on the way to it; false when the cursor was moved by somebody
-- else meanwhile. After a change of the chain, `p_fork` is the last block that stayed: deposits above it are asked for
-- again.
create function record_scan(p_chain bigint, p_vendor text, p_expected text, p_fork bigint, p_height bigint, p_hash text,
  p_block_time double precision, p_head bigint, p_head_time double precision, p_safe bigint, p_finalized bigint,
  p_findings jsonb) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_cursor chain_cursor;
begin
  select * into v_cursor from chain_cursor where chain_id = p_chain and vendor = p_vendor for no key update;
  if v_cursor.hash is distinct from p_expected then
    return false;
  end if;
  insert into chain_cursor as x (chain_id, vendor, height, hash, block_time, head, head_time, safe, finalized)
  values (p_chain, p_vendor, p_height, p_hash, to_timestamp(p_block_time), p_head, to_timestamp(p_head_time), p_safe,
    p_finalized)
  on conflict (chain_id, vendor) do update set height = excluded.height, hash = excluded.hash,
    block_time = excluded.block_time, head = excluded.head, head_time = excluded.head_time, safe = excluded.safe,
    finalized = excluded.finalized, scanned_at = clock_timestamp()
  where x.hash is not distinct from p_expected;
  if not found then
    return false;
  end if;
  if p_fork is not null then
    delete from chain_checkpoint where chain_id = p_chain and vendor = p_vendor and height > p_fork;
    update deposit set recheck = true where chain_id = p_chain and height > p_fork and state <> 'undone'
      and not recheck;
  end if;
  insert into chain_checkpoint (chain_id, vendor, height, hash) values (p_chain, p_vendor, p_height, p_hash)
  on conflict (chain_id, vendor, height) do update set hash = excluded.hash;
  -- All above what cannot change, and below it a few, should it still change.
  delete from chain_checkpoint where chain_id = p_chain and vendor = p_vendor and height < coalesce((
    select min(height) from (select height from chain_checkpoint where chain_id = p_chain and vendor = p_vendor
      and height <= coalesce(p_finalized, p_height - 1000) order by height desc limit 32) kept), 0);
  if p_findings <> '[]' then
    perform keep_findings(p_chain, p_findings);
  end if;
  return true;
end
$$;
grant execute on function record_scan to holdfast_worker;

-- Up to when every one of the chains has been read by one vendor at least; null while one has not been read at all.
create function chains_read_until(p_chains bigint[]) returns timestamptz
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select case when count(read.until) = cardinality(p_chains) then min(read.until) end
  from unnest(p_chains) wanted (chain_id)
  left join lateral (select max(block_time) as until from chain_cursor c
    where c.chain_id = wanted.chain_id) read on true
$$;
grant execute on function chains_read_until to holdfast_worker;

-- Writes down whether a token counts as a dollar. Once it does again, top-ups that waited for that are told.
create function note_token(p_chain bigint, p_token text, p_fault text) returns void
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_before text;
begin
  select fault into v_before from chain_token where chain_id = p_chain and token = p_token;
  insert into chain_token (chain_id, token, fault, checked_at) values (p_chain, p_token, p_fault, clock_timestamp())
  on conflict (chain_id, token) do update set fault = excluded.fault, checked_at = excluded.checked_at;
  if v_before is not null and p_fault is null then
    update deposit d set told = null
    where chain_id = p_chain and token = p_token and state in ('spendable', 'final')
      and not exists (select from payment p where p.provider = 'crypto'
        and p.payment_id = d.chain_id || '/' || d.tx_hash || '/' || d.ordinal);
  end if;
end
$$;
grant execute on function note_token to holdfast_worker;
