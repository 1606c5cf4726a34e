-- Rewards: Discord links, votes, boosts, bug bounties. That each pays once is said here by unique keys, and for votes
-- by an exclusion constraint.
create extension if not exists btree_gist with schema public;
set role holdfast_owner;
set search_path = holdfast;

insert into account (kind, name) values
  ('system', 'promo:discord_link'), ('system', 'promo:vote'), ('system', 'promo:boost'), ('system', 'promo:bounty');

create domain discord_id as text constraint discord_id_is_digits check (value ~ '^[0-9]{1,20}$');

-- One attempt to link, from the authorize page to the callback: bound to who began it, used once. What Discord then
-- said of its user is written here by the interface: a link is made of this row alone, whatever its run is told.
create table discord_state (
  hash sha256 primary key,
  browser_hash sha256 not null,      -- of the cookie that the beginning set
  account_id uuid not null references account,
  token_id uuid not null,
  expires_at timestamptz not null,
  used_at timestamptz,
  discord_user_id discord_id,
  username text,
  constraint state_proven_after_use check (num_nulls(discord_user_id, username) in (0, 2)
    and (discord_user_id is null or used_at is not null))
);
create index discord_state_expiry on discord_state (expires_at);
create index discord_state_account on discord_state (account_id, expires_at);

-- Who is whom. A link that ended stays, so that what was once given is known permanently.
create table discord_link (
  id uuid primary key default uuidv7(),
  discord_user_id discord_id not null,
  account_id uuid not null references account,
  username text not null,
  linked_at timestamptz not null,
  unlinked_at timestamptz,
  stale_at timestamptz,              -- the user took our authorization back at Discord; nothing is clawed back
  constraint unlinked_after_linked check (unlinked_at >= linked_at)
);
create unique index discord_link_user on discord_link (discord_user_id) where unlinked_at is null;
create unique index discord_link_account on discord_link (account_id) where unlinked_at is null;

-- Everything that was earned, paid or not. `requested_by` is 'rules', or the person whose step it follows from.
create table reward (
  id uuid primary key default uuidv7(),
  kind text not null,
  source_event text not null,        -- what it is paid for; once per kind
  discord_user_id discord_id,
  account_id uuid references account,
  amount usd_not_negative not null,
  state text not null,
  reason text,                       -- why it waits, was denied, or lapsed, as a code or in a person's words
  earned_at timestamptz not null,
  expires_at timestamptz,
  decided_at timestamptz,
  requested_by text not null default 'rules',
  decided_by text,
  rule_version text not null,
  details jsonb not null,
  posting_id uuid,
  constraint reward_once unique (kind, source_event),
  constraint reward_kind_known check (kind in ('discord_link', 'vote', 'boost', 'bounty')),
  constraint reward_state_known check (state in ('claimable', 'waiting', 'posted', 'denied', 'rejected', 'expired')),
  constraint reward_posted_iff_posting check ((state = 'posted') = (posting_id is not null)),
  constraint reward_unpaid_has_reason check (state in ('claimable', 'posted') or reason is not null),
  constraint claimable_has_expiry check (state <> 'claimable'
    or (expires_at is not null and discord_user_id is not null)),
  constraint reward_names_account check (state in ('claimable', 'expired', 'denied') or account_id is not null)
);
-- $1 for linking: once per Discord user and once per account, permanently, whatever is unlinked in between.
create unique index reward_link_user on reward (discord_user_id) where kind = 'discord_link' and state <> 'denied';
create unique index reward_link_account on reward (account_id) where kind = 'discord_link' and state <> 'denied';
create index reward_account on reward (account_id, id desc) where account_id is not null;
create index reward_claims on reward (discord_user_id, kind, earned_at) where state = 'claimable';
create index reward_waiting on reward (id) where state = 'waiting';

-- What was posted of rewards earned in a UTC day: of each account, and of all (the zero UUID).
create table reward_day (
  kind text not null,
  day date not null,
  account_id uuid not null,
  granted usd_not_negative not null,
  primary key (kind, day, account_id)
) with (fillfactor = 70);

-- Every vote that a site reported, paid or not. `cooldown` is the span in which no other vote of the user on the site
-- is paid.
create table vote (
  id uuid primary key default uuidv7(),
  site text not null,
  event_id text not null,
  vote_id text,
  discord_user_id discord_id not null,
  voted_at timestamptz not null,
  arrived_at timestamptz not null,
  weight integer not null,
  outcome text not null,
  reason text,
  cooldown tstzrange,
  reward_id uuid references reward,
  constraint vote_event_once unique (site, event_id),
  constraint vote_outcome_known check (outcome in ('accepted', 'refused', 'repeated', 'test')),
  constraint vote_refused_has_reason check ((outcome = 'refused') = (reason is not null)),
  constraint vote_accepted_is_paid check ((outcome = 'accepted') = (reward_id is not null)
    and (outcome = 'accepted') = (cooldown is not null)),
  constraint vote_cooldown exclude using gist (site with =, discord_user_id with =, cooldown with &&)
    where (outcome = 'accepted')
);
create unique index vote_id_once on vote (site, vote_id) where vote_id is not null and outcome = 'accepted';
create index vote_user on vote (discord_user_id, voted_at desc);

-- Which roles of directories that vote by role a member has: a role that was there before is no new vote.
create table vote_role (
  discord_user_id discord_id not null,
  site text not null,
  held boolean not null,
  changed_at timestamptz not null,
  primary key (discord_user_id, site)
);

-- One boost. Known by the system message that reported it, by the moment the member became a booster, or by both.
create table boost (
  id uuid primary key default uuidv7(),
  discord_user_id discord_id not null,
  message_id discord_id,
  n integer,
  premium_since timestamptz,
  boosted_at timestamptz not null,
  reward_id uuid not null references reward,
  constraint boost_message_once unique (message_id, n),
  constraint boost_premium_once unique (discord_user_id, premium_since),
  constraint boost_has_source check (num_nulls(message_id, n) in (0, 2) and num_nonnulls(message_id, premium_since) > 0)
);
create index boost_user on boost (discord_user_id, boosted_at);

create table bounty_report (
  id uuid primary key,
  account_id uuid not null references account,
  title text not null,
  description text not null,
  state text not null default 'submitted',
  severity text,
  amount usd_not_negative,
  reason text,
  duplicate_of uuid references bounty_report,
  reported_by text not null,
  reported_at timestamptz not null,
  triaged_by text,
  severity_by text,
  decided_by text,
  decided_at timestamptz,
  reward_id uuid references reward,
  constraint bounty_state_known check (state in ('submitted', 'triaged', 'accepted', 'rewarded', 'duplicate',
    'rejected')),
  constraint bounty_severity_known check (severity in ('critical', 'high', 'medium', 'low')),
  constraint bounty_at_most_50 check (amount <= 50),
  constraint bounty_text_length check (char_length(title) between 3 and 200 and char_length(description) between 3
    and 10000),
  constraint bounty_accepted_has_severity check (state not in ('accepted', 'rewarded')
    or num_nulls(severity, amount, severity_by, reward_id) = 0),
  constraint bounty_closed_has_reason check (state not in ('duplicate', 'rejected') or reason is not null),
  constraint bounty_not_its_own_duplicate check (duplicate_of <> id)
);
create index bounty_report_open on bounty_report (id) where state in ('submitted', 'triaged', 'accepted');

-- Who reads reports and who manages may see every row; a role may write what is named here, and nothing else.
grant select on discord_state, discord_link, reward, reward_day, vote, vote_role, boost, bounty_report to
  holdfast_management, holdfast_reporter, holdfast_auditor;

reset role;
reset search_path;
