-- Tells gateways of what they keep in their caches.

-- Gateways hear of changed keys, accounts and prices at once, and of new keys and tokens, whose secrets they may have
-- taken for unknown; their caches' age limit is the backstop.
create function notify_change() returns trigger language plpgsql as $$
begin
  perform pg_notify('holdfast_changed', tg_argv[0] || ':' || coalesce(to_jsonb(new) ->> 'id', ''));
  return null;
end
$$;

create trigger key_changed after update of revoked_at, expires_at, models, ip_allowlist, limit_usd,
  limit_reset on api_key
  for each row execute function notify_change('key');
create trigger key_created after insert on api_key for each statement execute function notify_change('key_created');
create trigger token_created after insert on access_token
  for each statement execute function notify_change('token_created');
create trigger account_changed after update of frozen_at on account
  for each row execute function notify_change('account');
create trigger catalogue_changed after insert or update on model
  for each row execute function notify_change('catalogue');
create trigger catalogue_changed after insert on price_version for each row execute function notify_change('catalogue');
