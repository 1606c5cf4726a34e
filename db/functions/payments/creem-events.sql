-- What only Creem's events tell: its API lists neither the checkouts of a request id nor the refunds and disputes of a
-- transaction, so the stored events are searched for them. The expressions of their indexes are frozen with the table
-- (0008_payments.sql).

-- Checkouts that events have named for an order, the first one first.
create function creem_checkouts_of(p_request_id text) returns text[]
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select coalesce(array_agg(id order by received_at, id), '{}') from (
    select case creem_subject(payload) ->> 'object' when 'checkout' then creem_subject(payload) ->> 'id'
      else creem_subject(payload) #>> '{checkout,id}' end as id, min(received_at) as received_at
    from provider_event
    where provider = 'creem' and creem_request_id(payload) = p_request_id
    group by 1
  ) named where id is not null
$$;
grant execute on function creem_checkouts_of to holdfast_worker;

-- Refunds and disputes that events have named for a transaction, as the provider wrote them.
create function creem_reversals_of(p_transaction text) returns setof jsonb
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select creem_subject(payload) from provider_event
  where provider = 'creem' and creem_reversed_transaction(payload) = p_transaction
  order by received_at, event_id
$$;
grant execute on function creem_reversals_of to holdfast_worker;
