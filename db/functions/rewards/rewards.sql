-- Rewards: what is earned, paid, or waits. What each pays follows from the rules that the caller passes; that it pays
-- once is said by unique keys of the table. Every function takes the time as an argument.
--
-- Whether a daily cap is reached is decided here and not in domain/rewards/reward.ts, which has the caps: what was
-- granted is known only under the lock of the day's rows (settle_reward).
--
-- Lock order: Discord user (advisory), account's link (advisory), bounty budget (advisory), bounty report, reward,
-- account, then reward_day by kind and day. A transaction pays one account, so a transaction that waits for a day holds
-- nothing that another waits for.

-- Posts a reward that has its account, and counts it. The posting tells the whole story: event, rules, amount, who
-- decided.
create function post_reward(p_reward reward, p_by text, p_at timestamptz) returns reward
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  perform 1 from account where id = p_reward.account_id for no key update;
  insert into reward_day (kind, day, account_id, granted)
  select p_reward.kind, (p_reward.earned_at at time zone 'UTC')::date,
    unnest(array['00000000-0000-0000-0000-000000000000', p_reward.account_id]), p_reward.amount
  on conflict (kind, day, account_id) do update set granted = reward_day.granted + excluded.granted;
  p_reward.posting_id := post_transfer('reward_' || p_reward.kind, p_reward.id,
    system_account('promo:' || p_reward.kind), p_reward.account_id, p_reward.amount,
    jsonb_build_object('source_event', p_reward.source_event, 'earned_at', p_reward.earned_at,
    'rule_version', p_reward.rule_version,
      'amount_usd', p_reward.amount::numeric(38,12)::text, 'discord_user_id', p_reward.discord_user_id,
      'requested_by', p_reward.requested_by, 'approved_by', p_by) || p_reward.details, false);
  update reward set state = 'posted', account_id = p_reward.account_id, reason = null, posting_id = p_reward.posting_id,
    decided_at = p_at, decided_by = p_by
  where id = p_reward.id returning * into p_reward;
  return p_reward;
end
$$;

-- Pays a reward to its account, or lets it wait for a person: above a cap, or while the account is frozen.
create function settle_reward(p_reward reward, p_rules jsonb, p_at timestamptz) returns reward
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_everybody constant uuid := '00000000-0000-0000-0000-000000000000';
  v_earned_day date := (p_reward.earned_at at time zone 'UTC')::date;
  v_of_all numeric;
  v_of_account numeric;
begin
  perform 1 from account where id = p_reward.account_id for no key update;
  insert into reward_day (kind, day, account_id, granted) values (p_reward.kind, v_earned_day, v_everybody, 0),
    (p_reward.kind, v_earned_day, p_reward.account_id, 0)
  on conflict do nothing;
  select granted into v_of_all from reward_day where kind = p_reward.kind and day = v_earned_day
    and account_id = v_everybody for no key update;
  select granted into v_of_account from reward_day where kind = p_reward.kind and day = v_earned_day
    and account_id = p_reward.account_id for no key update;
  p_reward.reason := case
    when (select frozen_at from account where id = p_reward.account_id) is not null then 'account_frozen'
    when v_of_all + p_reward.amount > (p_rules ->> 'cap_per_day')::numeric then 'source_cap'
    when v_of_account + p_reward.amount > (p_rules ->> 'cap_per_account_day')::numeric then 'account_cap'
  end;
  if p_reward.reason is null then
    return post_reward(p_reward, null, p_at);
  end if;
  update reward set state = 'waiting', account_id = p_reward.account_id, reason = p_reward.reason where id = p_reward.id
  returning * into p_reward;
  return p_reward;
end
$$;

-- Records that something was earned, once per (kind, source event), and pays it, lets it wait for approval, or keeps it
-- until the Discord user links an account. A repeat returns what is there. The caller holds the Discord user's lock.
create function earn_reward(p_kind text, p_source text, p_user text, p_account uuid, p_earned timestamptz,
  p_rules jsonb, p_details jsonb, p_by text, p_at timestamptz) returns reward
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_reward reward;
  v_made boolean;
  v_expiry timestamptz := p_earned + make_interval(secs => (p_rules ->> 'claim_seconds')::double precision);
