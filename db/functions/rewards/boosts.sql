-- Boosts of the Discord server. rewards/rewards.sql has the lock order.
--
-- Which message and which `premium_since` are one boost is decided here, under the lock of the user: what to compare
-- with is known only then. How far the two may lie apart is handed in (domain/rewards/reward.ts).

-- Records the boosts of one system message, each once, and pays them. A boost that is known by premium_since already is
-- the message's first one: Discord sets both in the same moment. Says how many are new.
create function record_boosts(p_user text, p_message text, p_count integer, p_boosted_at timestamptz,
  p_match_seconds numeric, p_rules jsonb, p_at timestamptz) returns integer
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_near interval := make_interval(secs => p_match_seconds::double precision);
  v_reward reward;
  v_new_boosts integer := 0;
begin
  perform lock_discord_user(p_user);
  if exists (select from boost where message_id = p_message) then
    return 0;
  end if;
  update boost set message_id = p_message, n = 1
  where id = (select id from boost where discord_user_id = p_user and message_id is null
    and premium_since between p_boosted_at - v_near and p_boosted_at + v_near order by premium_since limit 1);
  for v_n in case when found then 2 else 1 end .. p_count loop
    v_reward := earn_reward('boost', p_message || '/' || v_n, p_user, linked_account(p_user), p_boosted_at, p_rules,
      jsonb_build_object('message_id', p_message, 'n', v_n, 'of', p_count), 'rules', p_at);
    insert into boost (discord_user_id, message_id, n, boosted_at, reward_id)
    values (p_user, p_message, v_n, p_boosted_at, v_reward.id);
    v_new_boosts := v_new_boosts + 1;
  end loop;
  return v_new_boosts;
end
$$;
grant execute on function record_boosts to holdfast_worker;

-- Records that a user became a booster. It is the boost of a system message of that moment where there is one; else it
-- is paid on its own: the message was missed, or such messages are switched off. Says whether it is new.
create function record_premium(p_user text, p_since timestamptz, p_match_seconds numeric, p_rules jsonb,
  p_at timestamptz) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_near interval := make_interval(secs => p_match_seconds::double precision);
  v_reward reward;
begin
  perform lock_discord_user(p_user);
  if exists (select from boost where discord_user_id = p_user and premium_since = p_since) then
    return false;
  end if;
  update boost set premium_since = p_since
  where id = (select id from boost where discord_user_id = p_user and premium_since is null
    and boosted_at between p_since - v_near and p_since + v_near order by boosted_at, n limit 1);
  if found then
    return false;
  end if;
  v_reward := earn_reward('boost', 'premium/' || p_user || '/'
    || to_char(p_since at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), p_user, linked_account(p_user), p_since,
    p_rules, jsonb_build_object('premium_since', p_since), 'rules', p_at);
  insert into boost (discord_user_id, premium_since, boosted_at, reward_id)
  values (p_user, p_since, p_since, v_reward.id);
  return true;
end
$$;
grant execute on function record_premium to holdfast_worker;
