-- API keys: made, found by their hash, and bound to the token that made them.

-- Makes an API key and returns its id. HF035 when the account has p_most that are not revoked, HF037 when it made ten
-- times as many within a day, revoked or not: their rows stay. Null: any number.
create function create_api_key(p_account uuid, p_hash bytea, p_prefix text, p_name text, p_expires_at timestamptz,
  p_limit usd, p_limit_reset text, p_models text[], p_ip_allowlist cidr[], p_created_by uuid, p_most bigint)
returns uuid
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_key_id uuid;
begin
  if p_most is not null then
    -- Not the account's row: requests wait for that one.
    perform pg_advisory_xact_lock(hashtextextended('holdfast.api_keys/' || p_account, 0));
    if (select count(*) from api_key where account_id = p_account and revoked_at is null) >= p_most then
      perform refuse('HF035', 'too many keys');
    end if;
    if (select count(*) from api_key where account_id = p_account and id > v7_floor(now() - interval '1 day'))
      >= 10 * p_most then
      perform refuse('HF037', 'too many new keys');
    end if;
  end if;
  insert into api_key (account_id, hash, prefix, name, expires_at, limit_usd, limit_reset, models, ip_allowlist,
    created_by)
  values (p_account, p_hash, p_prefix, p_name, p_expires_at, p_limit, p_limit_reset, p_models, p_ip_allowlist,
    p_created_by)
  returning id into v_key_id;
  return v_key_id;
end
$$;
grant execute on function create_api_key to holdfast_management;

-- An API key that a token makes is found by who revokes the token, or is not made.
create function require_live_maker() returns trigger
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  perform from access_token where id = new.created_by and revoked_at is null for share;
  if not found then
    perform refuse('HF017', 'the token is revoked');
  end if;
  return new;
end
$$;

-- What authentication needs to know of keys; hashes are SHA-256 of the secrets. Hashes that no key has give no row.
create function find_keys(p_hashes bytea[])
returns table (hash bytea, key_id uuid, account_id uuid, name text, expires_at timestamptz, revoked_at timestamptz,
  models text[], ip_allowlist text[], frozen_at timestamptz)
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select k.hash, k.id, k.account_id, k.name, k.expires_at, k.revoked_at, k.models, k.ip_allowlist::text[], a.frozen_at
  from api_key k join account a on a.id = k.account_id where k.hash = any (p_hashes)
$$;
grant execute on function find_keys to holdfast_gateway;

create trigger live_maker before insert on api_key
  for each row when (new.created_by is not null) execute function require_live_maker();
