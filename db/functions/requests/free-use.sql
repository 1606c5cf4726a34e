-- Requests to `:free` models: bounded by the account's own row of `free_use`, apart from everything that paid requests
-- lock. Lock order: that row, in the order of accounts.

-- `:free` requests: key and account state are checked, limit and balance are not, and no row that paid requests need is
-- touched. What an account may use of them is bounded over all its keys and gateways, by its own row of `free_use`:
-- tokens of a UTC day (HF020; counted when requests end), requests of a UTC minute (HF021), and requests at once
-- (HF022). A null bound does not apply. Element n is null when item n is in place (also on a repeat, which is not
-- counted again), else its SQLSTATE, for the bounds with the seconds until the count begins again: 'HF021 37'.
create function place_free_holds(p_request uuid[], p_account uuid[], p_key uuid[], p_model text[], p_stream boolean[],
  p_gateway uuid, p_ttl_seconds numeric[], p_day_tokens bigint, p_minute_requests bigint, p_open bigint) returns text[]
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_now timestamptz;
  v_this_minute timestamptz;
  v_today timestamptz;
  v_verdicts text[];
begin
  insert into free_use (account_id)
  select id from account where id = any (p_account) and kind = 'customer'
    and not exists (select from free_use where account_id = id)
  order by id on conflict do nothing;
  perform 1 from free_use where account_id = any (p_account) order by account_id for no key update;
  v_now := clock_timestamp();
  v_this_minute := date_trunc('minute', v_now, 'UTC');
  v_today := limit_window('daily', v_now);
  with item as materialized (
    select t.*, r.id is not null as is_repeat, case
      when k.id is null or a.id is null then 'HF001'
      when r.id is not null then case when (r.account_id, r.key_id, r.model_id, r.gateway_id)
        is distinct from (t.account_id, t.key_id, t.model, p_gateway) then 'HF009' end
      when k.revoked_at is not null then 'HF002'
      when k.expires_at <= v_now then 'HF003'
      when a.frozen_at is not null then 'HF004'
      when t.model <> all (k.models) then 'HF007'
    end as refusal
    from unnest(p_request, p_account, p_key, p_model, p_stream, p_ttl_seconds)
      with ordinality as t (request_id, account_id, key_id, model, stream, ttl, ord)
    left join api_key k on k.id = t.key_id and k.account_id = t.account_id
    left join account a on a.id = t.account_id and a.kind = 'customer'
    left join request r on r.id = t.request_id
  ), judged as (
    select item.*, coalesce(refusal, case
      when is_repeat then null
      when u.day = v_today and u.day_tokens >= p_day_tokens
        then 'HF020 ' || ceil(extract(epoch from v_today + interval '1 day' - v_now))
      when case when u.minute = v_this_minute then u.minute_requests else 0 end + nth > p_minute_requests
        then 'HF021 ' || ceil(extract(epoch from v_this_minute + interval '1 minute' - v_now))
      when u.open + nth > p_open then 'HF022'
    end) as verdict
    from (
      select item.*, count(*) filter (where refusal is null and not is_repeat) over (partition by account_id
        order by ord) as nth
      from item
    ) item left join free_use u using (account_id)
  ), inserted as (
    insert into request (id, account_id, key_id, model_id, hold, free, stream, created_at, expires_at, gateway_id)
    select request_id, account_id, key_id, model, 0, true, stream, v_now,
      v_now + make_interval(secs => ttl::double precision), p_gateway
    from judged where verdict is null and not is_repeat
    on conflict do nothing
    returning account_id
  ), counted as (
    update free_use u set open = u.open + i.requests, minute = v_this_minute,
      minute_requests = case when u.minute = v_this_minute then u.minute_requests else 0 end + i.requests
    from (select account_id, count(*)::integer as requests from inserted group by account_id) i
    where u.account_id = i.account_id
  )
  select array_agg(verdict order by ord) into v_verdicts from judged;
  return v_verdicts;
end
$$;
grant execute on function place_free_holds to holdfast_gateway;

-- Counts what `:free` requests used when they end. Called in the transaction that ends them, after the hours of the
-- rollup. What began before midnight and ended after it counts on the new day: one row per account is enough then.
create function end_free_use(p_requests uuid[]) returns void
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_today timestamptz;
begin
  perform 1 from free_use where account_id in (select r.account_id from unnest(p_requests) as wanted (id)
    join request r using (id))
  order by account_id for no key update;
  v_today := limit_window('daily', clock_timestamp());
  update free_use u set
    -- Never a reason not to record how a request ended; should it ever be off, `violations` says so.
    open = greatest(u.open - ended.requests, 0),
    day = v_today,
    day_tokens = case when u.day = v_today then u.day_tokens else 0 end + ended.tokens
  from (
    select r.account_id, count(*)::integer as requests, sum(coalesce(r.input_tokens, 0) + coalesce(r.output_tokens, 0))
      as tokens
    from unnest(p_requests) as wanted (id) join request r using (id) group by r.account_id
  ) ended where u.account_id = ended.account_id;
end
$$;
