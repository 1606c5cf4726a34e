-- Postings: the only way by which money moves between accounts, and the ledger as entries.

-- Moves money between two accounts once per (business id, kind). A repeat returns the first posting's id; a repeat with
-- other accounts or another amount is HF009. Without p_allow_negative a customer is never debited below balance − held
-- (HF006).
create function post_transfer(p_kind text, p_business uuid, p_debit uuid, p_credit uuid, p_amount usd, p_memo jsonb,
  p_allow_negative boolean) returns uuid
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_posting_id uuid;
  v_first posting;
  v_room numeric;
begin
  insert into posting (business_id, kind, debit, credit, amount, memo)
  values (p_business, p_kind, p_debit, p_credit, p_amount, p_memo)
  on conflict do nothing returning id into v_posting_id;
  if v_posting_id is null then
    select * into v_first from posting where business_id = p_business and kind = p_kind;
    if (v_first.debit, v_first.credit, v_first.amount) is distinct from (p_debit, p_credit, p_amount::numeric) then
      perform refuse('HF009', 'business id was posted with other accounts or another amount');
    end if;
    return v_first.id;
  end if;
  if (select count(*) from account where id in (p_debit, p_credit)) <> 2 then
    perform refuse('HF001', 'account unknown');
  end if;
  perform 1 from account where id in (p_debit, p_credit) and kind = 'customer' order by id for no key update;
  select balance - held into v_room from account where id = p_debit and kind = 'customer';
  if not p_allow_negative and v_room < p_amount then
    perform refuse('HF006', 'insufficient quota', greatest(v_room, 0), p_amount);
  end if;
  update account set
    balance = balance + case when id = p_credit then p_amount else -p_amount end,
    -- Money that lifts the balance above the threshold arms the low-balance notice again.
    low_balance_noticed_at = case when id = p_credit and balance + p_amount >= low_balance_usd then null
      else low_balance_noticed_at end
  where id in (p_debit, p_credit) and kind = 'customer';
  return v_posting_id;
end
$$;

create function system_account(p_name text) returns uuid
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select id from account where kind = 'system' and name = p_name
$$;
grant execute on function system_account to holdfast_management;

create view entry with (security_invoker = true) as
  select id as posting_id, kind, business_id, debit as account_id, -amount as amount, created_at from posting
  union all
  select id, kind, business_id, credit, amount, created_at from posting;
grant select on entry to holdfast_management, holdfast_reporter, holdfast_auditor;

create trigger append_only before update or delete on posting for each row execute function deny_change();
create trigger append_only_truncate before truncate on posting for each statement execute function deny_change();
