-- Rewards: Discord links, votes, boosts, bug bounties. What each pays follows from the rules that the caller passes; that it
-- pays once is said here by unique keys, and for votes by an exclusion constraint. Every function takes the time as an argument.
--
-- Lock order: Discord user (advisory), account's link (advisory), bounty budget (advisory), bounty report, reward, account, then
-- reward_day by kind and day. A transaction pays one account, so whoever waits for a day holds nothing that another waits for.
create extension if not exists btree_gist with schema public;
set role holdfast_owner;
set search_path = holdfast;

insert into account (kind, name) values
  ('system', 'promo:discord_link'), ('system', 'promo:vote'), ('system', 'promo:boost'), ('system', 'promo:bounty');

create domain discord_id as text constraint discord_id_is_digits check (value ~ '^[0-9]{1,20}$');

-- One attempt to link, from the authorize page to the callback: bound to who began it, used once. What Discord then said of its user is
-- written here by the interface: a link is made of this row alone, whatever its run is told.
create table discord_state (
  hash sha256 primary key,
  browser_hash sha256 not null,      -- of the cookie that the beginning set
  account_id uuid not null references account,
  token_id uuid not null,
  expires_at timestamptz not null,
  used_at timestamptz,
  discord_user_id discord_id,
  username text,
  constraint state_proven_after_use check (num_nulls(discord_user_id, username) in (0, 2) and (discord_user_id is null or used_at is not null))
);
create index discord_state_expiry on discord_state (expires_at);
create index discord_state_account on discord_state (account_id, expires_at);

-- Who is whom. A link that ended stays, so that what was once given is known for ever.
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
  constraint claimable_has_expiry check (state <> 'claimable' or (expires_at is not null and discord_user_id is not null)),
  constraint reward_names_account check (state in ('claimable', 'expired', 'denied') or account_id is not null)
);
-- $1 for linking: once per Discord user and once per account, for ever, whatever is unlinked in between.
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

-- Every vote that a site told of, paid or not. `cooldown` is the span in which no other vote of the user on the site is paid.
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
  constraint vote_cooldown exclude using gist (site with =, discord_user_id with =, cooldown with &&) where (outcome = 'accepted')
);
create unique index vote_id_once on vote (site, vote_id) where vote_id is not null and outcome = 'accepted';
create index vote_user on vote (discord_user_id, voted_at desc);
create trigger append_only before update or delete on vote for each row execute function deny_change();
create trigger append_only_truncate before truncate on vote for each statement execute function deny_change();

-- Which roles of directories that vote by role a member has: a role that was there before is no new vote.
create table vote_role (
  discord_user_id discord_id not null,
  site text not null,
  held boolean not null,
  changed_at timestamptz not null,
  primary key (discord_user_id, site)
);

-- One boost. Known by the system message that told of it, by the moment the member became a booster, or by both.
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
  constraint bounty_state_known check (state in ('submitted', 'triaged', 'accepted', 'rewarded', 'duplicate', 'rejected')),
  constraint bounty_severity_known check (severity in ('critical', 'high', 'medium', 'low')),
  constraint bounty_at_most_50 check (amount <= 50),
  constraint bounty_text_length check (char_length(title) between 3 and 200 and char_length(description) between 3 and 10000),
  constraint bounty_accepted_has_severity check (state not in ('accepted', 'rewarded')
    or num_nulls(severity, amount, severity_by, reward_id) = 0),
  constraint bounty_closed_has_reason check (state not in ('duplicate', 'rejected') or reason is not null),
  constraint bounty_not_its_own_duplicate check (duplicate_of <> id)
);
create index bounty_report_open on bounty_report (id) where state in ('submitted', 'triaged', 'accepted');

create function lock_discord_user(p_user text) returns void
language sql as $$ select pg_advisory_xact_lock(hashtextextended('holdfast.discord_user/' || p_user, 0)) $$;

create function linked_account(p_user text) returns uuid
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select account_id from discord_link where discord_user_id = p_user and unlinked_at is null
$$;

