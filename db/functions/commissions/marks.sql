-- What is seen of an account where it pays and signs in marks it, so that two accounts of one person are noticed
-- whichever of them is seen first. Marks stay when a card is removed or a link ends. What a payment was made with is
-- marked by the activity that books the payment, before its credit (activities/payments/top-up-booking.ts): a card need
-- not be kept to be recognized.

-- Keeps what was seen of an account; repeatable.
create function note_account_mark(p_account uuid, p_kind text, p_value text) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  insert into account_mark (account_id, kind, value) values (p_account, p_kind, p_value) on conflict do nothing
$$;
grant execute on function note_account_mark to holdfast_worker, holdfast_management;

create function mark_account() returns trigger
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  perform note_account_mark(new.account_id, tg_argv[0], to_jsonb(new) ->> tg_argv[1]);
  return null;
end
$$;

-- Whose tokens paid an account, once the payment counts. An exchange pays for many: a mark is looked at by a person,
-- never more. Tokens that a bridge mints come from nobody, and two whom nobody paid have nothing in common.
create function mark_funding() returns trigger
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  perform note_account_mark(t.account_id, 'funding_address', new.sender)
  from deposit_address a join top_up t on t.id = a.top_up_id where a.address = new.address;
  return null;
end
$$;

-- What speaks for an affiliate and the one it referred being one person, but for what a person has approved of them
-- before.
create function self_referral_signals(p_affiliate uuid, p_account uuid) returns text[]
language sql stable as $$
  select coalesce(array_agg(distinct mine.kind order by mine.kind), '{}')
  from account_mark mine join account_mark theirs on theirs.kind = mine.kind and theirs.value = mine.value
  where mine.account_id = p_account and theirs.account_id = p_affiliate
    and not exists (select from commission_review r
      where r.affiliate_id = p_affiliate and r.account_id = p_account and r.state = 'approved'
        and mine.kind = any (r.signals))
$$;
grant execute on function self_referral_signals to holdfast_management, holdfast_reporter, holdfast_auditor;

create trigger marks_account after insert or update of fingerprint on saved_card for each row
  when (new.fingerprint is not null) execute function mark_account('card_fingerprint', 'fingerprint');
create trigger marks_account after insert on discord_link
  for each row execute function mark_account('discord_user', 'discord_user_id');
create trigger marks_account after insert or update of counted on deposit for each row
  when (new.counted and new.sender <> '0x0000000000000000000000000000000000000000') execute function mark_funding();
