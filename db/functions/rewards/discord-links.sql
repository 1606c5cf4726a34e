-- Links of Discord users to accounts. rewards/rewards.sql has the lock order.

create function lock_discord_user(p_user text) returns void
language sql as $$ select pg_advisory_xact_lock(hashtextextended('holdfast.discord_user/' || p_user, 0)) $$;

create function linked_account(p_user text) returns uuid
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select account_id from discord_link where discord_user_id = p_user and unlinked_at is null
$$;

-- Begins a link: keeps who asked, and forgets attempts that are long over, and those of this account but for the newest
-- ten.
create function begin_discord_link(p_hash bytea, p_browser bytea, p_account uuid, p_token uuid, p_ttl_seconds numeric,
  p_at timestamptz) returns void
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  delete from discord_state where expires_at < p_at - interval '1 day';
  delete from discord_state where hash in (
    select hash from discord_state where account_id = p_account order by expires_at desc offset 9);
  insert into discord_state (hash, browser_hash, account_id, token_id, expires_at)
  values (p_hash, p_browser, p_account, p_token, p_at + make_interval(secs => p_ttl_seconds::double precision));
end
$$;
grant execute on function begin_discord_link to holdfast_management;

-- Uses an attempt up, for the browser or the token that began it, and says whose account it is for; null when it cannot
-- be used.
create function use_discord_state(p_hash bytea, p_browser bytea, p_token uuid, p_at timestamptz) returns uuid
language sql security definer set search_path = holdfast, pg_temp as $$
  update discord_state set used_at = p_at
  where hash = p_hash and used_at is null and expires_at > p_at and (browser_hash = p_browser or token_id = p_token)
  returning account_id
$$;
grant execute on function use_discord_state to holdfast_management;

-- Writes down who Discord says the user of a used attempt is, once.
create function prove_discord_link(p_hash bytea, p_user text, p_username text) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  update discord_state set discord_user_id = p_user, username = p_username
  where hash = p_hash and used_at is not null and discord_user_id is null
$$;
grant execute on function prove_discord_link to holdfast_management;

-- What an attempt has proven; no row while it has not.
create function proven_discord_link(p_hash bytea) returns table (discord_user_id text, account_id uuid, username text)
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select s.discord_user_id, s.account_id, s.username from discord_state s
  where s.hash = p_hash and s.discord_user_id is not null
$$;
grant execute on function proven_discord_link to holdfast_worker;

-- Writes down that linking paid nothing, and why; a repeat moves its time.
create function deny_link(p_user text, p_account uuid, p_reason text, p_rules jsonb, p_at timestamptz) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  insert into reward (kind, source_event, discord_user_id, account_id, amount, state, reason, earned_at, decided_at,
    rule_version, details)
  values ('discord_link', p_user || '/' || p_account || '/' || p_reason, p_user, p_account, (p_rules ->> 'amount')::usd,
    'denied', p_reason, p_at, p_at, p_rules ->> 'version', '{}')
  on conflict (kind, source_event) do update set earned_at = excluded.earned_at, decided_at = excluded.decided_at,
    amount = excluded.amount, rule_version = excluded.rule_version
$$;

-- Links a Discord user to an account, unless p_refusal or another link speaks against it, and pays the reward for
-- linking once. Says 'linked' or why not. A repeat says the same and pays nothing.
create function link_discord(p_user text, p_account uuid, p_username text, p_refusal text, p_rules jsonb,
  p_at timestamptz) returns text
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_link discord_link;
  v_refusal text := p_refusal;
begin
  perform lock_discord_user(p_user);
  perform pg_advisory_xact_lock(hashtextextended('holdfast.discord_account/' || p_account, 0));
  select * into v_link from discord_link where discord_user_id = p_user and unlinked_at is null;
  if found and v_link.account_id = p_account then
    update discord_link set username = p_username, stale_at = null where id = v_link.id;
    return 'linked';
  end if;
  if found then
    v_refusal := 'linked_elsewhere';
  elsif exists (select from discord_link where account_id = p_account and unlinked_at is null) then
    v_refusal := 'account_has_link';
  end if;
  if v_refusal is not null then
    perform deny_link(p_user, p_account, v_refusal, p_rules, p_at);
    return v_refusal;
  end if;
  insert into discord_link (discord_user_id, account_id, username, linked_at)
  values (p_user, p_account, p_username, p_at);
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
grant execute on function link_discord to holdfast_worker;

-- Ends an account's link; what was given stays given. Says whether there was one.
create function unlink_discord(p_account uuid, p_at timestamptz) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  update discord_link set unlinked_at = greatest(p_at, linked_at) where account_id = p_account and unlinked_at is null;
  return found;
end
$$;
grant execute on function unlink_discord to holdfast_management;

create function note_deauthorized(p_user text, p_at timestamptz) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  update discord_link set stale_at = p_at where discord_user_id = p_user and unlinked_at is null;
  return found;
end
$$;
grant execute on function note_deauthorized to holdfast_worker;
