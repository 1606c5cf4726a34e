-- Money that comes over a chain: the addresses that were given out, what RPC vendors have shown of each chain, and the
-- transfers to those addresses. Only `top_up` and `payment` (0007) move money; what is here is evidence.
--
-- Lock order: rescan, cursor, deposit. None is held while a top-up or an account is locked.
set role holdfast_owner;
set search_path = holdfast;

create domain chain_hash as text constraint hash_is_lower_case check (value ~ '^0x[0-9a-f]{64}$');
create domain chain_address as text constraint address_is_lower_case check (value ~ '^0x[0-9a-f]{40}$');

-- An address belongs to one top-up and is watched for ever, on every chain. Its private key is not here and not on any server. Its
-- path comes from the id of the top-up, never from a counter: a counter goes back with a restored backup and would give addresses that
-- customers have been shown to others.
create table deposit_address (
  position integer primary key,      -- dense, in the order of commits: who knows all up to n misses none by asking for those after n
  path text not null,                -- below the wallet's extended public key, as <index>/<index>
  wallet text not null,              -- fingerprint of the extended public key
  address chain_address not null unique,
  top_up_id uuid not null unique references top_up,
  created_at timestamptz not null default now(),
  constraint path_once unique (wallet, path),
  constraint position_above_zero check (position > 0),
  constraint path_is_two_indexes check (path ~ '^[0-9]{1,10}/[0-9]{1,10}$')
);
create trigger append_only before update or delete on deposit_address for each row execute function deny_change();
create trigger append_only_truncate before truncate on deposit_address for each statement execute function deny_change();

-- How far a vendor's chain has been read, and what its end looked like.
create table chain_cursor (
  chain_id bigint not null,
  vendor text not null,
  height bigint not null,
  hash chain_hash not null,
  block_time timestamptz not null,
  head bigint not null,
  head_time timestamptz not null,
  safe bigint,
  finalized bigint,
  scanned_at timestamptz not null default clock_timestamp(),
  primary key (chain_id, vendor),
  constraint never_beyond_head check (height <= head)
);

-- Blocks at which a cursor stood: where a vendor's chain has changed, they say down to which block.
create table chain_checkpoint (
  chain_id bigint not null,
  vendor text not null,
  height bigint not null,
  hash chain_hash not null,
  primary key (chain_id, vendor, height)
);

-- Whether a token counts as a dollar, as its price feed last said.
create table chain_token (
  chain_id bigint not null,
  token chain_address not null,
  fault text,
  checked_at timestamptz not null,
  primary key (chain_id, token)
);

-- A transfer to one of our addresses, once per (chain, transaction, position of its log in the receipt): that key stays when
-- the transaction moves to another block.
create table deposit (
  id uuid primary key default uuidv7(),
  chain_id bigint not null,
  tx_hash chain_hash not null,
  ordinal integer not null,
  sender chain_address not null,           -- whose tokens they were
  address chain_address not null references deposit_address (address),
  token chain_address not null,
  symbol text not null,
  units numeric(78, 0) not null,
  amount usd_not_negative not null,
  state text not null default 'seen',
  height bigint not null,
  block_hash chain_hash not null,
  block_time timestamptz not null,
  counted boolean not null default false,  -- was made spendable and has not been lost since
  losses integer not null default 0,       -- how often it was lost after it had counted
  recheck boolean not null default false,  -- blocks at its height have changed: ask again, final or not
  disputed_since timestamptz,              -- one vendor shows what another denies
  told text,                               -- the state that its top-up was told of
  has_news boolean generated always as (told is distinct from state) stored,  -- a column, because the planner keeps statistics of it
  seen_at timestamptz not null default clock_timestamp(),
  spendable_at timestamptz,
  final_at timestamptz,
  undone_at timestamptz,
  constraint transfer_once unique (chain_id, tx_hash, ordinal),
  constraint deposit_state_known check (state in ('seen', 'spendable', 'final', 'undone')),
  constraint units_above_zero check (units > 0),
  constraint ordinal_not_negative check (ordinal >= 0),
  constraint losses_not_negative check (losses >= 0),
  constraint counted_when_spendable check (state not in ('spendable', 'final') or counted),
  constraint not_counted_when_undone check (state <> 'undone' or not counted),
  constraint spendable_at_iff_spendable check ((state in ('spendable', 'final')) = (spendable_at is not null)),
  constraint final_at_iff_final check ((state = 'final') = (final_at is not null)),
  constraint undone_at_iff_undone check ((state = 'undone') = (undone_at is not null))
);
-- Transfers to our addresses that are no deposit: the transaction moved tokens of ours, so nothing has come that was not here. Each
-- is a case for a person, and none of them is ever a deposit.
create table own_transfer (
  chain_id bigint not null,
  tx_hash chain_hash not null,
  ordinal integer not null,
  sender chain_address not null,
  address chain_address not null references deposit_address (address),
  token chain_address not null,
  symbol text not null,
  units numeric(78, 0) not null,
  amount usd_not_negative not null,
  height bigint not null,
  block_hash chain_hash not null,
  block_time timestamptz not null,
  seen_at timestamptz not null default clock_timestamp(),
  primary key (chain_id, tx_hash, ordinal)
);

