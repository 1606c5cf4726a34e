-- Comparing the ledger with what providers and the chain say, and with itself. A gap is a case; one that has gone closes its case.
set role holdfast_owner;
set search_path = holdfast;

-- The ledger's half of what is compared: orders of a provider with a payment that was credited in the time, and those with one that
-- waits for a person, since a provider need not say whose its payments are.
create function top_ups_to_compare(p_provider text, p_since timestamptz, p_until timestamptz) returns uuid[]
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select coalesce(array_agg(id), '{}') from (
    select top_up_id as id from payment where provider = p_provider and credited_at >= p_since and credited_at < p_until
    union
    select id from top_up where provider = p_provider and state = 'quarantined'
  ) wanted
$$;
create index payment_credited on payment (provider, credited_at);

-- The payments of an order as they are compared: with who credited each, and the steps of its reversals.
create function booked_payments(p_top_up uuid) returns table (payment_id text, received usd, credited usd, reversed usd,
  credited_by text, steps text[])
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select p.payment_id, p.received, p.credited, p.reversed, p.credited_by,
    coalesce(array_agg(r.object_id || '/' || r.direction) filter (where r.id is not null), '{}')
  from payment p left join payment_reversal r on r.payment = p.id
  where p.top_up_id = p_top_up
  group by p.id order by p.id
$$;

-- Closes the open cases of a kind whose subject is not among those that are still found. Only what was looked at counts:
-- `p_looked_at` null means that everything was. Returns how many were closed.
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

-- Every breach of an invariant becomes a case, and a case whose breach has gone is closed. Returns how many there are. Reads the
-- whole ledger: for a session that may take minutes.
create function review_violations(p_limit integer) returns integer
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  breach record;
  found_now text[] := '{}';
begin
  for breach in select * from violations order by rule, subject limit p_limit loop
    perform open_case('violation', breach.rule || ' ' || breach.subject,
      jsonb_build_object('rule', breach.rule, 'subject', breach.subject, 'stored', breach.stored, 'expected', breach.expected));
    found_now := found_now || ('violation ' || breach.rule || ' ' || breach.subject);
  end loop;
  if cardinality(found_now) < p_limit then
    perform close_gone_cases(array['violation'], null, found_now, 'the rule holds again');
  end if;
  return cardinality(found_now);
end
$$;

reset role;
reset search_path;
