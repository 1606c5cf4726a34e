-- Frozen accounts.

-- Freezes an account: its keys buy nothing from the next request on. What weighs more than the freeze that is there
-- replaces it, so that lifting the one does not lift the other. Says whether anything changed.
create function freeze_account(p_account uuid, p_kind text, p_reason text) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  update account set frozen_at = coalesce(frozen_at, now()), frozen_kind = p_kind,
    frozen_reason = p_reason || coalesce(' (before: ' || frozen_reason || ')', '')
  where id = p_account and kind = 'customer' and (frozen_at is null
    or array_position(array['support', 'operator', 'fraud'], p_kind)
      > array_position(array['support', 'operator', 'fraud'], coalesce(frozen_kind::text, 'operator')));
  return found;
end
$$;
grant execute on function freeze_account to holdfast_management;

-- Lifts a freeze of one of these kinds; says whether it did.
create function unfreeze_account(p_account uuid, p_kinds text[]) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  update account set frozen_at = null, frozen_reason = null, frozen_kind = null
  where id = p_account and kind = 'customer' and frozen_at is not null
    and coalesce(frozen_kind, 'operator') = any (p_kinds);
  return found;
end
$$;
grant execute on function unfreeze_account to holdfast_management;