-- Blocks that somebody wants read again: all of a range, or an order's own address in its own time. The chain's watch reads them
-- piece by piece; `next_block` says how far it has come, so that a restart loses nothing.
create table block_rescan (
  id uuid primary key default uuidv7(),
  chain_id bigint not null,
  top_up_id uuid references top_up,  -- null: everything that is watched
  from_block bigint,                 -- null until an order's time is known in blocks
  to_block bigint,
  next_block bigint,
  found integer not null default 0,  -- transfers that were not known before
  requested_by text not null,
  requested_at timestamptz not null default clock_timestamp(),
  done_at timestamptz,
  fault text,                        -- why it has not come further, as last seen
  constraint range_or_order check ((from_block is null) = (to_block is null) and (from_block is not null or top_up_id is not null)),
  constraint range_in_order check (from_block >= 0 and from_block <= to_block + 1),
  constraint done_has_range check (done_at is null or to_block is not null)
);
create index block_rescan_of_chain on block_rescan (chain_id, id);
create index block_rescan_open on block_rescan (chain_id) where done_at is null;
create unique index block_rescan_range_once on block_rescan (chain_id, from_block, to_block) where done_at is null and top_up_id is null;
create unique index block_rescan_order_once on block_rescan (chain_id, top_up_id) where done_at is null and top_up_id is not null;

create index deposit_address_of on deposit (address);
create index deposit_tx on deposit (tx_hash);
create index deposit_open on deposit (chain_id) where state in ('seen', 'spendable');
create index deposit_recheck on deposit (chain_id) where recheck;
create index deposit_undone on deposit (chain_id, undone_at) where undone_at is not null;
create index deposit_untold on deposit (chain_id) where has_news;
create index deposit_height on deposit (chain_id, height);

-- Gives a top-up its address, once; a repeat returns the one that it has. Nothing when another top-up has that address: the caller
-- then derives the next one.
create function assign_deposit_address(p_top_up uuid, p_path text, p_wallet text, p_address text) returns setof deposit_address
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  -- Positions become visible in their order, because the next one is given only after this transaction has ended.
  perform pg_advisory_xact_lock(hashtext('holdfast.deposit_address'));
  if exists (select from deposit_address where address = p_address and top_up_id <> p_top_up) then return; end if;
  insert into deposit_address (position, path, wallet, address, top_up_id)
  values ((select coalesce(max(position), 0) + 1 from deposit_address), p_path, p_wallet, p_address, p_top_up)
  on conflict (top_up_id) do nothing;
  return query select * from deposit_address where top_up_id = p_top_up;
end
$$;

create function deposit_address_of(p_top_up uuid) returns setof deposit_address
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select * from deposit_address where top_up_id = p_top_up
$$;

create function watched_addresses(p_after integer, p_limit integer) returns setof deposit_address
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select * from deposit_address where position > p_after order by position limit p_limit
$$;

create function chain_cursors(p_chain bigint) returns setof chain_cursor
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select * from chain_cursor where chain_id = p_chain
$$;

-- Where a vendor's cursor stood, the highest first.
create function chain_checkpoints(p_chain bigint, p_vendor text) returns setof chain_checkpoint
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select * from chain_checkpoint where chain_id = p_chain and vendor = p_vendor order by height desc
$$;

