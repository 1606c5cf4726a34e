-- What keeps requests from staying behind: heartbeats, the sweep's two searches, and evidence about orphans.
-- All ages are measured by this database's clock.

create function gateway_heartbeat(p_gateway uuid, p_description text) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  insert into gateway_instance (id, description) values (p_gateway, p_description)
  on conflict (id) do update set heartbeat_at = clock_timestamp()
$$;
grant execute on function gateway_heartbeat to holdfast_gateway;

create function gateway_stopped(p_gateway uuid) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  update gateway_instance set stopped_at = clock_timestamp() where id = p_gateway
$$;
grant execute on function gateway_stopped to holdfast_gateway;

-- The sweep's own heartbeat: `since` starts again whenever two calls lie further apart than p_gap_seconds.
create function note_reachable(p_gap_seconds numeric) returns timestamptz
language sql security definer set search_path = holdfast, pg_temp as $$
  update database_reachability set
    since = case when clock_timestamp() - seen_at > make_interval(secs => p_gap_seconds::double precision)
      then clock_timestamp() else since end,
    seen_at = clock_timestamp()
  returning since
$$;
grant execute on function note_reachable to holdfast_worker;

-- Finished rows that no settlement has reached for p_age_seconds, oldest first.
create function find_unsettled(p_age_seconds numeric, p_limit integer) returns uuid[]
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select coalesce(array_agg(id), '{}') from (
    select id from request
    where state = 'finished' and settle_error is null
      and finished_at < clock_timestamp() - make_interval(secs => p_age_seconds::double precision)
    order by finished_at limit p_limit
  ) oldest
$$;
grant execute on function find_unsettled to holdfast_worker;

-- Held rows without an owner: past expires_at, or their gateway is gone. Gone means stopped, or silent for
-- p_gone_seconds while the database could be reached all that time. Rows whose client had left are handed to a resolver
-- at most once a minute, so that they cannot crowd out the others.
create function find_orphans(p_gone_seconds numeric, p_limit integer)
returns table (request_id uuid, model_id text, client_left_at timestamptz)
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_now timestamptz := clock_timestamp();
  v_gone_before timestamptz := v_now - make_interval(secs => p_gone_seconds::double precision);
  v_reachable boolean := (select since <= v_gone_before from database_reachability);
begin
  return query
  with orphan as (
    select r.id from request r left join gateway_instance g on g.id = r.gateway_id
    where r.state = 'held'
      and (r.expires_at < v_now or g.stopped_at is not null or (v_reachable
        and coalesce(g.heartbeat_at, r.created_at) < v_gone_before))
      and (r.resolver_started_at is null or r.resolver_started_at < v_now - interval '1 minute')
    order by r.client_left_at nulls first, r.id limit p_limit
    for no key update of r skip locked
  )
  update request r set resolver_started_at = case when r.client_left_at is null then r.resolver_started_at
    else v_now end
  from orphan where r.id = orphan.id
  returning r.id, r.model_id, r.client_left_at;
end
$$;
grant execute on function find_orphans to holdfast_worker;

-- Books what an orphan consumed at the upstream although nobody is billed for it. Once per request.
create function book_platform_cost(p_request uuid, p_reason text, p_usage jsonb, p_list_cost usd, p_estimated boolean)
returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  insert into platform_cost (request_id, reason, usage, list_cost, estimated)
  values (p_request, p_reason, p_usage, p_list_cost, p_estimated)
  on conflict do nothing
$$;
grant execute on function book_platform_cost to holdfast_worker;

-- What resolveOrphan needs to know of a request.
create function orphan_facts(p_request uuid)
returns table (state text, outcome text, model_id text, price_version integer, free boolean, hold usd,
  asked_units jsonb, input_tokens bigint, output_tokens bigint, handed_over boolean, created_at timestamptz,
  context_length integer)
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select r.state, r.outcome, r.model_id, r.price_version, r.free, r.hold, r.asked_units, r.input_tokens,
    r.output_tokens, r.resolver_started_at is not null, r.created_at, m.context_length
  from request r left join model m on m.id = r.model_id where r.id = p_request
$$;
grant execute on function orphan_facts to holdfast_worker;
