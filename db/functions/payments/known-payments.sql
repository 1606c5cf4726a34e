-- Payments as their providers last showed them, by every id that people know them by.

create function names_of_payment(p_payment_id text, p_others text[]) returns text[]
language sql immutable set search_path = holdfast, pg_temp as $$
  select array_agg(distinct lower(name) order by lower(name))
  from unnest(array[p_payment_id] || coalesce(p_others, '{}')) name
$$;

-- Writes down the payments of an order as its provider has just shown them: all of them. `received` is in `currency`.
create function note_payments(p_id uuid, p_payments jsonb) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  -- The order first, as a manual credit locks it.
  select from top_up where id = p_id for no key update;
  insert into known_payment as k (provider, payment_id, top_up_id, status, received, currency, live, names)
  select t.provider, x.payment_id, t.id, x.status, x.received, x.currency, x.live,
    names_of_payment(x.payment_id, x.other_ids)
  from top_up t cross join jsonb_to_recordset(p_payments) as x(payment_id text, status text, received numeric,
    currency text, live boolean, other_ids text[])
  where t.id = p_id
  order by x.payment_id
  on conflict (provider, payment_id) do update set top_up_id = excluded.top_up_id, status = excluded.status,
    received = excluded.received, currency = excluded.currency, live = excluded.live,
    names = names_of_payment(k.payment_id, k.names || excluded.names), seen_at = clock_timestamp()
  where (k.top_up_id, k.status, k.received, k.currency, k.live) is distinct from
    (excluded.top_up_id, excluded.status, excluded.received, excluded.currency, excluded.live)
    or not k.names @> excluded.names;
  update known_payment k set status = 'gone', seen_at = clock_timestamp()
  where k.top_up_id = p_id and k.status not in ('listed', 'gone')
    and not exists (select from jsonb_to_recordset(p_payments) as x(payment_id text) where x.payment_id = k.payment_id);
  update top_up t set received_other = o.sums
  from (
    select coalesce(jsonb_object_agg(currency, received::text), '{}') as sums
    from (
      select k.currency, sum(k.received) as received from known_payment k join top_up t on t.id = k.top_up_id
      where k.top_up_id = p_id and k.status = 'paid' and k.currency <> t.currency group by k.currency
    ) other
  ) o
  where t.id = p_id and t.received_other <> o.sums
$$;
grant execute on function note_payments to holdfast_worker;

-- Writes down a payment that a provider's statement lists and that no order's own look has shown. What an order has
-- shown stays as it is.
create function note_listed_payment(p_provider text, p_payment_id text, p_top_up uuid, p_received numeric,
  p_currency text) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  insert into known_payment (provider, payment_id, top_up_id, status, received, currency, names)
  values (p_provider, p_payment_id, (select id from top_up where id = p_top_up and provider = p_provider),
    'listed', p_received, p_currency, names_of_payment(p_payment_id, null))
  on conflict do nothing
$$;
grant execute on function note_listed_payment to holdfast_worker;

-- The payments that are known by any of these ids (in lower case), or that a stored event of any of these ids is about.
create function find_known_payments(p_names text[]) returns setof known_payment
language sql stable security definer set search_path = holdfast, pg_temp as $$
  with told as (
    select lower(value #>> '{}') as name
    from provider_event e cross join jsonb_path_query(e.payload, '$.** ? (@.type() == "string")') value
    where lower(e.event_id) = any (p_names) and e.provider in ('stripe', 'creem')
  )
  select * from known_payment k where k.names && (p_names || array(select name from told))
$$;
grant execute on function find_known_payments to holdfast_worker, holdfast_management;

create function known_payments_of(p_top_up uuid) returns setof known_payment
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select * from known_payment where top_up_id = p_top_up order by payment_id
$$;
grant execute on function known_payments_of to holdfast_worker, holdfast_management;