-- Keeps those of a vendor's findings that moved our own tokens, and returns those that were new.
create function keep_own_transfers(p_chain bigint, p_findings jsonb) returns table (tx_hash text, ordinal integer, sender text,
  address text, symbol text, amount usd, height bigint, top_up_id uuid)
language sql security definer set search_path = holdfast, pg_temp as $$
  with found as (
    select * from jsonb_to_recordset(p_findings) as f(tx_hash text, ordinal integer, sender text, address text, token text, symbol text,
      units numeric, amount numeric, height bigint, block_hash text, block_time double precision, own boolean)
    where coalesce(own, false) or exists (select from deposit_address o where o.address = f.sender)
  ), kept as (
    insert into own_transfer (chain_id, tx_hash, ordinal, sender, address, token, symbol, units, amount, height, block_hash, block_time)
    select p_chain, tx_hash, ordinal, sender, address, token, symbol, units, amount, height, block_hash, to_timestamp(block_time)
    from found order by tx_hash, ordinal
    on conflict do nothing returning *
  )
  select k.tx_hash, k.ordinal, k.sender, k.address, k.symbol, k.amount::usd, k.height, a.top_up_id
  from kept k join deposit_address a on a.address = k.address
$$;

-- Keeps what a vendor showed. A transfer that is known keeps its row; in another block it is asked for anew. What moved our own
-- tokens is no deposit: it becomes a case. Returns how many deposits were new.
create function keep_findings(p_chain bigint, p_findings jsonb) returns integer
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  made integer;
begin
  perform open_case('transfer_from_own_address', p_chain || '/' || kept.tx_hash || '/' || kept.ordinal, jsonb_build_object(
    'chain_id', p_chain, 'tx_hash', kept.tx_hash, 'from', kept.sender, 'to', kept.address, 'token', kept.symbol, 'amount', kept.amount::text,
    'height', kept.height, 'top_up', 'top_' || replace(kept.top_up_id::text, '-', ''),
    'what', 'the transaction moves tokens of our own addresses, so it brings none; nothing was credited'))
  from keep_own_transfers(p_chain, p_findings) kept;
  with found as (
    select * from jsonb_to_recordset(p_findings) as f(tx_hash text, ordinal integer, sender text, address text, token text, symbol text,
      units numeric, amount numeric, height bigint, block_hash text, block_time double precision, own boolean)
    where not coalesce(own, false) and not exists (select from deposit_address o where o.address = f.sender)
  )
  insert into deposit (chain_id, tx_hash, ordinal, sender, address, token, symbol, units, amount, height, block_hash, block_time)
  select p_chain, tx_hash, ordinal, sender, address, token, symbol, units, amount, height, block_hash, to_timestamp(block_time)
  from found order by tx_hash, ordinal
  on conflict (chain_id, tx_hash, ordinal) do nothing;
  get diagnostics made = row_count;
  update deposit d set recheck = true
  from jsonb_to_recordset(p_findings) as f(tx_hash text, ordinal integer, block_hash text)
  where d.chain_id = p_chain and d.tx_hash = f.tx_hash and d.ordinal = f.ordinal and not d.recheck
    and (d.block_hash <> f.block_hash or d.state = 'undone');
  return made;
end
$$;

-- Stores a vendor's cursor together with what was found on the way to it; false when the cursor was moved by somebody else
-- meanwhile. After a change of the chain, `p_fork` is the last block that stayed: deposits above it are asked for anew.
create function record_scan(p_chain bigint, p_vendor text, p_expected text, p_fork bigint, p_height bigint, p_hash text,
  p_block_time double precision, p_head bigint, p_head_time double precision, p_safe bigint, p_finalized bigint, p_findings jsonb)
