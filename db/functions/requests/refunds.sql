-- Refunds of charged requests. Lock order: request, its refunds (advisory), then accounts (post_transfer).

create view refunded with (security_invoker = true) as
  select request_id, sum(amount) as amount from request_refund where state = 'posted' group by request_id;
grant select on refunded to holdfast_management, holdfast_reporter, holdfast_auditor;

create function post_refund(p_id uuid) returns uuid
language sql security definer set search_path = holdfast, pg_temp as $$
  select post_transfer('request_refund', f.id, system_account('revenue'), f.account_id, f.amount,
    jsonb_build_object('request_id', f.request_id, 'n', f.n, 'reason', f.reason, 'requested_by', f.requested_by,
      'approved_by', f.decided_by), true)
  from request_refund f where f.id = p_id
$$;

-- Asks for a refund. Refuses more than what the request was charged, counting refunds that still wait (HF012), and
-- requests that were not charged (HF013). A repeat of the same (request, n) returns the row that is there. It is posted
-- at once while the request's refunds together are within p_limits.movement and the sums within the others; else it
-- waits for a second person. No limits: always.
create function request_refund(p_request uuid, p_n integer, p_amount usd, p_reason text, p_by text,
  p_limits jsonb default null) returns request_refund
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_request request;
  v_refund request_refund;
  v_refunded numeric;
  v_wanted numeric;
begin
  perform require_person(p_by);
  select * into v_request from request where id = p_request for share;
  if not found then
    perform refuse('HF008', 'request unknown');
  end if;
  perform pg_advisory_xact_lock(hashtextextended(p_request::text, 1));
  select * into v_refund from request_refund where request_id = p_request and n = p_n;
  if found then
    return v_refund;
  end if;
  if v_request.state <> 'charged' then
    perform refuse('HF013', 'request was not charged');
  end if;
  select coalesce(sum(amount), 0) into v_refunded from request_refund
  where request_id = p_request and state <> 'rejected';
  v_wanted := coalesce(p_amount, v_request.cost - v_refunded);
  if v_wanted > v_request.cost - v_refunded or v_request.cost = v_refunded then
    perform refuse('HF012', 'refund above what was charged', v_request.cost - v_refunded, p_amount);
  end if;
  insert into request_refund (request_id, n, account_id, amount, reason, requested_by)
  values (p_request, p_n, v_request.account_id, v_wanted, p_reason, p_by) returning * into v_refund;
  if v_refunded + v_wanted <= (p_limits ->> 'movement')::numeric
    and count_hand_money('refund', v_refund.id, p_by, v_request.account_id, v_wanted, p_limits)
  then
    update request_refund set needs_approval = false, decided_by = p_by where id = v_refund.id;
    update request_refund set state = 'posted', decided_at = now(), posting_id = post_refund(v_refund.id)
    where id = v_refund.id returning * into v_refund;
  end if;
  return v_refund;
end
$$;
grant execute on function request_refund to holdfast_management;

-- A second person decides a waiting refund; the one who asked for it may only reject it (HF014). The posting and the
-- state change in one transaction, once.
create function decide_refund(p_request uuid, p_n integer, p_approve boolean, p_by text) returns request_refund
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_refund request_refund;
begin
  perform require_person(p_by);
  select * into v_refund from request_refund where request_id = p_request and n = p_n for update;
  if not found then
    perform refuse('HF008', 'refund unknown');
  end if;
  if v_refund.state <> 'waiting' then
    return v_refund;
  end if;
  if p_approve and not approve('refund', v_refund.id, v_refund.requested_by, p_by) then
    return v_refund;
  end if;
  update request_refund set decided_by = p_by where id = v_refund.id;
  update request_refund set state = case when p_approve then 'posted' else 'rejected' end, decided_at = now(),
    posting_id = case when p_approve then post_refund(v_refund.id) end
  where id = v_refund.id returning * into v_refund;
  return v_refund;
end
$$;
grant execute on function decide_refund to holdfast_management;

create function refund_of(p_request uuid, p_n integer) returns setof request_refund
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select * from request_refund where request_id = p_request and n = p_n
$$;
grant execute on function refund_of to holdfast_worker;
