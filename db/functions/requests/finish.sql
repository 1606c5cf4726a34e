-- How a request ended: outcome and cost are durable with this, on its own row only.
--
-- Two forms of speech here are for the planner. Rows are looked up by a join with unnest(ids), not by `id = any (ids)`:
-- only the join prunes partitions per id. And the state of a row found by id is compared with `like`, not `=`: an
-- equality would let the planner walk the partial index of all held or finished rows, dead entries included, instead of
-- the primary key.

create function is_billed(p_outcome text) returns boolean
language sql immutable parallel safe as $$
  select p_outcome in ('completed', 'client_disconnected', 'cut_by_limit', 'cut_by_time')
$$;
grant execute on function is_billed to holdfast_management, holdfast_reporter, holdfast_auditor;

create function token_usage(p_request request) returns jsonb
language sql immutable as $$
  select jsonb_build_object('input_tokens', p_request.input_tokens, 'output_tokens', p_request.output_tokens,
    'cached_input_tokens', p_request.cached_input_tokens, 'reasoning_tokens', p_request.reasoning_tokens)
      || coalesce(p_request.usage_detail, '{}')
$$;

-- Records how requests ended, many in one commit. Touches their own rows only. Element n:
--   'finished'  recorded now
--   'replayed'  the same end was recorded before
--   'late'      the hold had already ended otherwise: the usage is booked as platform cost and nothing is charged
--   'unknown'   no such request
-- What is not billed but was consumed is platform cost: of an end without a bill all of it, beside a bill what
-- p_undelivered says ({"usage", "list_cost"}), which nobody pays. A :free row ends here, released at cost 0; its list
-- cost is the platform's.
create function finish_requests(p_request uuid[], p_outcome text[], p_list_cost usd[], p_input bigint[],
  p_output bigint[], p_cached bigint[], p_reasoning bigint[], p_detail jsonb[], p_raw jsonb[], p_estimated boolean[],
  p_latency_ms integer[], p_first_token_ms integer[], p_upstream jsonb[] default null,
  p_undelivered jsonb[] default null) returns text[]
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_done uuid[];
  v_freed uuid[];
  v_verdicts text[];
begin
  perform 1 from unnest(p_request) as wanted (id) join request r using (id) where r.state like 'held' order by id
    for no key update of r;
  with item as materialized (
    -- Of several ends of one request the first counts, as if they had come one after the other.
    select distinct on (t.request_id) * from unnest(p_request, p_outcome, p_list_cost, p_input, p_output, p_cached,
      p_reasoning, p_detail, p_raw, p_estimated, p_latency_ms, p_first_token_ms, p_upstream, p_undelivered)
      with ordinality as t (request_id, outcome, list_cost, input, output, cached, reasoning, detail, raw, estimated,
      latency_ms, first_token_ms, upstream, undelivered, ord)
    order by t.request_id, t.ord
  ), ended as (
    update request r set
      state = case when r.free then 'released' else 'finished' end,
      outcome = item.outcome,
      list_cost = case when r.free then 0 else item.list_cost end,
      cost = case when is_billed(item.outcome) then least(item.list_cost, r.hold) else 0 end,
      input_tokens = item.input, output_tokens = item.output, cached_input_tokens = item.cached,
      reasoning_tokens = item.reasoning, usage_detail = item.detail, raw_usage = item.raw, estimated = item.estimated,
      latency_ms = item.latency_ms, first_token_ms = item.first_token_ms, upstream_name = item.upstream->>'name',
      upstream_kind = item.upstream->>'kind', upstream_status = (item.upstream->>'status')::integer,
      upstream_code = item.upstream->>'code', upstream_message = item.upstream->>'message',
      finished_at = clock_timestamp(), settled_at = case when r.free then clock_timestamp() end
    from item where r.id = item.request_id and r.state like 'held'
    returning r.*
  ), unbilled as (
    insert into platform_cost (request_id, reason, usage, list_cost, estimated)
    select id, outcome, token_usage(ended::request), list_cost, estimated from ended
    where not is_billed(outcome) and list_cost > 0
    on conflict do nothing
  ), undelivered as (
    insert into platform_cost (request_id, reason, usage, list_cost, estimated)
    select item.request_id, 'undelivered', item.undelivered -> 'usage', (item.undelivered ->> 'list_cost')::usd, true
    from item join ended on ended.id = item.request_id where item.undelivered is not null
    on conflict do nothing
  ), given_away as (
    insert into platform_cost (request_id, reason, usage, list_cost, estimated)
    select ended.id, 'free', token_usage(ended::request), item.list_cost, ended.estimated
    from ended join item on item.request_id = ended.id where ended.free and item.list_cost > 0
    on conflict do nothing
  )
  select array_agg(id), array_agg(id) filter (where free) into v_done, v_freed from ended;
  if v_freed is not null then
    perform roll_up(v_freed);
    perform end_free_use(v_freed);
  end if;
  if cardinality(v_done) = cardinality(p_request) then
    return array_fill('finished'::text, array[cardinality(p_request)]);
  end if;

  -- The rest is repeats and late answers: rare, so it may take a second look at each row.
  with item as materialized (
    select *, row_number() over (partition by t.request_id order by t.ord) as nth
    from unnest(p_request, p_outcome, p_list_cost, p_input, p_output, p_cached, p_reasoning, p_detail, p_estimated)
      with ordinality as t (request_id, outcome, list_cost, input, output, cached, reasoning, detail, estimated, ord)
  ), judged as (
    select item.*, is_billed(r.outcome) as paid, case
      when item.request_id = any (v_done) and item.nth = 1 then 'finished'
      when r.id is null then 'unknown'
      when r.outcome = item.outcome and (r.free or r.list_cost = item.list_cost)
        and (r.input_tokens, r.output_tokens) is not distinct from (item.input, item.output) then 'replayed'
      else 'late'
    end as verdict
    from item left join request r on r.id = item.request_id
  ), late as (
    insert into platform_cost (request_id, reason, usage, list_cost, estimated)
    select request_id, 'late_finish', jsonb_build_object('input_tokens', input, 'output_tokens', output,
      'cached_input_tokens', cached, 'reasoning_tokens', reasoning) || coalesce(detail, '{}'), list_cost, estimated
    -- What the customer was billed by evidence meanwhile is not the platform's cost as well.
    from judged where verdict = 'late' and not paid and list_cost > 0 order by ord
    on conflict do nothing
  )
  select array_agg(verdict order by ord) into v_verdicts from judged;
  return v_verdicts;
