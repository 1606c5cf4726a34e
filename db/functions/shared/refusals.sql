-- How a function says no. Refusals are SQLSTATEs, one per row of the HTTP error table (domain/errors.ts):
--   HF001 key unknown · HF002 key revoked · HF003 key expired · HF004 account frozen
--   HF005 key limit (402) · HF006 account balance (403) · HF007 model not allowed
--   HF008 request unknown or ended · HF009 id reused
--   HF020 HF021 HF022 what `:free` models give is used up (429)
-- HF005 and HF006 carry {"remaining","required"} in DETAIL, and {"unsettled":true} while finished requests of the
-- account wait for their settlement: they still weigh their whole hold, so the caller settles them and asks again
-- before the refusal counts. Settling needs the account's lock, so what is true here was true when the money was looked
-- at. A refusal writes nothing; a fault is never one of these.

create function refuse(p_code text, p_message text, p_remaining numeric default null, p_required numeric default null,
  p_unsettled boolean default false) returns void
language plpgsql as $$
begin
  raise exception using errcode = p_code, message = p_message,
    detail = json_build_object('remaining', p_remaining::text, 'required', p_required::text,
      'unsettled', p_unsettled)::text;
end
$$;
