-- Models, their prices by version, and what gateways have found about them.

create function note_model_finding(p_model text, p_upstream text, p_finding text, p_requests bigint, p_request uuid)
returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  insert into model_finding as f (model_id, upstream, finding, requests, last_request_id)
  values (p_model, p_upstream, p_finding, p_requests, p_request)
  on conflict (model_id, upstream, finding) do update set
    requests = f.requests + excluded.requests, last_at = excluded.last_at, last_request_id = excluded.last_request_id
$$;
grant execute on function note_model_finding to holdfast_gateway;

-- Publishes the next version of a model's prices. A model's first version is in force at once; a later one needs
-- p_lead_seconds of notice (HF010) and must come after the last one (HF011), so that every gateway knows it in time.
create function publish_price_version(p_model text, p_valid_from timestamptz, p_prices jsonb, p_lead_seconds numeric,
  p_by text) returns price_version
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_last_version price_version;
  v_version price_version;
  v_earliest timestamptz := now() + make_interval(secs => p_lead_seconds::double precision);
begin
  perform 1 from model where id = p_model for update;
  if not found then
    perform refuse('HF001', 'model unknown');
  end if;
  select * into v_last_version from price_version where model_id = p_model order by version desc limit 1;
  if not found then
    v_earliest := '-infinity';
  end if;
  if p_valid_from < v_earliest then
    perform refuse('HF010', 'valid_from is too soon');
  end if;
  if coalesce(p_valid_from, now() + make_interval(secs => p_lead_seconds::double precision))
    <= v_last_version.valid_from then
    perform refuse('HF011', 'valid_from is not after the last version');
  end if;
  insert into price_version (model_id, version, valid_from, prices, created_by)
  values (p_model, coalesce(v_last_version.version, 0) + 1, coalesce(p_valid_from,
    greatest(v_earliest, case when v_last_version.version is null then now() end)), p_prices, p_by)
  returning * into v_version;
  return v_version;
end
$$;
grant execute on function publish_price_version to holdfast_management;

-- Every model that is not retired, with the price versions in force lately, now or later: a gateway whose clock is
-- behind this one's still needs the version before.
create function catalogue()
returns table (id text, dialect text, context_length integer, default_output_tokens integer,
  request_timeout_seconds numeric, upstreams jsonb, traits jsonb, created_at timestamptz, versions jsonb)
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select m.id, m.dialect, m.context_length, m.default_output_tokens, m.request_timeout_seconds, m.upstreams, m.traits,
    m.created_at,
    coalesce((
      select jsonb_agg(jsonb_build_object('version', v.version, 'valid_from', v.valid_from, 'prices', v.prices)
        order by v.version)
      from price_version v
      where v.model_id = m.id and v.version >= coalesce(
        (select max(p.version) from price_version p where p.model_id = m.id
          and p.valid_from <= now() - interval '5 minutes'), 0)
    ), '[]')
  from model m where m.retired_at is null
$$;
grant execute on function catalogue to holdfast_gateway, holdfast_worker, holdfast_management;

-- The prices of one version, for rating after the fact.
create function price_version_of(p_model text, p_version integer) returns jsonb
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select prices from price_version where model_id = p_model and version = p_version
$$;
grant execute on function price_version_of to holdfast_worker;

-- By which prices what a `:free` model gave away at p_at is booked: its own, else those of the model it is named after.
create function free_prices(p_model text, p_at timestamptz) returns jsonb
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select prices from (
    select distinct on (model_id) model_id, prices from price_version
    where model_id in (p_model, left(p_model, -char_length(':free'))) and valid_from <= p_at
    order by model_id, version desc
  ) in_force
  where prices -> 'prices' <> '{}' order by model_id = p_model desc limit 1
$$;
grant execute on function free_prices to holdfast_worker;

create function upstreams_of(p_model text) returns jsonb
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select upstreams from model where id = p_model
$$;
grant execute on function upstreams_of to holdfast_worker;

create trigger append_only before update or delete on price_version for each row execute function deny_change();
create trigger append_only_truncate before truncate on price_version for each statement execute function deny_change();