-- Posts a reward that has its account, and counts it. The posting tells the whole story: event, rules, amount, who decided.
create function post_reward(r reward, p_by text, p_at timestamptz) returns reward
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  perform 1 from account where id = r.account_id for no key update;
  insert into reward_day (kind, day, account_id, granted)
  select r.kind, (r.earned_at at time zone 'UTC')::date, unnest(array['00000000-0000-0000-0000-000000000000', r.account_id]), r.amount
  on conflict (kind, day, account_id) do update set granted = reward_day.granted + excluded.granted;
  r.posting_id := post_transfer('reward_' || r.kind, r.id, system_account('promo:' || r.kind), r.account_id, r.amount,
    jsonb_build_object('source_event', r.source_event, 'earned_at', r.earned_at, 'rule_version', r.rule_version,
      'amount_usd', r.amount::numeric(38,12)::text, 'discord_user_id', r.discord_user_id, 'requested_by', r.requested_by,
      'approved_by', p_by) || r.details, false);
  update reward set state = 'posted', account_id = r.account_id, reason = null, posting_id = r.posting_id, decided_at = p_at, decided_by = p_by
  where id = r.id returning * into r;
  return r;
end
$$;

-- Pays a reward to its account, or lets it wait for a person: above a cap, or while the account is frozen.
create function settle_reward(r reward, p_rules jsonb, p_at timestamptz) returns reward
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  everybody constant uuid := '00000000-0000-0000-0000-000000000000';
  earned_day date := (r.earned_at at time zone 'UTC')::date;
  of_all numeric;
  of_account numeric;
begin
  perform 1 from account where id = r.account_id for no key update;
  insert into reward_day (kind, day, account_id, granted) values (r.kind, earned_day, everybody, 0), (r.kind, earned_day, r.account_id, 0)
  on conflict do nothing;
  select granted into of_all from reward_day where kind = r.kind and day = earned_day and account_id = everybody for no key update;
  select granted into of_account from reward_day where kind = r.kind and day = earned_day and account_id = r.account_id for no key update;
  r.reason := case
    when (select frozen_at from account where id = r.account_id) is not null then 'account_frozen'
    when of_all + r.amount > (p_rules ->> 'cap_per_day')::numeric then 'source_cap'
    when of_account + r.amount > (p_rules ->> 'cap_per_account_day')::numeric then 'account_cap'
  end;
  if r.reason is null then return post_reward(r, null, p_at); end if;
  update reward set state = 'waiting', account_id = r.account_id, reason = r.reason where id = r.id returning * into r;
  return r;
end
$$;

-- Records that something was earned, once per (kind, source event), and pays it, lets it wait for approval, or keeps it until
-- the Discord user links an account. A repeat returns what is there. The caller holds the Discord user's lock.
create function earn_reward(p_kind text, p_source text, p_user text, p_account uuid, p_earned timestamptz, p_rules jsonb, p_details jsonb,
  p_by text, p_at timestamptz) returns reward
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  r reward;
  made boolean;
  expiry timestamptz := p_earned + make_interval(secs => (p_rules ->> 'claim_seconds')::double precision);
begin
  insert into reward (kind, source_event, discord_user_id, account_id, amount, state, reason, earned_at, expires_at, requested_by,
    rule_version, details)
  values (p_kind, p_source, p_user, p_account, (p_rules ->> 'amount')::usd,
    case when p_account is not null then 'waiting' when expiry <= p_at then 'expired' else 'claimable' end,
    case when p_account is not null then 'unsettled' when expiry <= p_at then 'claim_expired' end,
    p_earned, case when p_account is null then expiry end, p_by, p_rules ->> 'version', p_details)
  on conflict (kind, source_event) do nothing returning * into r;
  made := found;
  if not made then
    select * into r from reward where kind = p_kind and source_event = p_source;
    return r;
  end if;
  if p_account is null then return r; end if;
  return settle_reward(r, p_rules, p_at);
end
$$;

-- Begins a link: keeps who asked, and forgets attempts that are long over, and those of this account but for the newest ten.
create function begin_discord_link(p_hash bytea, p_browser bytea, p_account uuid, p_token uuid, p_ttl_seconds numeric, p_at timestamptz)
returns void language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  delete from discord_state where expires_at < p_at - interval '1 day';
  delete from discord_state where hash in (
    select hash from discord_state where account_id = p_account order by expires_at desc offset 9);
  insert into discord_state (hash, browser_hash, account_id, token_id, expires_at)
  values (p_hash, p_browser, p_account, p_token, p_at + make_interval(secs => p_ttl_seconds::double precision));
end
$$;

