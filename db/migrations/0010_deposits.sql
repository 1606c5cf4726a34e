-- Money that comes over a chain: the addresses that were given out, what RPC vendors have shown of each chain, and the
-- transfers to those addresses. Only `top_up` and `payment` move money; what is here is evidence.
set role holdfast_owner;
set search_path = holdfast;

create domain chain_hash as text constraint hash_is_lower_case check (value ~ '^0x[0-9a-f]{64}$');
create domain chain_address as text constraint address_is_lower_case check (value ~ '^0x[0-9a-f]{40}$');

-- An address belongs to one top-up and is watched permanently, on every chain. Its private key is not here and not on
-- any server. Its path comes from the id of the top-up, never from a counter: a counter goes back with a restored
-- backup and would give addresses that customers have been shown to others.
create table deposit_address (
  -- dense, in the order of commits: who knows all up to n misses none by asking for those after n
  position integer primary key,
  path text not null,                -- below the wallet's extended public key, as <index>/<index>
  wallet text not null,              -- fingerprint of the extended public key
  address chain_address not null unique,
  top_up_id uuid not null unique references top_up,
  created_at timestamptz not null default now(),
  constraint path_once unique (wallet, path),
  constraint position_above_zero check (position > 0),
  constraint path_is_two_indexes check (path ~ '^[0-9]{1,10}/[0-9]{1,10}$')
);

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

-- A transfer to one of our addresses, once per (chain, transaction, position of its log in the receipt): that key stays
-- when the transaction moves to another block.
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
  told text,                               -- the state that was reported to its top-up
  -- a column, because the planner keeps statistics of it
  has_news boolean generated always as (told is distinct from state) stored,
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
create index deposit_address_of on deposit (address);
create index deposit_tx on deposit (tx_hash);
create index deposit_open on deposit (chain_id) where state in ('seen', 'spendable');
create index deposit_recheck on deposit (chain_id) where recheck;
create index deposit_undone on deposit (chain_id, undone_at) where undone_at is not null;
create index deposit_untold on deposit (chain_id) where has_news;
create index deposit_height on deposit (chain_id, height);
create index deposit_time on deposit (block_time);

-- Transfers to our addresses that are no deposit: the transaction moved tokens of ours, so nothing has come that was
-- not here. Each is a case for a person, and none of them is ever a deposit.
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

-- Blocks that somebody wants read again: all of a range, or an order's own address in its own time. The chain's watch
-- reads them piece by piece; `next_block` says how far it has come, so that a restart loses nothing.
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
  constraint range_or_order check ((from_block is null) = (to_block is null)
    and (from_block is not null or top_up_id is not null)),
  constraint range_in_order check (from_block >= 0 and from_block <= to_block + 1),
  constraint done_has_range check (done_at is null or to_block is not null)
);
create index block_rescan_of_chain on block_rescan (chain_id, id);
create index block_rescan_open on block_rescan (chain_id) where done_at is null;
create unique index block_rescan_range_once on block_rescan (chain_id, from_block, to_block)
  where done_at is null and top_up_id is null;
create unique index block_rescan_order_once on block_rescan (chain_id, top_up_id)
  where done_at is null and top_up_id is not null;

-- Who reads reports and who manages may see every row; a role may write what is named here, and nothing else.
grant select on deposit_address, chain_cursor, chain_checkpoint, chain_token, deposit, own_transfer, block_rescan to
  holdfast_management, holdfast_reporter, holdfast_auditor;

reset role;
reset search_path;
