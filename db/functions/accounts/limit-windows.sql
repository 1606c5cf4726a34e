-- A key's limit and its windows. What is left of a window is known only under the key's lock, so it is decided in SQL.

-- First of the month etc. in UTC; '-infinity' for a limit that never resets.
create function limit_window(p_reset text, p_at timestamptz) returns timestamptz
language sql immutable parallel safe as $$
  select case p_reset
    when 'daily' then date_trunc('day', p_at, 'UTC')
    when 'weekly' then date_trunc('week', p_at, 'UTC')
    when 'monthly' then date_trunc('month', p_at, 'UTC')
    else '-infinity'::timestamptz
  end
$$;
grant execute on function limit_window to holdfast_management, holdfast_reporter, holdfast_auditor;

-- What a key may still spend in the window that contains `p_at`; null when unlimited.
create function key_room(p_key api_key, p_at timestamptz) returns numeric
language sql immutable as $$
  select case
    when p_key.limit_usd is null then null
    when p_key.limit_reset = 'none' then p_key.limit_usd - p_key.spent_total - p_key.held
    when limit_window(p_key.limit_reset, p_at) > p_key.window_start then p_key.limit_usd
    else p_key.limit_usd - p_key.window_spent - p_key.window_held
  end
$$;
grant execute on function key_room to holdfast_management, holdfast_reporter, holdfast_auditor;
