-- What keeps rows as they were written: the guard that the triggers of many tables call.

-- Append-only guards. Row triggers on the parent are inherited by partitions; truncate needs one per partition
-- (ensure_partitions).
create function deny_change() returns trigger language plpgsql as $$
begin
  raise exception using errcode = 'HF900', message = format('%s is append-only: %s refused', tg_table_name,
    lower(tg_op));
end
$$;
