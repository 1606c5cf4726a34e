-- Turns breaches of the view `violations` into cases, and closes those whose breach has gone.

-- Every breach of an invariant becomes a case, and a case whose breach has gone is closed. Returns how many there are.
-- Reads the whole ledger: for a session that may take minutes.
create function review_violations(p_limit integer) returns integer
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_breach record;
  v_found_now text[] := '{}';
begin
  for v_breach in select * from violations order by rule, subject limit p_limit loop
    perform open_case('violation', v_breach.rule || ' ' || v_breach.subject,
      jsonb_build_object('rule', v_breach.rule, 'subject', v_breach.subject, 'stored', v_breach.stored,
        'expected', v_breach.expected));
    v_found_now := v_found_now || ('violation ' || v_breach.rule || ' ' || v_breach.subject);
  end loop;
  if cardinality(v_found_now) < p_limit then
    perform close_gone_cases(array['violation'], null, v_found_now, 'the rule holds again');
  end if;
  perform note_reconciled('ledger', now());
  return cardinality(v_found_now);
end
$$;
grant execute on function review_violations to holdfast_worker;
