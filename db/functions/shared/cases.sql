-- What waits for a person: opening a case, and closing one whose cause has gone.

create function open_case(p_kind text, p_subject text, p_evidence jsonb) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  insert into review_case (kind, subject, evidence) values (p_kind, p_subject, p_evidence) on conflict do nothing
$$;
grant execute on function open_case to holdfast_worker;

-- Closes the open cases of a kind whose subject is not among those that are still found. Only what was looked at
-- counts: `p_looked_at` null means that everything was. Returns how many were closed.
create function close_gone_cases(p_kinds text[], p_looked_at text[], p_found text[], p_resolution text) returns integer
language sql security definer set search_path = holdfast, pg_temp as $$
  with closed as (
    update review_case set closed_at = now(), closed_by = 'reconcile', resolution = p_resolution
    where closed_at is null and kind = any (p_kinds) and (p_looked_at is null or subject = any (p_looked_at))
      and (kind || ' ' || subject) <> all (p_found)
    returning 1
  )
  select count(*)::integer from closed
$$;
grant execute on function close_gone_cases to holdfast_worker;