-- Uses an attempt up, for the browser or the token that began it, and says whose account it is for; null when it cannot be used.
create function use_discord_state(p_hash bytea, p_browser bytea, p_token uuid, p_at timestamptz) returns uuid
language sql security definer set search_path = holdfast, pg_temp as $$
  update discord_state set used_at = p_at
  where hash = p_hash and used_at is null and expires_at > p_at and (browser_hash = p_browser or token_id = p_token)
  returning account_id
$$;

-- Writes down who Discord says the user of a used attempt is, once.
create function prove_discord_link(p_hash bytea, p_user text, p_username text) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  update discord_state set discord_user_id = p_user, username = p_username
  where hash = p_hash and used_at is not null and discord_user_id is null
$$;

-- What an attempt has proven; no row while it has not.
create function proven_discord_link(p_hash bytea) returns table (discord_user_id text, account_id uuid, username text)
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select s.discord_user_id, s.account_id, s.username from discord_state s where s.hash = p_hash and s.discord_user_id is not null
$$;

-- Writes down that linking paid nothing, and why; a repeat moves its time.
create function deny_link(p_user text, p_account uuid, p_reason text, p_rules jsonb, p_at timestamptz) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  insert into reward (kind, source_event, discord_user_id, account_id, amount, state, reason, earned_at, decided_at, rule_version, details)
  values ('discord_link', p_user || '/' || p_account || '/' || p_reason, p_user, p_account, (p_rules ->> 'amount')::usd, 'denied',
    p_reason, p_at, p_at, p_rules ->> 'version', '{}')
  on conflict (kind, source_event) do update set earned_at = excluded.earned_at, decided_at = excluded.decided_at,
    amount = excluded.amount, rule_version = excluded.rule_version
$$;

-- Links a Discord user to an account, unless p_refusal or another link speaks against it, and pays the reward for linking once.
-- Says 'linked' or why not. A repeat says the same and pays nothing.
create function link_discord(p_user text, p_account uuid, p_username text, p_refusal text, p_rules jsonb, p_at timestamptz) returns text
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  l discord_link;
  refusal text := p_refusal;
begin
  perform lock_discord_user(p_user);
  perform pg_advisory_xact_lock(hashtextextended('holdfast.discord_account/' || p_account, 0));
  select * into l from discord_link where discord_user_id = p_user and unlinked_at is null;
  if found and l.account_id = p_account then
    update discord_link set username = p_username, stale_at = null where id = l.id;
    return 'linked';
  end if;
  if found then refusal := 'linked_elsewhere';
  elsif exists (select from discord_link where account_id = p_account and unlinked_at is null) then refusal := 'account_has_link';
  end if;
  if refusal is not null then
    perform deny_link(p_user, p_account, refusal, p_rules, p_at);
    return refusal;
  end if;
  insert into discord_link (discord_user_id, account_id, username, linked_at) values (p_user, p_account, p_username, p_at);
  if exists (select from reward where kind = 'discord_link' and discord_user_id = p_user and state <> 'denied') then
    perform deny_link(p_user, p_account, 'user_rewarded', p_rules, p_at);
  elsif exists (select from reward where kind = 'discord_link' and account_id = p_account and state <> 'denied') then
    perform deny_link(p_user, p_account, 'account_rewarded', p_rules, p_at);
  else
    perform earn_reward('discord_link', p_user || '/' || p_account, p_user, p_account, p_at, p_rules,
      jsonb_build_object('username', p_username), 'rules', p_at);
  end if;
  return 'linked';
end
$$;

-- Ends an account's link; what was given stays given. Says whether there was one.
create function unlink_discord(p_account uuid, p_at timestamptz) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  update discord_link set unlinked_at = greatest(p_at, linked_at) where account_id = p_account and unlinked_at is null;
  return found;
end
$$;

create function note_deauthorized(p_user text, p_at timestamptz) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  update discord_link set stale_at = p_at where discord_user_id = p_user and unlinked_at is null;
  return found;
end
$$;

-- Pays what a linked Discord user earned before, oldest first of each kind; what has lapsed meanwhile is closed. Says how many were looked at:
-- fewer than p_limit means that none is left.
create function release_claims(p_user text, p_rules jsonb, p_limit integer, p_at timestamptz) returns integer
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  r reward;
  owner uuid;
  done integer := 0;
