-- Monthly partitions of `request` and `posting`, and the bounds of their ids.

-- The smallest UUIDv7 of a moment: partition bounds and time scans need no index of their own.
create function v7_floor(p_at timestamptz) returns uuid
language sql immutable parallel safe as $$
  select (lpad(to_hex((extract(epoch from p_at) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid
$$;
grant execute on function v7_floor to holdfast_management, holdfast_reporter, holdfast_auditor;

-- Makes the monthly partitions from the month before `p_at` to `p_months_ahead` after it; repeatable. An id outside all
-- partitions is refused, so the worker runs this daily and /readyz warns when fewer than one month is ahead.
create function ensure_partitions(p_months_ahead integer, p_at timestamptz default now()) returns integer
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_parent text;
  v_month timestamptz;
  v_name text;
  v_made integer := 0;
begin
  perform pg_advisory_xact_lock(hashtextextended('holdfast.ensure_partitions', 0));
  foreach v_parent in array array['request', 'posting'] loop
    for v_month in select generate_series(date_trunc('month', p_at, 'UTC') - interval '1 month',
      date_trunc('month', p_at, 'UTC') + make_interval(months => p_months_ahead), interval '1 month', 'UTC')
    loop
      v_name := format('%s_%s', v_parent, to_char(v_month at time zone 'UTC', 'YYYY_MM'));
      if to_regclass('holdfast.' || v_name) is null then
        execute format('create table %I partition of %I for values from (%L) to (%L) with (fillfactor = %s, '
          'autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02)', v_name, v_parent,
          v7_floor(v_month), v7_floor(v_month + interval '1 month'), case v_parent when 'request' then 60 else 100 end);
        execute format('create trigger append_only_truncate before truncate on %I '
          'for each statement execute function deny_change()', v_name);
        v_made := v_made + 1;
      end if;
    end loop;
  end loop;
  return v_made;
end
$$;
grant execute on function ensure_partitions to holdfast_worker;
