-- What only Creem's events tell: its API lists neither the checkouts of a request id nor the refunds and disputes of a
-- transaction, so the stored events are searched for them.
set role holdfast_owner;
set search_path = holdfast;

-- What an event is about; Creem writes `object`, its Standard Webhooks form `data`.
create function creem_subject(p_payload jsonb) returns jsonb language sql immutable parallel safe as $$
  select coalesce(p_payload -> 'object', p_payload -> 'data')
$$;

-- The request id (our order) of the checkout that an event names, itself or through a refund or dispute.
create function creem_request_id(p_payload jsonb) returns text language sql immutable parallel safe
set search_path = holdfast, pg_temp as $$
  select coalesce(creem_subject(p_payload) ->> 'request_id', creem_subject(p_payload) #>> '{checkout,request_id}')
$$;

create function creem_reversed_transaction(p_payload jsonb) returns text language sql immutable parallel safe
set search_path = holdfast, pg_temp as $$
  select creem_subject(p_payload) #>> '{transaction,id}'
$$;

create index creem_event_request on provider_event (creem_request_id(payload)) where provider = 'creem';
create index creem_event_transaction on provider_event (creem_reversed_transaction(payload)) where provider = 'creem';

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

-- Refunds and disputes that events have named for a transaction, as the provider wrote them.
create function creem_reversals_of(p_transaction text) returns setof jsonb
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select creem_subject(payload) from provider_event
  where provider = 'creem' and creem_reversed_transaction(payload) = p_transaction
  order by received_at, event_id
$$;

reset role;
reset search_path;