returns boolean language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  c chain_cursor;
begin
  select * into c from chain_cursor where chain_id = p_chain and vendor = p_vendor for no key update;
  if c.hash is distinct from p_expected then return false; end if;
  insert into chain_cursor as x (chain_id, vendor, height, hash, block_time, head, head_time, safe, finalized)
  values (p_chain, p_vendor, p_height, p_hash, to_timestamp(p_block_time), p_head, to_timestamp(p_head_time), p_safe, p_finalized)
  on conflict (chain_id, vendor) do update set height = excluded.height, hash = excluded.hash, block_time = excluded.block_time,
    head = excluded.head, head_time = excluded.head_time, safe = excluded.safe, finalized = excluded.finalized,
    scanned_at = clock_timestamp()
  where x.hash is not distinct from p_expected;
  if not found then return false; end if;
  if p_fork is not null then
    delete from chain_checkpoint where chain_id = p_chain and vendor = p_vendor and height > p_fork;
    update deposit set recheck = true where chain_id = p_chain and height > p_fork and state <> 'undone' and not recheck;
  end if;
  insert into chain_checkpoint (chain_id, vendor, height, hash) values (p_chain, p_vendor, p_height, p_hash)
  on conflict (chain_id, vendor, height) do update set hash = excluded.hash;
  -- All above what cannot change, and below it a few, should it change all the same.
  delete from chain_checkpoint where chain_id = p_chain and vendor = p_vendor and height < coalesce((
    select min(height) from (select height from chain_checkpoint where chain_id = p_chain and vendor = p_vendor
      and height <= coalesce(p_finalized, p_height - 1000) order by height desc limit 32) kept), 0);
  if p_findings <> '[]' then perform keep_findings(p_chain, p_findings); end if;
  return true;
end
$$;

-- Deposits that have to be asked for, and those whose top-up has not heard of their state. One that is gone is asked for a while
-- longer: its transaction may be waiting for another block. Each kind by an index of its own, so that those long done cost nothing.
create function open_deposits(p_chain bigint) returns table (id uuid, top_up_id uuid, tx_hash text, ordinal integer, sender text, address text,
  token text, symbol text, units numeric, amount usd, state text, height bigint, block_hash text, recheck boolean,
  disputed_seconds double precision, told text)
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select d.id, a.top_up_id, d.tx_hash, d.ordinal, d.sender, d.address, d.token, d.symbol, d.units, d.amount, d.state, d.height, d.block_hash,
    d.recheck, extract(epoch from clock_timestamp() - d.disputed_since)::double precision, d.told
  from (
    select id from deposit where chain_id = p_chain and state in ('seen', 'spendable')
    union select id from deposit where chain_id = p_chain and recheck
    union select id from deposit where chain_id = p_chain and has_news
    union select id from deposit where chain_id = p_chain and undone_at > clock_timestamp() - interval '1 hour'
  ) wanted join deposit d using (id) join deposit_address a on a.address = d.address
  order by d.id
$$;

-- Writes down what two vendors agree on, unless the row has changed since it was judged (false then). What was counted and is
-- gone is a loss; until it may be spent again, it stays one.
create function move_deposit(p_id uuid, p_from text, p_from_hash text, p_state text, p_height bigint, p_block_hash text,
  p_block_time double precision, p_sender text, p_address text, p_token text, p_symbol text, p_units numeric, p_amount usd) returns boolean
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

-- Notes since when vendors contradict each other about a deposit, or that they do not any more.
create function note_deposit_dispute(p_id uuid, p_disputed boolean) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  update deposit set disputed_since = case when p_disputed then clock_timestamp() end
  where id = p_id and (disputed_since is not null) <> p_disputed
$$;

create function note_deposit_told(p_id uuid, p_state text) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  update deposit set told = p_state where id = p_id
$$;

-- Asks again for everything in a range of heights, final or not.
create function recheck_deposits(p_chain bigint, p_from bigint, p_to bigint) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  update deposit set recheck = true where chain_id = p_chain and height between p_from and p_to and state <> 'undone' and not recheck
$$;

-- Has a range of blocks read again; the same range again, while it waits, is the same rescan. Nothing when too many wait.
create function request_block_rescan(p_id uuid, p_chain bigint, p_from bigint, p_to bigint, p_open_max integer, p_by text)
returns setof block_rescan language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('holdfast.block_rescan', p_chain));
  insert into block_rescan (id, chain_id, from_block, to_block, requested_by)
  select p_id, p_chain, p_from, p_to, p_by
  where (select count(*) from block_rescan where chain_id = p_chain and done_at is null and top_up_id is null) < p_open_max
  on conflict do nothing;
  return query select * from block_rescan
    where id = p_id or chain_id = p_chain and from_block = p_from and to_block = p_to and done_at is null and top_up_id is null
    order by id limit 1;
end
$$;

