-- Transfers to our addresses, and what two vendors agree on of each (domain/payments/deposit.ts).
-- payments/chain-scans.sql has the lock order.

-- The deposits of an order, with what is left to wait for: the head that two vendors have reached, and the token's
-- state.
create view deposit_standing with (security_invoker = true) as
  select d.*, a.top_up_id, h.head, t.fault as token_fault, exists (select from payment p
      where p.provider = 'crypto' and p.payment_id = d.chain_id || '/' || d.tx_hash || '/' || d.ordinal) as credited
  from deposit d join deposit_address a on a.address = d.address
  left join lateral (select c.head from chain_cursor c where c.chain_id = d.chain_id order by c.head desc offset 1
    limit 1) h on true
  left join chain_token t on t.chain_id = d.chain_id and t.token = d.token;
grant select on deposit_standing to holdfast_management, holdfast_reporter, holdfast_auditor;

-- Deposits that have to be asked for, and those whose top-up has not heard of their state. A deposit that is gone is
-- asked for a while longer: its transaction may be waiting for another block. Each kind by an index of its own, so that
-- those long done cost nothing.
create function open_deposits(p_chain bigint)
returns table (id uuid, top_up_id uuid, tx_hash text, ordinal integer, sender text, address text, token text,
  symbol text, units numeric, amount usd, state text, height bigint, block_hash text, recheck boolean,
  disputed_seconds double precision, told text)
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select d.id, a.top_up_id, d.tx_hash, d.ordinal, d.sender, d.address, d.token, d.symbol, d.units, d.amount, d.state,
    d.height, d.block_hash, d.recheck, extract(epoch from clock_timestamp() - d.disputed_since)::double precision,
    d.told
  from (
    select id from deposit where chain_id = p_chain and state in ('seen', 'spendable')
    union select id from deposit where chain_id = p_chain and recheck
    union select id from deposit where chain_id = p_chain and has_news
    union select id from deposit where chain_id = p_chain and undone_at > clock_timestamp() - interval '1 hour'
  ) wanted join deposit d using (id) join deposit_address a on a.address = d.address
  order by d.id
$$;
grant execute on function open_deposits to holdfast_worker;

-- Writes down what two vendors agree on, unless the row has changed since it was judged (false then). What was counted
-- and is gone is a loss; until it may be spent again, it stays one.
create function move_deposit(p_id uuid, p_from text, p_from_hash text, p_state text, p_height bigint, p_block_hash text,
  p_block_time double precision, p_sender text, p_address text, p_token text, p_symbol text, p_units numeric,
  p_amount usd) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  update deposit set
    state = p_state, height = p_height, block_hash = p_block_hash,
    block_time = coalesce(to_timestamp(p_block_time), block_time),
    -- What it is, may only be put right before it has counted once; two vendors agreed on it then.
    sender = case when counted or losses > 0 then sender else p_sender end,
    address = case when counted or losses > 0 then address else p_address end,
    token = case when counted or losses > 0 then token else p_token end,
    symbol = case when counted or losses > 0 then symbol else p_symbol end,
    units = case when counted or losses > 0 then units else p_units end,
    amount = case when counted or losses > 0 then amount else p_amount end,
    losses = losses + case when p_state = 'undone' and counted then 1 else 0 end,
    counted = case p_state when 'undone' then false when 'seen' then counted else true end,
    recheck = false, disputed_since = null,
    spendable_at = case when p_state in ('spendable', 'final') then coalesce(spendable_at, clock_timestamp()) end,
    final_at = case when p_state = 'final' then coalesce(final_at, clock_timestamp()) end,
    undone_at = case when p_state = 'undone' then coalesce(undone_at, clock_timestamp()) end
  where id = p_id and state = p_from and block_hash = p_from_hash;
  return found;
end
$$;
grant execute on function move_deposit to holdfast_worker;

-- Notes since when vendors contradict each other about a deposit, or that they do not any more.
create function note_deposit_dispute(p_id uuid, p_disputed boolean) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  update deposit set disputed_since = case when p_disputed then clock_timestamp() end
  where id = p_id and (disputed_since is not null) <> p_disputed
$$;
grant execute on function note_deposit_dispute to holdfast_worker;

create function note_deposit_told(p_id uuid, p_state text) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  update deposit set told = p_state where id = p_id
$$;
grant execute on function note_deposit_told to holdfast_worker;

-- Asks again for everything in a range of heights, final or not.
create function recheck_deposits(p_chain bigint, p_from bigint, p_to bigint) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  update deposit set recheck = true where chain_id = p_chain and height between p_from and p_to and state <> 'undone'
    and not recheck
$$;
grant execute on function recheck_deposits to holdfast_worker;

create function deposits_of(p_top_up uuid) returns setof deposit_standing
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select * from deposit_standing where top_up_id = p_top_up order by id
$$;
grant execute on function deposits_of to holdfast_worker;

-- Transfers that count, by when their block was made: the chain's half of what reconciliation compares.
create function deposits_counted_between(p_since timestamptz, p_until timestamptz, p_after uuid, p_limit integer)
returns table (id uuid, payment_id text, top_up_id uuid, amount usd)
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select d.id, d.chain_id || '/' || d.tx_hash || '/' || d.ordinal, a.top_up_id, d.amount
  from deposit d join deposit_address a on a.address = d.address
  where d.counted and d.block_time >= p_since and d.block_time < p_until and (p_after is null or d.id > p_after)
  order by d.id limit p_limit
$$;
grant execute on function deposits_counted_between to holdfast_worker;

create trigger append_only before update or delete on deposit_address for each row execute function deny_change();
create trigger append_only_truncate before truncate on deposit_address
  for each statement execute function deny_change();
