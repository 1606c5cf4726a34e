-- How commissions are computed, and what takes a second person.

-- Whether a rule pays more, or sooner, than another.
create function pays_more(p_new commission_rule, p_old commission_rule) returns boolean
language sql immutable as $$
  select p_new.rate_ppm > p_old.rate_ppm or p_new.hold_days < p_old.hold_days
    or p_new.final_hold_days < p_old.final_hold_days
    or p_new.dispute_days < p_old.dispute_days
$$;
grant execute on function pays_more to holdfast_management, holdfast_reporter, holdfast_auditor;

-- Publishes the next version, in force from now on for what is credited from now on. A version that pays more or sooner
-- than the version in force takes a second person: HF014 unless p_approved_by is another one than p_by.
create function publish_commission_rule(p_rate rate_ppm, p_hold_days integer, p_final_hold_days integer,
  p_dispute_days integer, p_reason text, p_by text, p_approved_by text default null) returns commission_rule
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_last_rule commission_rule;
  v_rule commission_rule;
begin
  perform require_person(p_by);
  perform pg_advisory_xact_lock(hashtextextended('holdfast.commission_rule', 0));
  select * into v_last_rule from commission_rule order by version desc limit 1;
  insert into commission_rule (version, valid_from, rate_ppm, hold_days, final_hold_days, dispute_days, created_by,
    reason, approved_by)
  values (v_last_rule.version + 1, clock_timestamp(), p_rate, p_hold_days, p_final_hold_days, p_dispute_days, p_by,
    p_reason, p_approved_by)
  returning * into v_rule;
  if pays_more(v_rule, v_last_rule) and same_person(p_by, p_approved_by) is distinct from false then
    perform refuse('HF014', 'a second person must approve');
  end if;
  return v_rule;
end
$$;
grant execute on function publish_commission_rule to holdfast_management;

-- Sets an affiliate's own rate; null is the rule's. Above the rule's and its own it takes a second person: HF014 unless
-- p_approved_by is another one than p_by. No row when the account is no affiliate.
create function set_affiliate_rate(p_affiliate uuid, p_rate rate_ppm, p_by text, p_approved_by text default null)
returns setof affiliate
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_affiliate affiliate;
  v_standing integer;
begin
  perform require_person(p_by);
  select * into v_affiliate from affiliate where account_id = p_affiliate for update;
  if not found then
    return;
  end if;
  select rate_ppm into v_standing from commission_rule order by version desc limit 1;
  if p_rate > greatest(v_standing, v_affiliate.rate_ppm) and same_person(p_by, p_approved_by) is distinct from false
    then
    perform refuse('HF014', 'a second person must approve');
  end if;
  return query update affiliate set rate_ppm = p_rate where account_id = p_affiliate returning *;
end
$$;
grant execute on function set_affiliate_rate to holdfast_management;

create function commission_rules() returns setof commission_rule
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select * from commission_rule order by version
$$;
grant execute on function commission_rules to holdfast_worker;

create trigger append_only before update or delete on commission_rule for each row execute function deny_change();
create trigger append_only_truncate before truncate on commission_rule
  for each statement execute function deny_change();
