-- Dry runs and replays.

-- Numbers a dry run or a replay of a period.
create function request_commission_check(p_kind text, p_period text, p_by text) returns commission_check
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_check commission_check;
begin
  perform pg_advisory_xact_lock(hashtextextended('holdfast.commission_check', 0));
  if p_kind = 'replay' and not exists (select from commission_run where period = p_period and state = 'done') then
    perform refuse('HF041', 'the run is not done');
  end if;
  insert into commission_check (kind, period, n, requested_by)
  select p_kind, p_period, coalesce(max(n), 0) + 1, p_by from commission_check where kind = p_kind and period = p_period
  returning * into v_check;
  return v_check;
end
$$;
grant execute on function request_commission_check to holdfast_management;

-- Keeps what a dry run or a replay found; the first answer stands.
create function finish_commission_check(p_kind text, p_period text, p_n integer, p_at timestamptz, p_result jsonb,
  p_manifest text) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  update commission_check set finished_at = p_at, result = p_result, manifest = p_manifest
  where kind = p_kind and period = p_period and n = p_n and finished_at is null
$$;
grant execute on function finish_commission_check to holdfast_worker;
