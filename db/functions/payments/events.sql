-- Providers' events as they came: stored before their 2xx, handled, swept, or about nothing of ours.

-- Counts p_n more of a cause.
create function count_webhooks(p_provider text, p_kind text, p_reason text, p_n integer, p_detail text) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  insert into webhook_count as c (provider, kind, reason, n, last_detail)
  values (p_provider, p_kind, p_reason, p_n, left(p_detail, 300))
  on conflict (provider, kind, reason) do update set n = c.n + excluded.n, last_at = excluded.last_at,
    last_detail = excluded.last_detail
$$;
grant execute on function count_webhooks to holdfast_management;

-- Keeps an event as it came; says whether it is new.
create function store_event(p_provider text, p_event text, p_type text, p_payload jsonb) returns boolean
language sql security definer set search_path = holdfast, pg_temp as $$
  with stored as (
    insert into provider_event (provider, event_id, type, payload) values (p_provider, p_event, p_type, p_payload)
    on conflict do nothing returning true as new
  )
  select exists (select from stored)
$$;
grant execute on function store_event to holdfast_worker, holdfast_management;

-- Which of these events have come, and when the last of the provider's did (null: none ever).
create function arrived_events(p_provider text, p_events text[]) returns table (known text[], last_at timestamptz)
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select coalesce((select array_agg(event_id) from provider_event
    where provider = p_provider and event_id = any (p_events)), '{}'),
    (select received_at from provider_event where provider = p_provider order by received_at desc limit 1)
$$;
grant execute on function arrived_events to holdfast_worker, holdfast_management;

create function handle_event(p_provider text, p_event text, p_result text) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  update provider_event set handled_at = clock_timestamp(), result = p_result
  where provider = p_provider and event_id = p_event and handled_at is null
$$;
grant execute on function handle_event to holdfast_worker;

-- Those about payments, or those about rewards (Discord, vote directories): each has a sweep of its own. The one whose
-- last try (or arrival) is longest ago comes first, so that any number of events that nobody can handle do not keep the
-- others waiting.
create function find_unhandled_events(p_age_seconds numeric, p_limit integer, p_rewards boolean default false)
returns setof provider_event
language sql security definer set search_path = holdfast, pg_temp as $$
  with waiting as (
    select provider, event_id from provider_event
    where handled_at is null and received_at < clock_timestamp()
      - make_interval(secs => p_age_seconds::double precision)
      and (provider = 'discord' or provider like 'votes/%') = p_rewards
    order by coalesce(tried_at, received_at) limit p_limit
    for update
  ), tried as (
    update provider_event set tried_at = clock_timestamp() from waiting
    where (provider_event.provider, provider_event.event_id) = (waiting.provider, waiting.event_id)
      returning provider_event.*
  )
  select * from tried order by received_at
$$;
grant execute on function find_unhandled_events to holdfast_worker;

-- Closes an event that is about nothing of ours, once, and counts it by its reason.
create function close_foreign_event(p_provider text, p_event text, p_reason text) returns void
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  update provider_event set handled_at = clock_timestamp(), result = 'foreign: ' || p_reason
  where provider = p_provider and event_id = p_event and handled_at is null;
  if found then
    perform count_webhooks(p_provider, 'foreign', p_reason, 1, p_event);
  end if;
end
$$;
grant execute on function close_foreign_event to holdfast_worker;

create function event_of(p_provider text, p_event text) returns setof provider_event
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select * from provider_event where provider = p_provider and event_id = p_event
$$;
grant execute on function event_of to holdfast_worker;
