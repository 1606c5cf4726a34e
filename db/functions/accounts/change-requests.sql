-- Changes of the rules of money that nobody makes alone.

create function request_change(p_kind text, p_subject text, p_change jsonb, p_cause text, p_reason text, p_by text)
returns change_request
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_change change_request;
begin
  perform require_person(p_by);
  insert into change_request (kind, subject, change, cause, reason, requested_by)
  values (p_kind, p_subject, p_change, p_cause, p_reason, p_by) returning * into v_change;
  return v_change;
end
$$;
grant execute on function request_change to holdfast_management;

-- A second person decides a waiting change; the one who asked for it may only reject it (HF014). The person who
-- approves it makes the change in the same transaction.
create function decide_change(p_id uuid, p_approve boolean, p_by text) returns change_request
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_change change_request;
begin
  perform require_person(p_by);
  select * into v_change from change_request where id = p_id for update;
  if not found then
    perform refuse('HF008', 'change unknown');
  end if;
  if v_change.state <> 'waiting' then
    return v_change;
  end if;
  if p_approve and not approve('change', v_change.id, v_change.requested_by, p_by) then
    return v_change;
  end if;
  update change_request set state = case when p_approve then 'applied' else 'rejected' end, decided_by = p_by,
    decided_at = now()
  where id = p_id returning * into v_change;
  return v_change;
end
$$;
grant execute on function decide_change to holdfast_management;
