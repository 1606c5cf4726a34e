-- Votes on directories. rewards/rewards.sql has the lock order.

-- The spans of a user's paid votes on a site that end after p_from.
create function vote_spans(p_site text, p_user text, p_from timestamptz)
returns table (starts_at timestamptz, ends_at timestamptz)
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select lower(cooldown), upper(cooldown) from vote
  where site = p_site and discord_user_id = p_user and outcome = 'accepted' and cooldown && tstzrange(p_from, null)
  order by 1
$$;
grant execute on function vote_spans to holdfast_worker;

-- Records what was decided of a vote, once per event, and pays an accepted one. When another vote took the span
-- meanwhile, the exclusion constraint has the last word: it is refused. Returns the vote as it is recorded.
create function record_vote(p_site text, p_event text, p_vote_id text, p_user text, p_voted_at timestamptz,
  p_arrived_at timestamptz, p_weight integer, p_outcome text, p_reason text, p_until timestamptz, p_rules jsonb,
  p_at timestamptz) returns vote
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_vote vote;
  v_reward reward;
begin
  perform lock_discord_user(p_user);
  select * into v_vote from vote where site = p_site and (event_id = p_event
    or (vote_id = p_vote_id and outcome = 'accepted'));
  if found then
    return v_vote;
  end if;
  if p_outcome = 'accepted' then
    begin
      v_reward := earn_reward('vote', p_site || '/' || coalesce(p_vote_id, p_user || '/' || p_event), p_user,
        linked_account(p_user), p_voted_at, p_rules, jsonb_build_object('site', p_site, 'weight', p_weight,
        'voted_at', p_voted_at, 'next_vote_at', p_until), 'rules', p_at);
      insert into vote (site, event_id, vote_id, discord_user_id, voted_at, arrived_at, weight, outcome, cooldown,
        reward_id)
      values (p_site, p_event, p_vote_id, p_user, p_voted_at, p_arrived_at, p_weight,
        'accepted', tstzrange(p_voted_at, p_until), v_reward.id)
      returning * into v_vote;
      return v_vote;
    exception when exclusion_violation then
      p_outcome := 'refused';
      p_reason := 'cooldown';
    end;
  end if;
  insert into vote (site, event_id, vote_id, discord_user_id, voted_at, arrived_at, weight, outcome, reason)
  values (p_site, p_event, p_vote_id, p_user, p_voted_at, p_arrived_at, p_weight, p_outcome, p_reason)
    returning * into v_vote;
  return v_vote;
end
$$;
grant execute on function record_vote to holdfast_worker;

-- Keeps what a member's roles and premium_since tell as events, and says which are new: a booster once per
-- premium_since, a vote by role each time the role comes. p_vote_roles is site → role id.
create function note_member(p_user text, p_roles text[], p_premium_since timestamptz, p_vote_roles jsonb,
  p_at timestamptz)
returns table (provider text, event_id text)
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_role record;
  v_event text;
begin
  perform lock_discord_user(p_user);
  if p_premium_since is not null then
    v_event := 'premium/' || p_user || '/' || to_char(p_premium_since at time zone 'UTC',
      'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
    if store_event('discord', v_event, 'premium', jsonb_build_object('discord_user_id', p_user,
      'premium_since', p_premium_since)) then
      provider := 'discord';
      event_id := v_event;
      return next;
    end if;
  end if;
  for v_role in select key as site, value = any (p_roles) as has from jsonb_each_text(p_vote_roles) loop
    if v_role.has then
      insert into vote_role as v (discord_user_id, site, held, changed_at) values (p_user, v_role.site, true, p_at)
      on conflict (discord_user_id, site) do update set held = true, changed_at = p_at where not v.held;
      continue when not found;
      v_event := p_user || '/' || to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
      perform store_event('votes/' || v_role.site, v_event, 'role',
        jsonb_build_object('arrived_at', p_at, 'body', jsonb_build_object('user', p_user)));
      provider := 'votes/' || v_role.site;
      event_id := v_event;
      return next;
    else
      update vote_role v set held = false, changed_at = p_at where v.discord_user_id = p_user and v.site = v_role.site
        and v.held;
    end if;
  end loop;
end
$$;
grant execute on function note_member to holdfast_worker;

-- Members of whom a vote's role is on record: when a listing shows them without it, it has gone unseen.
create function vote_role_holders() returns text[]
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select coalesce(array_agg(distinct discord_user_id::text), '{}') from vote_role where held
$$;
grant execute on function vote_role_holders to holdfast_worker;

create trigger append_only before update or delete on vote for each row execute function deny_change();
create trigger append_only_truncate before truncate on vote for each statement execute function deny_change();