end
$$;
grant execute on function finish_requests to holdfast_gateway, holdfast_worker;

-- `finish_requests` for one request, without the cost of a batch; what is not the plain case goes there.
create function finish_request(p_request uuid, p_outcome text, p_list_cost usd, p_input bigint, p_output bigint,
  p_cached bigint, p_reasoning bigint, p_detail jsonb, p_raw jsonb, p_estimated boolean, p_latency_ms integer,
  p_first_token_ms integer, p_upstream jsonb default null, p_undelivered jsonb default null) returns text
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  update request set
    state = 'finished', outcome = p_outcome, list_cost = p_list_cost, cost = least(p_list_cost, hold),
    input_tokens = p_input, output_tokens = p_output, cached_input_tokens = p_cached, reasoning_tokens = p_reasoning,
    usage_detail = p_detail, raw_usage = p_raw, estimated = p_estimated, latency_ms = p_latency_ms,
    first_token_ms = p_first_token_ms, upstream_name = p_upstream->>'name', upstream_kind = p_upstream->>'kind',
    upstream_status = (p_upstream->>'status')::integer, upstream_code = p_upstream->>'code',
    upstream_message = p_upstream->>'message', finished_at = clock_timestamp()
  where id = p_request and state like 'held' and not free and is_billed(p_outcome) and p_undelivered is null;
  if found then
    return 'finished';
  end if;
  return (finish_requests(array[p_request], array[p_outcome], array[p_list_cost], array[p_input], array[p_output],
    array[p_cached], array[p_reasoning], array[p_detail], array[p_raw], array[p_estimated], array[p_latency_ms],
    array[p_first_token_ms], array[p_upstream], array[p_undelivered]))[1];
end
$$;
grant execute on function finish_request to holdfast_gateway, holdfast_worker;

-- Logs refused requests (asynchronous, rate-limited by the gateway): rows that never held anything.
create function log_refusals(p_request uuid[], p_account uuid[], p_key uuid[], p_model text[], p_code text[],
  p_stream boolean[], p_latency_ms integer[], p_gateway uuid) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  insert into request (id, account_id, key_id, model_id, state, outcome, refusal_code, hold, list_cost, cost, stream,
    latency_ms, finished_at, settled_at, expires_at, gateway_id)
  select t.request_id, t.account_id, t.key_id, t.model, 'released', 'refused', t.code, 0, 0, 0, t.stream, t.latency_ms,
    clock_timestamp(), clock_timestamp(), clock_timestamp(), p_gateway
  from unnest(p_request, p_account, p_key, p_model, p_code, p_stream, p_latency_ms)
    as t (request_id, account_id, key_id, model, code, stream, latency_ms)
  on conflict do nothing
$$;
grant execute on function log_refusals to holdfast_gateway;

create function freeze_settled_request() returns trigger language plpgsql as $$
begin
  if tg_op = 'UPDATE' and old.workflow_id is null and new.workflow_id is not null then
    old.workflow_id := new.workflow_id;
    if old is not distinct from new then
      return new;
    end if;
  end if;
  raise exception using errcode = 'HF900', message = format('request %s is settled and cannot change', old.id);
end
$$;

create trigger frozen_once_settled before update on request for each row
  when (old.settled_at is not null) execute function freeze_settled_request();
create trigger never_deleted before delete on request for each row execute function deny_change();
create trigger never_truncated before truncate on request for each statement execute function deny_change();
create trigger append_only before update or delete on platform_cost for each row execute function deny_change();
create trigger append_only_truncate before truncate on platform_cost for each statement execute function deny_change();
