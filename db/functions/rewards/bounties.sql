-- Bug bounties. rewards/rewards.sql has the lock order.
--
-- Whether the month's budget is used up is decided here and not in domain/rewards/bounty.ts or
-- domain/rewards/reward.ts, which has the budget: two reports that are accepted at once must not both be the last
-- (accept_bounty).

create function create_bounty(p_id uuid, p_account uuid, p_title text, p_description text, p_by text, p_at timestamptz)
returns bounty_report
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_report bounty_report;
begin
  perform 1 from account where id = p_account and kind = 'customer';
  if not found then
    perform refuse('HF001', 'account unknown');
  end if;
  insert into bounty_report (id, account_id, title, description, reported_by, reported_at)
  values (p_id, p_account, p_title, p_description, p_by, p_at) on conflict (id) do nothing;
  select * into v_report from bounty_report where id = p_id;
  if (v_report.account_id, v_report.title, v_report.description) is distinct from (p_account, p_title, p_description)
    then
    perform refuse('HF009', 'bounty id reused');
  end if;
  return v_report;
end
$$;
grant execute on function create_bounty to holdfast_management;

create function bounty_of(p_id uuid) returns setof bounty_report
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select * from bounty_report where id = p_id
$$;
grant execute on function bounty_of to holdfast_worker, holdfast_management;

create function triage_bounty(p_id uuid, p_by text) returns setof bounty_report
language sql security definer set search_path = holdfast, pg_temp as $$
  select require_person(p_by);
  update bounty_report set state = 'triaged', triaged_by = p_by where id = p_id and state = 'submitted';
  select * from bounty_report where id = p_id
$$;
grant execute on function triage_bounty to holdfast_management;

-- Gives a report its severity, and with it the amount. Paid at once, unless it is beyond p_limits, the month's budget
-- or a cap: then a second person has to approve.
create function accept_bounty(p_id uuid, p_severity text, p_limits jsonb, p_budget usd, p_rules jsonb, p_by text,
  p_at timestamptz) returns setof bounty_report
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_report bounty_report;
  v_reward reward;
  v_worth numeric := (p_rules ->> 'amount')::numeric;
  v_spent numeric;
begin
  perform require_person(p_by);
  perform pg_advisory_xact_lock(hashtextextended('holdfast.bounty_budget', 0));
  select * into v_report from bounty_report where id = p_id for update;
  if v_report.state = 'triaged' then
    select coalesce(sum(granted), 0) into v_spent from reward_day
    where kind = 'bounty' and account_id = '00000000-0000-0000-0000-000000000000'
      and day >= date_trunc('month', p_at at time zone 'UTC')
      and day < date_trunc('month', p_at at time zone 'UTC') + interval '1 month';
    insert into reward (kind, source_event, account_id, amount, state, reason, earned_at, requested_by, rule_version,
      details)
    values ('bounty', p_id::text, v_report.account_id, v_worth, 'waiting',
      case when v_worth > (p_limits ->> 'movement')::numeric then 'second_approval'
        when v_spent + v_worth > p_budget then 'monthly_budget'
        else 'unsettled' end,
      p_at, p_by, p_rules ->> 'version', jsonb_build_object('severity', p_severity, 'title', v_report.title))
    returning * into v_reward;
    if v_reward.reason = 'unsettled' then
      if count_hand_money('reward', v_reward.id, p_by, v_report.account_id, v_worth, p_limits) then
        v_reward := settle_reward(v_reward, p_rules, p_at);
      else
        update reward set reason = 'second_approval' where id = v_reward.id returning * into v_reward;
      end if;
    end if;
    update bounty_report set state = case v_reward.state when 'posted' then 'rewarded' else 'accepted' end,
      severity = p_severity, amount = v_worth, severity_by = p_by, reward_id = v_reward.id,
      decided_by = case v_reward.state when 'posted' then p_by end,
      decided_at = case v_reward.state when 'posted' then p_at end
    where id = p_id;
  end if;
  return query select * from bounty_report where id = p_id;
end
$$;
grant execute on function accept_bounty to holdfast_management;

-- A second person approves: pays once.
create function approve_bounty(p_id uuid, p_by text, p_at timestamptz) returns setof bounty_report
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_report bounty_report;
  v_reward reward;
begin
  select * into v_report from bounty_report where id = p_id for update;
  if v_report.state = 'accepted' then
    v_reward := decide_reward(v_report.reward_id, true, p_by, null, p_at);
    if v_reward.state = 'posted' then
      update bounty_report set state = 'rewarded', decided_by = p_by, decided_at = p_at where id = p_id;
    end if;
  end if;
  return query select * from bounty_report where id = p_id;
end
$$;
grant execute on function approve_bounty to holdfast_management;

-- Closes a report without money, with the reason that its reporter reads.
create function close_bounty(p_id uuid, p_state text, p_reason text, p_duplicate_of uuid, p_by text, p_at timestamptz)
returns setof bounty_report
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_report bounty_report;
begin
  perform require_person(p_by);
  select * into v_report from bounty_report where id = p_id for update;
  if v_report.state in ('submitted', 'triaged', 'accepted') then
    if v_report.reward_id is not null then
      perform decide_reward(v_report.reward_id, false, p_by, p_reason, p_at);
    end if;
    update bounty_report set state = p_state, reason = p_reason, duplicate_of = p_duplicate_of, decided_by = p_by,
      decided_at = p_at
    where id = p_id;
  end if;
  return query select * from bounty_report where id = p_id;
end
$$;
grant execute on function close_bounty to holdfast_management;
