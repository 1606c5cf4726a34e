-- Access tokens: made, narrowed and revoked together with everything that was made with them.

-- Whose a token is follows from where it was made and is never stated: whatever somebody makes through the interface is
-- still theirs. A token makes none that lives longer than itself, a customer's only ones of its own account that may do
-- no more.
create function set_token_person() returns trigger
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_maker access_token;
begin
  if new.role = 'account' and new.scopes is null then
    new.scopes := array['read', 'keys', 'money'];
  end if;
  -- Held, so that revoking it finds what it makes meanwhile, or comes first and leaves nothing to make.
  select * into v_maker from access_token where id = new.created_by for share;
  if v_maker.revoked_at is not null then
    perform refuse('HF017', 'the token is revoked');
  end if;
  if v_maker.role = 'account' and (new.account_id is distinct from v_maker.account_id
    or not new.scopes <@ v_maker.scopes)
    or coalesce(new.expires_at, 'infinity') > v_maker.expires_at
  then
    raise exception using errcode = 'HF900', message = format('token %s would be more than the one it is made with',
      new.id);
  end if;
  new.person := case
    when new.role = 'account' then null
    when new.created_by is null then lower(btrim(new.name))
    else v_maker.person
  end;
  return new;
end
$$;

-- Makes a token, or returns the one that has this hash. Its holder (the account, else the person who makes it)
-- has at most p_most that are neither revoked nor expired (HF036), and makes ten times as many within a day (HF038):
-- their rows stay. Null: any number. Only one made on the machine has no maker and no bound.
create function create_access_token(p_hash bytea, p_role text, p_account uuid, p_name text, p_created_by uuid,
  p_expires_at timestamptz, p_scopes text[], p_most bigint) returns access_token
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_maker text := (select person from access_token where id = p_created_by);
  v_count record;
  v_token access_token;
begin
  if p_most is not null and coalesce(p_account::text, v_maker) is not null then
    perform pg_advisory_xact_lock(hashtextextended('holdfast.access_tokens/' || coalesce(p_account::text, v_maker), 0));
    select count(*) filter (where revoked_at is null and (expires_at is null or expires_at > now())) as in_use,
      count(*) filter (where created_at > now() - interval '1 day') as new
    into v_count from access_token where case when p_account is null then person = v_maker
      else account_id = p_account end;
    if v_count.in_use >= p_most then
      perform refuse('HF036', 'too many tokens');
    end if;
    if v_count.new >= 10 * p_most then
      perform refuse('HF038', 'too many new tokens');
    end if;
  end if;
  insert into access_token (hash, role, account_id, name, created_by, expires_at, scopes)
  values (p_hash, p_role, p_account, p_name, p_created_by, p_expires_at, p_scopes)
  on conflict (hash) do update set revoked_at = access_token.revoked_at returning * into v_token;
  return v_token;
end
$$;
grant execute on function create_access_token to holdfast_management;

-- A token and everything that was made with it, with what was made with that.
create function tokens_made_with(p_id uuid) returns setof uuid
language sql stable security definer set search_path = holdfast, pg_temp as $$
  with recursive made as (
    select id from access_token where id = p_id
    union
    select t.id from access_token t join made m on t.created_by = m.id
  )
  select id from made
$$;
grant execute on function tokens_made_with to holdfast_management;

-- Revokes a token with everything that was made with it, and API keys that were where p_keys says so. Returns what this
-- call revoked.
create function revoke_access_token(p_id uuid, p_keys boolean) returns setof access_token
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  -- Again until there is nothing more: one that was being made waits for its maker's row and is seen by the next look.
  loop
    return query update access_token set revoked_at = now()
      where revoked_at is null and id in (select tokens_made_with(p_id)) returning *;
    exit when not found;
  end loop;
  if p_keys then
    update api_key set revoked_at = now() where revoked_at is null and created_by in (select tokens_made_with(p_id));
  end if;
end
$$;
grant execute on function revoke_access_token to holdfast_management;

-- Narrows a customer's token, and with it everything that was made with it: to some of its scopes, to an earlier end.
-- What has none of the scopes is revoked.
create function narrow_access_token(p_id uuid, p_scopes text[], p_expires_at timestamptz) returns void
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  -- Again until there is nothing more, as above.
  loop
    update access_token set
      scopes = case when scopes && p_scopes then array(select s from unnest(scopes) s where s = any (p_scopes))
        else scopes end,
      revoked_at = case when not scopes && p_scopes then now() end,
      expires_at = least(expires_at, p_expires_at)
    where role = 'account' and revoked_at is null and id in (select tokens_made_with(p_id))
      and (not scopes <@ p_scopes or coalesce(expires_at, 'infinity') > p_expires_at);
    exit when not found;
  end loop;
end
$$;
grant execute on function narrow_access_token to holdfast_management;

create trigger token_person before insert or update of created_by, person on access_token
  for each row execute function set_token_person();
