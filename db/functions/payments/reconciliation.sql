-- Comparing the ledger with what providers and the chain say. A gap is a case; one that has gone closes its case.

create function note_reconciled(p_part text, p_as_of timestamptz) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  insert into reconciled as r (part, as_of) values (p_part, p_as_of)
  on conflict (part) do update set as_of = excluded.as_of where r.as_of < excluded.as_of
$$;

-- Compares a page of a provider's statement with the ledger and returns which entries (by their place, from 1) have to
-- be looked at, with the order that the ledger has for them. An entry of a payment agrees when the ledger has credited
-- exactly it and has taken back the same share, which is never so in another currency; one of a refund or dispute when
-- that step is recorded. `p_taken` null: the list does not say; `p_taken_back` null: it can still change. An open case
-- of `p_kinds` about a payment is closed only by asking. Payments that agree are marked; those of orders that this run
-- has asked about are left out.
create function compare_entries(p_provider text, p_run timestamptz, p_page integer, p_payments text[], p_orders uuid[],
  p_received numeric[], p_currencies text[], p_taken numeric[], p_objects text[], p_taken_back boolean[],
  p_kinds text[])
returns table (place integer, top_up_id uuid)
language sql security definer set search_path = holdfast, pg_temp as $$
  with judged as (
    select e.place, e.payment_id, e.received, p.top_up_id, coalesce(case
      when e.received is null then case e.taken_back
        when true then s.gone and not s.back
        when false then not s.gone or s.back
      end
      else e.received = p.received and e.currency = 'usd' and coalesce(e.top_up = p.top_up_id, true) and case
        when e.taken = 0 then p.reversed = 0 and s.open = 0
        when e.taken >= e.received then p.reversed = p.credited
        -- As reversedShare has it: rounded down to the ledger's smallest unit.
        else p.reversed * 1000000000000 = div(p.credited * e.taken * 1000000000000, e.received)
      end
    end, false) and not exists (
      select from review_case c where c.closed_at is null and c.kind = any (p_kinds) and c.subject = e.payment_id
    ) as agrees
    from unnest(p_payments, p_orders, p_received, p_currencies, p_taken, p_objects, p_taken_back)
      with ordinality e (payment_id, top_up, received, currency, taken, object_id, taken_back, place)
    left join payment p on p.provider = p_provider and p.payment_id = e.payment_id
    left join lateral (
      select coalesce(bool_or(r.object_id = e.object_id and r.direction = 'out'), false) as gone,
        coalesce(bool_or(r.object_id = e.object_id and r.direction = 'in'), false) as back,
        count(*) filter (where r.direction = 'out') - count(*) filter (where r.direction = 'in') as open
      from payment_reversal r where r.payment = p.id
    ) s on p.id is not null
  ), marked as (
    insert into compared_payment as c (provider, payment_id, run, page, asked)
    select distinct p_provider, j.payment_id, p_run, p_page, false from judged j
    where j.agrees and j.received is not null
    on conflict (provider, payment_id) do update set run = excluded.run, page = excluded.page, asked = excluded.asked
    where c.run < excluded.run
  )
  select j.place::integer, j.top_up_id from judged j
  where not j.agrees and not exists (
    select from compared_payment c
    where c.provider = p_provider and c.payment_id = j.payment_id and c.run = p_run and c.asked and c.page <> p_page
  )
  order by j.place
$$;
grant execute on function compare_entries to holdfast_worker;

-- Marks payments of orders that a page has asked about. The last thing that a page does, so that a repeat of it leaves
-- none out.
create function note_compared(p_provider text, p_run timestamptz, p_page integer, p_payments text[]) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  insert into compared_payment as c (provider, payment_id, run, page, asked)
  select distinct p_provider, payment_id, p_run, p_page, true from unnest(p_payments) payment_id
  on conflict (provider, payment_id) do update set run = excluded.run, page = excluded.page, asked = true
  where c.run < excluded.run or not c.asked
$$;
grant execute on function note_compared to holdfast_worker;

-- Orders with a payment that waits for a person, by id: a provider need not say whose its payments are.
create function waiting_top_ups(p_provider text, p_after uuid, p_limit integer) returns uuid[]
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select coalesce(array_agg(id order by id), '{}') from (
    select id from top_up where provider = p_provider and state = 'quarantined' and (p_after is null or id > p_after)
    order by id limit p_limit
  ) waiting
$$;
grant execute on function waiting_top_ups to holdfast_worker;

-- Orders with a payment that was credited in the time and that no other page of the run has marked, by id.
create function top_ups_not_compared(p_provider text, p_since timestamptz, p_until timestamptz, p_run timestamptz,
  p_page integer, p_after uuid, p_limit integer) returns uuid[]
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select coalesce(array_agg(id order by id), '{}') from (
    select distinct p.top_up_id as id from payment p
    where p.provider = p_provider and p.credited_at >= p_since and p.credited_at < p_until
      and (p_after is null or p.top_up_id > p_after)
      and not exists (
        select from compared_payment c
        where c.provider = p.provider and c.payment_id = p.payment_id and c.run = p_run and c.page <> p_page
      )
    order by id limit p_limit
  ) missing
$$;
grant execute on function top_ups_not_compared to holdfast_worker;

-- The run is through with the provider: forgets what only earlier runs have dealt with.
create function forget_compared(p_provider text, p_run timestamptz) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  delete from compared_payment where provider = p_provider and run < p_run;
  select note_reconciled(p_provider, p_run)
$$;
grant execute on function forget_compared to holdfast_worker;

-- The payments of an order as they are compared: with who credited each, and the steps of its reversals.
create function booked_payments(p_top_up uuid)
returns table (payment_id text, received usd, credited usd, reversed usd, credited_by text, steps text[])
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select p.payment_id, p.received, p.credited, p.reversed, p.credited_by,
    coalesce(array_agg(r.object_id || '/' || r.direction) filter (where r.id is not null), '{}')
  from payment p left join payment_reversal r on r.payment = p.id
  where p.top_up_id = p_top_up
  group by p.id order by p.id
$$;
grant execute on function booked_payments to holdfast_worker;