begin
  perform lock_discord_user(p_user);
  owner := linked_account(p_user);
  if owner is null then return 0; end if;
  for r in select * from reward where discord_user_id = p_user and state = 'claimable' order by kind, earned_at, id limit p_limit for update loop
    done := done + 1;
    if r.expires_at <= p_at then
      update reward set state = 'expired', reason = 'claim_expired', decided_at = p_at where id = r.id;
    else
      r.account_id := owner;
      perform settle_reward(r, p_rules -> r.kind, p_at);
    end if;
  end loop;
  return done;
end
$$;

-- Closes claims that nobody came for; says how many.
create function expire_claims(p_limit integer, p_at timestamptz) returns integer
language sql security definer set search_path = holdfast, pg_temp as $$
  with lapsed as (
    update reward set state = 'expired', reason = 'claim_expired', decided_at = p_at
    where id in (select id from reward where state = 'claimable' and expires_at <= p_at limit p_limit for update skip locked)
    returning 1
  )
  select count(*)::integer from lapsed
$$;

-- Discord users who are linked and still have claims: their link's run was lost.
create function find_waiting_claims(p_limit integer) returns text[]
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select coalesce(array_agg(u), '{}') from (
    select distinct r.discord_user_id::text as u from reward r join discord_link l on l.discord_user_id = r.discord_user_id
    where r.state = 'claimable' and l.unlinked_at is null limit p_limit
  ) waiting
$$;

-- A person decides what waits; HF014 for the person whose step it follows from. A reward that follows from the rules takes a second
-- person only beyond p_limits: then the first one's approval leaves it waiting.
create function decide_reward(p_id uuid, p_approve boolean, p_by text, p_reason text, p_at timestamptz, p_limits jsonb default null)
returns reward
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  r reward;
  enough boolean;
begin
  perform require_person(p_by);
  select * into r from reward where id = p_id for update;
  if not found then perform refuse('HF001', 'reward unknown'); end if;
  if r.state <> 'waiting' then return r; end if;
  if p_approve then
    enough := case r.requested_by when 'rules' then approve_automatic('reward', r.id, r.account_id, r.amount, p_by, p_limits)
      else approve('reward', r.id, r.requested_by, p_by) end;
    return case when enough then post_reward(r, p_by, p_at) else r end;
  end if;
  update reward set state = 'rejected', reason = coalesce(p_reason, 'rejected'), decided_by = p_by, decided_at = p_at
  where id = p_id returning * into r;
  return r;
end
$$;

-- The spans of a user's paid votes on a site that end after p_from.
create function vote_spans(p_site text, p_user text, p_from timestamptz) returns table (starts_at timestamptz, ends_at timestamptz)
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select lower(cooldown), upper(cooldown) from vote
  where site = p_site and discord_user_id = p_user and outcome = 'accepted' and cooldown && tstzrange(p_from, null)
  order by 1
$$;

-- Records what was decided of a vote, once per event, and pays an accepted one. When another vote took the span meanwhile, the
-- exclusion constraint has the last word: it is refused. Returns the vote as it is recorded.
create function record_vote(p_site text, p_event text, p_vote_id text, p_user text, p_voted_at timestamptz, p_arrived_at timestamptz,
  p_weight integer, p_outcome text, p_reason text, p_until timestamptz, p_rules jsonb, p_at timestamptz) returns vote
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v vote;
  r reward;
begin
  perform lock_discord_user(p_user);
  select * into v from vote where site = p_site and (event_id = p_event or (vote_id = p_vote_id and outcome = 'accepted'));
  if found then return v; end if;
  if p_outcome = 'accepted' then
    begin
      r := earn_reward('vote', p_site || '/' || coalesce(p_vote_id, p_user || '/' || p_event), p_user, linked_account(p_user), p_voted_at, p_rules,
        jsonb_build_object('site', p_site, 'weight', p_weight, 'voted_at', p_voted_at, 'next_vote_at', p_until), 'rules', p_at);
      insert into vote (site, event_id, vote_id, discord_user_id, voted_at, arrived_at, weight, outcome, cooldown, reward_id)
      values (p_site, p_event, p_vote_id, p_user, p_voted_at, p_arrived_at, p_weight, 'accepted', tstzrange(p_voted_at, p_until), r.id)
      returning * into v;
      return v;
    exception when exclusion_violation then
      p_outcome := 'refused';
      p_reason := 'cooldown';
    end;
  end if;
  insert into vote (site, event_id, vote_id, discord_user_id, voted_at, arrived_at, weight, outcome, reason)
  values (p_site, p_event, p_vote_id, p_user, p_voted_at, p_arrived_at, p_weight, p_outcome, p_reason) returning * into v;
  return v;