-- Has an order's own address read again in its own time, on each of the chains; at most once at a time.
create function request_order_rescans(p_top_up uuid, p_chains bigint[], p_by text) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  insert into block_rescan (chain_id, top_up_id, requested_by) select chain_id, p_top_up, p_by from unnest(p_chains) chain_id
  on conflict do nothing
$$;

-- The rescan that a chain's watch goes on with: orders first, which are short; one that does not come on lets others pass.
create function next_block_rescan(p_chain bigint) returns table (id uuid, from_block bigint, to_block bigint, next_block bigint,
  address text, since double precision, until double precision)
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select r.id, r.from_block, r.to_block, coalesce(r.next_block, r.from_block), a.address, extract(epoch from t.created_at)::double precision,
    extract(epoch from t.expires_at)::double precision
  from block_rescan r left join top_up t on t.id = r.top_up_id left join deposit_address a on a.top_up_id = r.top_up_id
  where r.chain_id = p_chain and r.done_at is null and (r.top_up_id is null or a.address is not null)
  order by r.fault is not null, r.top_up_id is null, r.id limit 1
$$;

-- Writes down how far a rescan has come: it is done when there is nothing left. What it found is added up.
create function advance_block_rescan(p_id uuid, p_from bigint, p_to bigint, p_next bigint, p_found integer, p_fault text)
returns void language sql security definer set search_path = holdfast, pg_temp as $$
  update block_rescan set from_block = p_from, to_block = p_to, next_block = p_next, found = found + p_found, fault = p_fault,
    done_at = case when p_next > p_to then clock_timestamp() end
  where id = p_id and done_at is null
$$;

-- Writes down whether a token counts as a dollar. Once it does again, top-ups that waited for that are told.
create function note_token(p_chain bigint, p_token text, p_fault text) returns void
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  before text;
begin
  select fault into before from chain_token where chain_id = p_chain and token = p_token;
  insert into chain_token (chain_id, token, fault, checked_at) values (p_chain, p_token, p_fault, clock_timestamp())
  on conflict (chain_id, token) do update set fault = excluded.fault, checked_at = excluded.checked_at;
  if before is not null and p_fault is null then
    update deposit d set told = null
    where chain_id = p_chain and token = p_token and state in ('spendable', 'final')
      and not exists (select from payment p where p.provider = 'crypto' and p.payment_id = d.chain_id || '/' || d.tx_hash || '/' || d.ordinal);
  end if;
end
$$;

-- The deposits of an order, with what is left to wait for: the head that two vendors have reached, and the token's state.
create view deposit_standing with (security_invoker = true) as
  select d.*, a.top_up_id, h.head, t.fault as token_fault, exists (select from payment p
      where p.provider = 'crypto' and p.payment_id = d.chain_id || '/' || d.tx_hash || '/' || d.ordinal) as credited
  from deposit d join deposit_address a on a.address = d.address
  left join lateral (select c.head from chain_cursor c where c.chain_id = d.chain_id order by c.head desc offset 1 limit 1) h on true
  left join chain_token t on t.chain_id = d.chain_id and t.token = d.token;

create function deposits_of(p_top_up uuid) returns setof deposit_standing
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select * from deposit_standing where top_up_id = p_top_up order by id
$$;

-- Up to when every one of the chains has been read by one vendor at least; null while one has not been read at all.
create function chains_read_until(p_chains bigint[]) returns timestamptz
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select case when count(read.until) = cardinality(p_chains) then min(read.until) end
  from unnest(p_chains) wanted (chain_id)
  left join lateral (select max(block_time) as until from chain_cursor c where c.chain_id = wanted.chain_id) read on true
$$;

-- Transfers that count, by when their block was made: the chain's half of what reconciliation compares.
create function deposits_counted_between(p_since timestamptz, p_until timestamptz, p_after uuid, p_limit integer)
returns table (id uuid, payment_id text, top_up_id uuid, amount usd)
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select d.id, d.chain_id || '/' || d.tx_hash || '/' || d.ordinal, a.top_up_id, d.amount
  from deposit d join deposit_address a on a.address = d.address
  where d.counted and d.block_time >= p_since and d.block_time < p_until and (p_after is null or d.id > p_after)
  order by d.id limit p_limit
$$;
create index deposit_time on deposit (block_time);

reset role;
reset search_path;