begin
  insert into reward (kind, source_event, discord_user_id, account_id, amount, state, reason, earned_at, expires_at,
    requested_by, rule_version, details)
  values (p_kind, p_source, p_user, p_account, (p_rules ->> 'amount')::usd,
    case when p_account is not null then 'waiting' when v_expiry <= p_at then 'expired' else 'claimable' end,
    case when p_account is not null then 'unsettled' when v_expiry <= p_at then 'claim_expired' end,
    p_earned, case when p_account is null then v_expiry end, p_by, p_rules ->> 'version', p_details)
  on conflict (kind, source_event) do nothing returning * into v_reward;
  v_made := found;
  if not v_made then
    select * into v_reward from reward where kind = p_kind and source_event = p_source;
    return v_reward;
  end if;
  if p_account is null then
    return v_reward;
  end if;
  return settle_reward(v_reward, p_rules, p_at);
end
$$;

-- Pays what a linked Discord user earned before, oldest first of each kind; what has lapsed meanwhile is closed. Says
-- how many were looked at: fewer than p_limit means that none is left.
create function release_claims(p_user text, p_rules jsonb, p_limit integer, p_at timestamptz) returns integer
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_reward reward;
  v_owner uuid;
  v_done integer := 0;
begin
  perform lock_discord_user(p_user);
  v_owner := linked_account(p_user);
  if v_owner is null then
    return 0;
  end if;
  for v_reward in select * from reward where discord_user_id = p_user and state = 'claimable'
    order by kind, earned_at, id limit p_limit for update loop
    v_done := v_done + 1;
    if v_reward.expires_at <= p_at then
      update reward set state = 'expired', reason = 'claim_expired', decided_at = p_at where id = v_reward.id;
    else
      v_reward.account_id := v_owner;
      perform settle_reward(v_reward, p_rules -> v_reward.kind, p_at);
    end if;
  end loop;
  return v_done;
end
$$;
grant execute on function release_claims to holdfast_worker;

-- Closes claims that nobody came for; says how many.
create function expire_claims(p_limit integer, p_at timestamptz) returns integer
language sql security definer set search_path = holdfast, pg_temp as $$
  with lapsed as (
    update reward set state = 'expired', reason = 'claim_expired', decided_at = p_at
    where id in (select id from reward where state = 'claimable' and expires_at <= p_at limit p_limit
      for update skip locked)
    returning 1
  )
  select count(*)::integer from lapsed
$$;
grant execute on function expire_claims to holdfast_worker;

-- Discord users who are linked and still have claims: their link's run was lost.
create function find_waiting_claims(p_limit integer) returns text[]
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select coalesce(array_agg(u), '{}') from (
    select distinct r.discord_user_id::text as u from reward r
      join discord_link l on l.discord_user_id = r.discord_user_id
    where r.state = 'claimable' and l.unlinked_at is null limit p_limit
  ) waiting
$$;
grant execute on function find_waiting_claims to holdfast_worker;

-- A person decides what waits; HF014 for the person whose step it follows from. A reward that follows from the rules
-- takes a second person only beyond p_limits: then the first one's approval leaves it waiting.
create function decide_reward(p_id uuid, p_approve boolean, p_by text, p_reason text, p_at timestamptz,
  p_limits jsonb default null) returns reward
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_reward reward;
  v_enough boolean;
begin
  perform require_person(p_by);
  select * into v_reward from reward where id = p_id for update;
  if not found then
    perform refuse('HF001', 'reward unknown');
  end if;
  if v_reward.state <> 'waiting' then
    return v_reward;
  end if;
  if p_approve then
    v_enough := case v_reward.requested_by when 'rules' then approve_automatic('reward', v_reward.id,
      v_reward.account_id, v_reward.amount, p_by, p_limits)
      else approve('reward', v_reward.id, v_reward.requested_by, p_by) end;
    return case when v_enough then post_reward(v_reward, p_by, p_at) else v_reward end;
  end if;
  update reward set state = 'rejected', reason = coalesce(p_reason, 'rejected'), decided_by = p_by, decided_at = p_at
  where id = p_id returning * into v_reward;
  return v_reward;
end
$$;
grant execute on function decide_reward to holdfast_management;