end
$$;

-- Records the boosts of one system message, each once, and pays them. A boost that is known by premium_since already is the
-- message's first one: Discord sets both in the same moment. Says how many are new.
create function record_boosts(p_user text, p_message text, p_count integer, p_boosted_at timestamptz, p_match_seconds numeric,
  p_rules jsonb, p_at timestamptz) returns integer
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  near interval := make_interval(secs => p_match_seconds::double precision);
  r reward;
  made integer := 0;
begin
  perform lock_discord_user(p_user);
  if exists (select from boost where message_id = p_message) then return 0; end if;
  update boost set message_id = p_message, n = 1
  where id = (select id from boost where discord_user_id = p_user and message_id is null
    and premium_since between p_boosted_at - near and p_boosted_at + near order by premium_since limit 1);
  for i in case when found then 2 else 1 end .. p_count loop
    r := earn_reward('boost', p_message || '/' || i, p_user, linked_account(p_user), p_boosted_at, p_rules,
      jsonb_build_object('message_id', p_message, 'n', i, 'of', p_count), 'rules', p_at);
    insert into boost (discord_user_id, message_id, n, boosted_at, reward_id) values (p_user, p_message, i, p_boosted_at, r.id);
    made := made + 1;
  end loop;
  return made;
end
$$;

-- Records that a user became a booster. It is the boost of a system message of that moment where there is one; else it is paid
-- by itself: the message was missed, or such messages are switched off. Says whether it is new.
create function record_premium(p_user text, p_since timestamptz, p_match_seconds numeric, p_rules jsonb, p_at timestamptz) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  near interval := make_interval(secs => p_match_seconds::double precision);
  r reward;
begin
  perform lock_discord_user(p_user);
  if exists (select from boost where discord_user_id = p_user and premium_since = p_since) then return false; end if;
  update boost set premium_since = p_since
  where id = (select id from boost where discord_user_id = p_user and premium_since is null
    and boosted_at between p_since - near and p_since + near order by boosted_at, n limit 1);
  if found then return false; end if;
  r := earn_reward('boost', 'premium/' || p_user || '/' || to_char(p_since at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), p_user,
    linked_account(p_user), p_since, p_rules, jsonb_build_object('premium_since', p_since), 'rules', p_at);
  insert into boost (discord_user_id, premium_since, boosted_at, reward_id) values (p_user, p_since, p_since, r.id);
  return true;
end
$$;

-- Keeps what a member's roles and premium_since tell as events, and says which are new: a booster once per premium_since, a vote by
-- role each time the role comes. p_vote_roles is site → role id.
create function note_member(p_user text, p_roles text[], p_premium_since timestamptz, p_vote_roles jsonb, p_at timestamptz)
returns table (provider text, event_id text)
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  s record;
  e text;
begin
  perform lock_discord_user(p_user);
  if p_premium_since is not null then
    e := 'premium/' || p_user || '/' || to_char(p_premium_since at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
    if store_event('discord', e, 'premium', jsonb_build_object('discord_user_id', p_user, 'premium_since', p_premium_since)) then
      provider := 'discord'; event_id := e; return next;
    end if;
  end if;
  for s in select key as site, value = any (p_roles) as has from jsonb_each_text(p_vote_roles) loop
    if s.has then
      insert into vote_role as v (discord_user_id, site, held, changed_at) values (p_user, s.site, true, p_at)
      on conflict (discord_user_id, site) do update set held = true, changed_at = p_at where not v.held;
      continue when not found;
      e := p_user || '/' || to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
      perform store_event('votes/' || s.site, e, 'role', jsonb_build_object('arrived_at', p_at, 'body', jsonb_build_object('user', p_user)));
      provider := 'votes/' || s.site; event_id := e; return next;
    else
      update vote_role v set held = false, changed_at = p_at where v.discord_user_id = p_user and v.site = s.site and v.held;
    end if;
  end loop;
end
$$;

-- Members of whom a vote's role is on record: when a listing shows them without it, it has gone unseen.
create function vote_role_holders() returns text[]
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select coalesce(array_agg(distinct discord_user_id::text), '{}') from vote_role where held
$$;

create function create_bounty(p_id uuid, p_account uuid, p_title text, p_description text, p_by text, p_at timestamptz) returns bounty_report
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  b bounty_report;
begin
  perform 1 from account where id = p_account and kind = 'customer';
  if not found then perform refuse('HF001', 'account unknown'); end if;
  insert into bounty_report (id, account_id, title, description, reported_by, reported_at)
  values (p_id, p_account, p_title, p_description, p_by, p_at) on conflict (id) do nothing;
  select * into b from bounty_report where id = p_id;
  if (b.account_id, b.title, b.description) is distinct from (p_account, p_title, p_description) then
    perform refuse('HF009', 'bounty id reused');
  end if;
  return b;
end
$$;

create function bounty_of(p_id uuid) returns setof bounty_report
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select * from bounty_report where id = p_id
$$;

create function triage_bounty(p_id uuid, p_by text) returns setof bounty_report
language sql security definer set search_path = holdfast, pg_temp as $$
  select require_person(p_by);
  update bounty_report set state = 'triaged', triaged_by = p_by where id = p_id and state = 'submitted';
  select * from bounty_report where id = p_id
$$;

-- Gives a report its severity, and with it the amount. Paid at once, unless it is beyond p_limits, the month's budget or a cap: then a
-- second person has to approve.
create function accept_bounty(p_id uuid, p_severity text, p_limits jsonb, p_budget usd, p_rules jsonb, p_by text, p_at timestamptz)
returns setof bounty_report language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  b bounty_report;
  r reward;
  worth numeric := (p_rules ->> 'amount')::numeric;
  spent numeric;
begin
  perform require_person(p_by);
  perform pg_advisory_xact_lock(hashtextextended('holdfast.bounty_budget', 0));
  select * into b from bounty_report where id = p_id for update;
  if b.state = 'triaged' then
    select coalesce(sum(granted), 0) into spent from reward_day
    where kind = 'bounty' and account_id = '00000000-0000-0000-0000-000000000000'
      and day >= date_trunc('month', p_at at time zone 'UTC') and day < date_trunc('month', p_at at time zone 'UTC') + interval '1 month';
    insert into reward (kind, source_event, account_id, amount, state, reason, earned_at, requested_by, rule_version, details)
    values ('bounty', p_id::text, b.account_id, worth, 'waiting',
      case when worth > (p_limits ->> 'movement')::numeric then 'second_approval' when spent + worth > p_budget then 'monthly_budget'
        else 'unsettled' end, p_at, p_by, p_rules ->> 'version', jsonb_build_object('severity', p_severity, 'title', b.title))
    returning * into r;
    if r.reason = 'unsettled' then
      if count_hand_money('reward', r.id, p_by, b.account_id, worth, p_limits) then r := settle_reward(r, p_rules, p_at);
      else update reward set reason = 'second_approval' where id = r.id returning * into r; end if;
    end if;
    update bounty_report set state = case r.state when 'posted' then 'rewarded' else 'accepted' end, severity = p_severity, amount = worth,
      severity_by = p_by, reward_id = r.id, decided_by = case r.state when 'posted' then p_by end,
      decided_at = case r.state when 'posted' then p_at end
    where id = p_id;
  end if;
  return query select * from bounty_report where id = p_id;
end
$$;

-- A second person approves: pays once.
create function approve_bounty(p_id uuid, p_by text, p_at timestamptz) returns setof bounty_report
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  b bounty_report;
  r reward;
begin
  select * into b from bounty_report where id = p_id for update;
  if b.state = 'accepted' then
    r := decide_reward(b.reward_id, true, p_by, null, p_at);
    if r.state = 'posted' then
      update bounty_report set state = 'rewarded', decided_by = p_by, decided_at = p_at where id = p_id;
    end if;
  end if;
  return query select * from bounty_report where id = p_id;
end
$$;

-- Closes a report without money, with the reason that its reporter reads.
create function close_bounty(p_id uuid, p_state text, p_reason text, p_duplicate_of uuid, p_by text, p_at timestamptz)
returns setof bounty_report language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  b bounty_report;
begin
  perform require_person(p_by);
  select * into b from bounty_report where id = p_id for update;
  if b.state in ('submitted', 'triaged', 'accepted') then
    if b.reward_id is not null then perform decide_reward(b.reward_id, false, p_by, p_reason, p_at); end if;
    update bounty_report set state = p_state, reason = p_reason, duplicate_of = p_duplicate_of, decided_by = p_by, decided_at = p_at
    where id = p_id;
  end if;
  return query select * from bounty_report where id = p_id;
end
$$;

reset role;
reset search_path;
