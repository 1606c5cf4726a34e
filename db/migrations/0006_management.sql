-- What people manage: models and prices, access tokens, refunds, approvals, cases, notices, and the record of who did what.
set role holdfast_owner;
set search_path = holdfast;

create table model (
  id text primary key,
  dialect text not null,
  context_length integer not null,
  default_output_tokens integer not null,
  request_timeout_seconds numeric not null default 600,
  upstreams jsonb not null,
  -- What the gateway must know of the model beside its prices, where it is not the default (db/requests/catalogue.ts).
  traits jsonb not null default '{}',
  created_at timestamptz not null default now(),
  retired_at timestamptz,
  constraint dialect_known check (dialect in ('openai', 'anthropic')),
  constraint model_id_length check (char_length(id) between 1 and 200),
  constraint lengths_positive check (context_length > 0 and default_output_tokens > 0 and request_timeout_seconds > 0)
);

-- What the gateways have found about how a model's upstream counts: one row per finding, for whoever keeps the catalogue.
create table model_finding (
  model_id text not null,
  upstream text not null,            -- its place among the model's and its host
  finding text not null,
  requests bigint not null,
  first_at timestamptz not null default clock_timestamp(),
  last_at timestamptz not null default clock_timestamp(),
  last_request_id uuid not null,     -- an example to look at
  primary key (model_id, upstream, finding),
  constraint finding_length check (char_length(finding) between 1 and 40),
  constraint upstream_length check (char_length(upstream) between 1 and 300)
);

create function note_model_finding(p_model text, p_upstream text, p_finding text, p_requests bigint, p_request uuid) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  insert into model_finding as f (model_id, upstream, finding, requests, last_request_id)
  values (p_model, p_upstream, p_finding, p_requests, p_request)
  on conflict (model_id, upstream, finding) do update set
    requests = f.requests + excluded.requests, last_at = excluded.last_at, last_request_id = excluded.last_request_id
$$;

-- Immutable. A version is in force from valid_from until the next version's; `prices` is the catalogue's own text form.
create table price_version (
  model_id text not null references model,
  version integer not null,
  valid_from timestamptz not null,
  prices jsonb not null,
  created_at timestamptz not null default now(),
  created_by text not null,
  primary key (model_id, version),
  constraint one_version_per_moment unique (model_id, valid_from)
);
create trigger append_only before update or delete on price_version for each row execute function deny_change();
create trigger append_only_truncate before truncate on price_version for each statement execute function deny_change();

-- Publishes the next version of a model's prices. A model's first version is in force at once; a later one needs
-- p_lead_seconds of notice (HF010) and must come after the last one (HF011), so that every gateway knows it in time.
create function publish_price_version(p_model text, p_valid_from timestamptz, p_prices jsonb, p_lead_seconds numeric, p_by text)
returns price_version language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  last price_version;
  made price_version;
  earliest timestamptz := now() + make_interval(secs => p_lead_seconds::double precision);
begin
  perform 1 from model where id = p_model for update;
  if not found then perform refuse('HF001', 'model unknown'); end if;
  select * into last from price_version where model_id = p_model order by version desc limit 1;
  if not found then earliest := '-infinity'; end if;
  if p_valid_from < earliest then perform refuse('HF010', 'valid_from is too soon'); end if;
  if coalesce(p_valid_from, now() + make_interval(secs => p_lead_seconds::double precision)) <= last.valid_from then
    perform refuse('HF011', 'valid_from is not after the last version');
  end if;
  insert into price_version (model_id, version, valid_from, prices, created_by)
  values (p_model, coalesce(last.version, 0) + 1, coalesce(p_valid_from, greatest(earliest, case when last.version is null then now() end)), p_prices, p_by)
  returning * into made;
  return made;
end
$$;

create table access_token (
  id uuid primary key default uuidv7(),
  hash bytea not null unique,
  role text not null,
  account_id uuid references account,
  name text not null,
  created_at timestamptz not null default now(),
  created_by uuid references access_token,   -- the token it was made with; null for one made on the machine
  person text,                               -- whose it is: its maker's, else the name given on the machine
  scopes text[],                             -- what a customer's token may do; null for staff, whose role says it
  expires_at timestamptz,
  revoked_at timestamptz,
  constraint staff_token_has_person check ((role = 'account') = (person is null)),
  constraint role_known check (role in ('account', 'operator', 'support', 'finance', 'auditor')),
  constraint account_role_names_account check ((role = 'account') = (account_id is not null)),
  constraint account_role_has_scopes check ((role = 'account') = (scopes is not null)),
  constraint scopes_known check (scopes <@ array['read', 'keys', 'money'] and cardinality(scopes) > 0),
  constraint token_hash_is_sha256 check (octet_length(hash) = 32)
);
create index access_token_maker on access_token (created_by) where created_by is not null;
create index access_token_account on access_token (account_id, id desc) where account_id is not null;

-- Whose a token is follows from where it was made and is never stated: whatever somebody makes through the interface is still theirs.
-- A token makes none that lives longer than itself, a customer's only ones of its own account that may do no more.
create function set_token_person() returns trigger language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  maker access_token;
begin
  if new.role = 'account' and new.scopes is null then new.scopes := array['read', 'keys', 'money']; end if;
  -- Held, so that revoking it finds what it makes meanwhile, or comes first and leaves nothing to make.
  select * into maker from access_token where id = new.created_by for share;
  if maker.revoked_at is not null then perform refuse('HF017', 'the token is revoked'); end if;
  if maker.role = 'account' and (new.account_id is distinct from maker.account_id or not new.scopes <@ maker.scopes)
    or coalesce(new.expires_at, 'infinity') > maker.expires_at
  then
    raise exception using errcode = 'HF900', message = format('token %s would be more than the one it is made with', new.id);
  end if;
  new.person := case
    when new.role = 'account' then null
    when new.created_by is null then lower(btrim(new.name))
    else maker.person
  end;
  return new;
end
$$;
create trigger token_person before insert or update of created_by, person on access_token
  for each row execute function set_token_person();

create index access_token_person on access_token (person) where person is not null;

-- Makes a token, or returns the one that has this hash. Whoever it is for (the account, else the person who makes it) has at most p_most
-- that are neither revoked nor expired (HF036), and makes ten times as many within a day (HF038): their rows stay. Null: any number. Only
-- one made on the machine has no maker and no bound.
create function create_access_token(p_hash bytea, p_role text, p_account uuid, p_name text, p_created_by uuid, p_expires_at timestamptz,
  p_scopes text[], p_most bigint) returns access_token
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  maker text := (select person from access_token where id = p_created_by);
  n record;
  made access_token;
begin
  if p_most is not null and coalesce(p_account::text, maker) is not null then
    perform pg_advisory_xact_lock(hashtextextended('holdfast.access_tokens/' || coalesce(p_account::text, maker), 0));
    select count(*) filter (where revoked_at is null and (expires_at is null or expires_at > now())) as in_use,
      count(*) filter (where created_at > now() - interval '1 day') as new
    into n from access_token where case when p_account is null then person = maker else account_id = p_account end;
    if n.in_use >= p_most then perform refuse('HF036', 'too many tokens'); end if;
    if n.new >= 10 * p_most then perform refuse('HF038', 'too many new tokens'); end if;
  end if;
  insert into access_token (hash, role, account_id, name, created_by, expires_at, scopes)
  values (p_hash, p_role, p_account, p_name, p_created_by, p_expires_at, p_scopes)
  on conflict (hash) do update set revoked_at = access_token.revoked_at returning * into made;
  return made;
end
$$;

-- Makes an API key and returns its id. HF035 when the account has p_most that are not revoked, HF037 when it made ten times as
-- many within a day, revoked or not: their rows stay. Null: any number.
create function create_api_key(p_account uuid, p_hash bytea, p_prefix text, p_name text, p_expires_at timestamptz, p_limit usd,
  p_limit_reset text, p_models text[], p_ip_allowlist cidr[], p_created_by uuid, p_most bigint) returns uuid
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  made uuid;
begin
  if p_most is not null then
    -- Not the account's row: requests wait for that one.
    perform pg_advisory_xact_lock(hashtextextended('holdfast.api_keys/' || p_account, 0));
    if (select count(*) from api_key where account_id = p_account and revoked_at is null) >= p_most then
      perform refuse('HF035', 'too many keys');
    end if;
    if (select count(*) from api_key where account_id = p_account and id > v7_floor(now() - interval '1 day')) >= 10 * p_most then
      perform refuse('HF037', 'too many new keys');
    end if;
  end if;
  insert into api_key (account_id, hash, prefix, name, expires_at, limit_usd, limit_reset, models, ip_allowlist, created_by)
  values (p_account, p_hash, p_prefix, p_name, p_expires_at, p_limit, p_limit_reset, p_models, p_ip_allowlist, p_created_by)
  returning id into made;
  return made;
end
$$;

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

-- Revokes a token with everything that was made with it, and API keys that were where p_keys says so. Returns what this call revoked.
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

-- An API key that a token makes is found by who revokes the token, or is not made.
create function require_live_maker() returns trigger language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  perform from access_token where id = new.created_by and revoked_at is null for share;
  if not found then perform refuse('HF017', 'the token is revoked'); end if;
  return new;
end
$$;
create trigger live_maker before insert on api_key for each row when (new.created_by is not null) execute function require_live_maker();

-- Narrows a customer's token, and with it everything that was made with it: to some of its scopes, to an earlier end. What has none of the
-- scopes is revoked.
create function narrow_access_token(p_id uuid, p_scopes text[], p_expires_at timestamptz) returns void
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  -- Again until there is nothing more, as above.
  loop
    update access_token set
      scopes = case when scopes && p_scopes then array(select s from unnest(scopes) s where s = any (p_scopes)) else scopes end,
      revoked_at = case when not scopes && p_scopes then now() end,
      expires_at = least(expires_at, p_expires_at)
    where role = 'account' and revoked_at is null and id in (select tokens_made_with(p_id))
      and (not scopes <@ p_scopes or coalesce(expires_at, 'infinity') > p_expires_at);
    exit when not found;
  end loop;
end
$$;

-- The person behind an actor as the interface names one, `<name> (tok_…)` of a staff token. Null for any other text: a name that
-- somebody typed is nobody's.
create function person_of(p_actor text) returns text
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select person from access_token where id = substring(p_actor from '\(tok_([0-9a-f]{32})\)$')::uuid
$$;

-- Null when one of them is nobody.
create function same_person(p_one text, p_other text) returns boolean
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select person_of(p_one) = person_of(p_other)
$$;

-- Who asks for or decides about money has to be somebody: HF015 unless the actor is a person. Returns the person.
create function require_person(p_actor text) returns text
language plpgsql stable security definer set search_path = holdfast, pg_temp as $$
declare
  who text := person_of(p_actor);
begin
  if who is null then perform refuse('HF015', 'not a person of the interface'); end if;
  return who;
end
$$;

-- Who approved what, each person once. The subject is the adjustment, refund, batch, correction, credit, reward, review or change.
create table approval (
  kind text not null,
  subject uuid not null,
  person text not null,
  actor text not null,
  given_at timestamptz not null default clock_timestamp(),
  primary key (kind, subject, person)
);
create trigger append_only before update or delete on approval for each row execute function deny_change();
create trigger append_only_truncate before truncate on approval for each statement execute function deny_change();

-- Records an approval and says whether it is enough: one by another person than who asked, or p_needed persons where nobody of the
-- interface asked. HF014 for who asked, and for a repeat that is not enough. The caller holds the subject's row.
create function approve(p_kind text, p_subject uuid, p_requested_by text, p_by text, p_needed integer default 2) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  who text := require_person(p_by);
  asked_by text := person_of(p_requested_by);
  made boolean;
  given integer;
begin
  if asked_by = who then perform refuse('HF014', 'a second person must approve'); end if;
  insert into approval (kind, subject, person, actor) values (p_kind, p_subject, who, p_by) on conflict do nothing;
  made := found;
  if asked_by is not null then return true; end if;
  select count(*) into given from approval where kind = p_kind and subject = p_subject;
  if given < p_needed and not made then perform refuse('HF014', 'a second person must approve'); end if;
  return given >= p_needed;
end
$$;

-- What one person moved by hand alone, without a second one: what the sums of a person and of an account are made of. Amounts are
-- absolute and never given back, so that taking back and moving again counts twice. `limits` are those that were in force.
create table hand_money (
  kind text not null,
  subject uuid not null,
  person text not null,
  account_id uuid references account,  -- null for vouchers: whose they are shows when they are redeemed
  amount usd_not_negative not null,
  moved_at timestamptz not null,
  limits jsonb not null,
  primary key (kind, subject)
);
create index hand_money_person on hand_money (person, moved_at);
create index hand_money_account on hand_money (account_id, moved_at) where account_id is not null;
create trigger append_only before update or delete on hand_money for each row execute function deny_change();
create trigger append_only_truncate before truncate on hand_money for each statement execute function deny_change();

-- What a person moved alone, and what was moved so to an account, in the day and in the 30 days before a moment. Vouchers count
-- for their person when they are issued, and for an account when it redeems them.
create function hand_money_sums(p_person text, p_account uuid, p_at timestamptz)
returns table (person_day numeric, person_month numeric, account_day numeric, account_month numeric)
language plpgsql stable security definer set search_path = holdfast, pg_temp as $$
begin
  return query
  with of_person as (
    select amount, moved_at from hand_money where person = p_person and moved_at > p_at - interval '30 days'
  ), of_account as (
    select amount, moved_at from hand_money where account_id = p_account and moved_at > p_at - interval '30 days'
    union all
    select b.amount, v.redeemed_at from voucher v join voucher_batch b on b.id = v.batch_id and b.decided_by is null
    where v.redeemed_by = p_account and v.redeemed_at > p_at - interval '30 days'
  )
  select
    (select coalesce(sum(amount) filter (where moved_at > p_at - interval '1 day'), 0) from of_person),
    (select coalesce(sum(amount), 0) from of_person),
    (select coalesce(sum(amount) filter (where moved_at > p_at - interval '1 day'), 0) from of_account),
    (select coalesce(sum(amount), 0) from of_account);
end
$$;

-- Counts a movement that one person wants to make alone, and says whether it may be: neither it nor the sums with it exceed the
-- limits {movement, person_day, person_month, account_day, account_month}. Under a lock for the person and for the account, so that
-- two at once cannot both be the last. False counts nothing: it has to wait for a second person. No limits: always false.
create function count_hand_money(p_kind text, p_subject uuid, p_by text, p_account uuid, p_amount numeric, p_limits jsonb) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  who text := require_person(p_by);
  worth numeric := abs(p_amount);
  s record;
  at timestamptz;
begin
  if p_limits is null or worth > (p_limits ->> 'movement')::numeric then return false; end if;
  perform pg_advisory_xact_lock(hashtextextended('holdfast.hand_money/person/' || who, 0));
  if p_account is not null then perform pg_advisory_xact_lock(hashtextextended('holdfast.hand_money/account/' || p_account, 0)); end if;
  at := clock_timestamp();
  select * into s from hand_money_sums(who, p_account, at);
  if s.person_day + worth > (p_limits ->> 'person_day')::numeric or s.person_month + worth > (p_limits ->> 'person_month')::numeric
    or s.account_day + worth > (p_limits ->> 'account_day')::numeric or s.account_month + worth > (p_limits ->> 'account_month')::numeric
  then
    return false;
  end if;
  insert into hand_money (kind, subject, person, account_id, amount, moved_at, limits)
  values (p_kind, p_subject, who, p_account, worth, at, p_limits);
  return true;
end
$$;

-- Records an approval of what no person asked for (a reward above a cap, a commission under review), and says whether it is enough:
-- one within p_limits, which is then counted as moved by that person alone, else two. The caller holds the subject's row.
create function approve_automatic(p_kind text, p_subject uuid, p_account uuid, p_amount numeric, p_by text, p_limits jsonb) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  alone boolean := not exists (select from approval where kind = p_kind and subject = p_subject)
    and count_hand_money(p_kind, p_subject, p_by, p_account, p_amount, p_limits);
begin
  return approve(p_kind, p_subject, null, p_by, case when alone then 1 else 2 end);
end
$$;

-- A change of the rules of money that nobody makes alone: kept as it was asked for, made when a second person approves.
create table change_request (
  id uuid primary key default uuidv7(),
  kind text not null,
  subject text not null,             -- the model, the affiliate's account, or the rule's name
  change jsonb not null,
  cause text not null,               -- what of it takes a second person
  reason text,
  state text not null default 'waiting',
  requested_by text not null,
  requested_at timestamptz not null default now(),
  decided_by text,
  decided_at timestamptz,
  constraint change_kind_known check (kind in ('affiliate_rate', 'commission_rule', 'price_version', 'model')),
  constraint change_state_known check (state in ('waiting', 'applied', 'rejected')),
  constraint change_decided_iff_not_waiting check (num_nulls(decided_by, decided_at) = case state when 'waiting' then 2 else 0 end)
);
create index change_request_waiting on change_request (id) where state = 'waiting';

create function request_change(p_kind text, p_subject text, p_change jsonb, p_cause text, p_reason text, p_by text) returns change_request
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  c change_request;
begin
  perform require_person(p_by);
  insert into change_request (kind, subject, change, cause, reason, requested_by)
  values (p_kind, p_subject, p_change, p_cause, p_reason, p_by) returning * into c;
  return c;
end
$$;

-- A second person decides a waiting change; the one who asked for it may only reject it (HF014). Whoever approves it makes the change in
-- the same transaction.
create function decide_change(p_id uuid, p_approve boolean, p_by text) returns change_request
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  c change_request;
begin
  perform require_person(p_by);
  select * into c from change_request where id = p_id for update;
  if not found then perform refuse('HF008', 'change unknown'); end if;
  if c.state <> 'waiting' then return c; end if;
  if p_approve and not approve('change', c.id, c.requested_by, p_by) then return c; end if;
  update change_request set state = case when p_approve then 'applied' else 'rejected' end, decided_by = p_by, decided_at = now()
  where id = p_id returning * into c;
  return c;
end
$$;

create table request_refund (
  request_id uuid not null,
  n integer not null,
  id uuid not null unique default uuidv7(),
  account_id uuid not null,
  amount usd not null,
  reason text not null,
  state text not null default 'waiting',
  needs_approval boolean not null default true,
  requested_by text not null,
  requested_at timestamptz not null default now(),
  decided_by text,
  decided_at timestamptz,
  posting_id uuid,
  primary key (request_id, n),
  constraint refund_amount_positive check (amount > 0),
  constraint refund_state_known check (state in ('waiting', 'posted', 'rejected')),
  constraint refund_decided_iff_not_waiting check ((state = 'waiting') = (decided_at is null)),
  constraint refund_posted_iff_posting check ((state = 'posted') = (posting_id is not null)),
  constraint refund_reason_length check (char_length(reason) between 3 and 2000)
);

create function post_refund(p_id uuid) returns uuid
language sql security definer set search_path = holdfast, pg_temp as $$
  select post_transfer('request_refund', f.id, system_account('revenue'), f.account_id, f.amount,
    jsonb_build_object('request_id', f.request_id, 'n', f.n, 'reason', f.reason, 'requested_by', f.requested_by,
      'approved_by', f.decided_by), true)
  from request_refund f where f.id = p_id
$$;

-- Asks for a refund. Refuses more than what the request was charged, counting refunds that still wait (HF012), and requests that were
-- not charged (HF013). A repeat of the same (request, n) returns the row that is there. It is posted at once while the request's
-- refunds together are within p_limits.movement and the sums within the others; else it waits for a second person. No limits: always.
create function request_refund(p_request uuid, p_n integer, p_amount usd, p_reason text, p_by text, p_limits jsonb default null)
returns request_refund
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  r request;
  made request_refund;
  refunded numeric;
  wanted numeric;
begin
  perform require_person(p_by);
  select * into r from request where id = p_request for share;
  if not found then perform refuse('HF008', 'request unknown'); end if;
  perform pg_advisory_xact_lock(hashtextextended(p_request::text, 1));
  select * into made from request_refund where request_id = p_request and n = p_n;
  if found then return made; end if;
  if r.state <> 'charged' then perform refuse('HF013', 'request was not charged'); end if;
  select coalesce(sum(amount), 0) into refunded from request_refund where request_id = p_request and state <> 'rejected';
  wanted := coalesce(p_amount, r.cost - refunded);
  if wanted > r.cost - refunded or r.cost = refunded then
    perform refuse('HF012', 'refund above what was charged', r.cost - refunded, p_amount);
  end if;
  insert into request_refund (request_id, n, account_id, amount, reason, requested_by)
  values (p_request, p_n, r.account_id, wanted, p_reason, p_by) returning * into made;
  if refunded + wanted <= (p_limits ->> 'movement')::numeric
    and count_hand_money('refund', made.id, p_by, r.account_id, wanted, p_limits)
  then
    update request_refund set needs_approval = false, decided_by = p_by where id = made.id;
    update request_refund set state = 'posted', decided_at = now(), posting_id = post_refund(made.id) where id = made.id returning * into made;
  end if;
  return made;
end
$$;

-- A second person decides a waiting refund; the one who asked for it may only reject it (HF014). The posting and the state change in
-- one transaction, once.
create function decide_refund(p_request uuid, p_n integer, p_approve boolean, p_by text) returns request_refund
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  f request_refund;
begin
  perform require_person(p_by);
  select * into f from request_refund where request_id = p_request and n = p_n for update;
  if not found then perform refuse('HF008', 'refund unknown'); end if;
  if f.state <> 'waiting' then return f; end if;
  if p_approve and not approve('refund', f.id, f.requested_by, p_by) then return f; end if;
  update request_refund set decided_by = p_by where id = f.id;
  update request_refund set state = case when p_approve then 'posted' else 'rejected' end, decided_at = now(),
    posting_id = case when p_approve then post_refund(f.id) end
  where id = f.id returning * into f;
  return f;
end
$$;

create function refund_of(p_request uuid, p_n integer) returns setof request_refund
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select * from request_refund where request_id = p_request and n = p_n
$$;

-- Adjustments by hand. Above a threshold they wait here until a second person decides.
create table adjustment (
  id uuid primary key default uuidv7(),
  account_id uuid not null references account,
  amount usd not null,
  reason text not null,
  state text not null,
  requested_by text not null,
  requested_at timestamptz not null default now(),
  decided_by text,
  decided_at timestamptz,
  posting_id uuid,
  constraint adjustment_not_zero check (amount <> 0),
  constraint adjustment_state_known check (state in ('waiting', 'posted', 'rejected')),
  constraint adjustment_posted_iff_posting check ((state = 'posted') = (posting_id is not null)),
  constraint adjustment_second_person check (state <> 'posted' or decided_by is null or decided_by <> requested_by),
  constraint adjustment_reason_length check (char_length(reason) between 3 and 2000)
);

create function post_adjustment(p_id uuid) returns uuid
language sql security definer set search_path = holdfast, pg_temp as $$
  select post_transfer('adjustment', x.id,
    case when x.amount > 0 then system_account('adjustment') else x.account_id end,
    case when x.amount > 0 then x.account_id else system_account('adjustment') end,
    abs(x.amount), jsonb_build_object('reason', x.reason, 'requested_by', x.requested_by, 'approved_by', x.decided_by), false)
  from adjustment x where x.id = p_id
$$;

-- Asks for an adjustment under an id of the caller's choice (repeatable). It is posted at once within p_limits, else it waits.
-- A debit never takes a customer below balance − held (HF006).
create function request_adjustment(p_id uuid, p_account uuid, p_amount usd, p_reason text, p_by text, p_limits jsonb) returns adjustment
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  x adjustment;
  made boolean;
begin
  perform require_person(p_by);
  perform 1 from account where id = p_account and kind = 'customer';
  if not found then perform refuse('HF001', 'account unknown'); end if;
  insert into adjustment (id, account_id, amount, reason, state, requested_by)
  values (p_id, p_account, p_amount, p_reason, 'waiting', p_by) on conflict do nothing;
  made := found;
  select * into x from adjustment where id = p_id for update;
  if (x.account_id, x.amount, x.reason) is distinct from (p_account, p_amount::numeric, p_reason) then
    perform refuse('HF009', 'adjustment id reused');
  end if;
  if made and count_hand_money('adjustment', x.id, p_by, p_account, p_amount, p_limits) then
    update adjustment set state = 'posted', decided_at = now(), posting_id = post_adjustment(p_id) where id = p_id returning * into x;
  end if;
  return x;
end
$$;

-- A second person decides a waiting adjustment; the one who asked for it may only reject it (HF014).
create function decide_adjustment(p_id uuid, p_approve boolean, p_by text) returns adjustment
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  x adjustment;
begin
  perform require_person(p_by);
  select * into x from adjustment where id = p_id for update;
  if not found then perform refuse('HF008', 'adjustment unknown'); end if;
  if x.state <> 'waiting' then return x; end if;
  if p_approve and not approve('adjustment', x.id, x.requested_by, p_by) then return x; end if;
  update adjustment set decided_by = p_by, decided_at = now() where id = p_id;
  update adjustment set state = case when p_approve then 'posted' else 'rejected' end,
    posting_id = case when p_approve then post_adjustment(p_id) end
  where id = p_id returning * into x;
  return x;
end
$$;

-- Freezes an account: its keys buy nothing from the next request on. What weighs more than the freeze that is there replaces it, so
-- that lifting the one does not lift the other. Says whether anything changed.
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

-- Lifts a freeze of one of these kinds; says whether it did.
create function unfreeze_account(p_account uuid, p_kinds text[]) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
begin
  update account set frozen_at = null, frozen_reason = null, frozen_kind = null
  where id = p_account and kind = 'customer' and frozen_at is not null and coalesce(frozen_kind, 'operator') = any (p_kinds);
  return found;
end
$$;

-- What waits for a person. At most one open case per kind and subject; evidence says what is known.
create table review_case (
  id uuid primary key default uuidv7(),
  kind text not null,
  subject text not null,
  evidence jsonb not null,
  opened_at timestamptz not null default now(),
  closed_at timestamptz,
  closed_by text,
  resolution text,
  constraint closed_has_resolution check (num_nulls(closed_at, closed_by, resolution) in (0, 3))
);
create unique index review_case_open on review_case (kind, subject) where closed_at is null;

create function open_case(p_kind text, p_subject text, p_evidence jsonb) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  insert into review_case (kind, subject, evidence) values (p_kind, p_subject, p_evidence) on conflict do nothing
$$;

create table notice (
  id uuid primary key default uuidv7(),
  account_id uuid not null references account,
  kind text not null,
  details jsonb not null,
  created_at timestamptz not null default now(),
  read_at timestamptz
);
create index notice_account on notice (account_id, id desc);

-- Tells a customer of something that staff did with their account.
create function tell_account(p_account uuid, p_kind text, p_details jsonb) returns void
language sql security definer set search_path = holdfast, pg_temp as $$
  insert into notice (account_id, kind, details) values (p_account, p_kind, p_details)
$$;

-- Writes the low-balance notice unless the balance has recovered or it was written before; says whether it was written.
create function notice_low_balance(p_account uuid) returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  a account;
begin
  update account set low_balance_noticed_at = clock_timestamp()
  where id = p_account and low_balance_noticed_at is null and balance < low_balance_usd returning * into a;
  if not found then return false; end if;
  insert into notice (account_id, kind, details) values (p_account, 'low_balance',
    jsonb_build_object('balance_usd', a.balance::numeric(38,12)::text, 'threshold_usd', a.low_balance_usd::numeric(38,12)::text));
  return true;
end
$$;

create table operator_action (
  id uuid primary key default uuidv7(),
  at timestamptz not null default now(),
  actor text not null,
  action text not null,
  subject text not null,
  details jsonb not null
);
create trigger append_only before update or delete on operator_action for each row execute function deny_change();
create trigger append_only_truncate before truncate on operator_action for each statement execute function deny_change();

-- Answers of management POSTs that move money, for 24 h per account or operator: the same key gets the same answer.
create table idempotency_key (
  scope text not null,
  key text not null,
  body_hash bytea not null,
  subject uuid not null default uuidv7(),   -- the business id the first attempt used; a retry uses the same one
  status integer,
  answer jsonb,
  created_at timestamptz not null default now(),
  primary key (scope, key)
);

-- Gateways hear of changed keys, accounts and prices at once, and of new keys and tokens, whose secrets they may have taken for
-- unknown; their caches' age limit is the backstop.
create function notify_change() returns trigger language plpgsql as $$
begin
  perform pg_notify('holdfast_changed', tg_argv[0] || ':' || coalesce(to_jsonb(new) ->> 'id', ''));
  return null;
end
$$;
create trigger key_changed after update of revoked_at, expires_at, models, ip_allowlist, limit_usd, limit_reset on api_key
  for each row execute function notify_change('key');
create trigger key_created after insert on api_key for each statement execute function notify_change('key_created');
create trigger token_created after insert on access_token for each statement execute function notify_change('token_created');
create trigger account_changed after update of frozen_at on account for each row execute function notify_change('account');
create trigger catalogue_changed after insert or update on model for each row execute function notify_change('catalogue');
create trigger catalogue_changed after insert on price_version for each row execute function notify_change('catalogue');

-- What authentication needs to know of keys; hashes are SHA-256 of the secrets. Hashes that no key has give no row.
create function find_keys(p_hashes bytea[]) returns table (hash bytea, key_id uuid, account_id uuid, name text,
  expires_at timestamptz, revoked_at timestamptz, models text[], ip_allowlist text[], frozen_at timestamptz)
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select k.hash, k.id, k.account_id, k.name, k.expires_at, k.revoked_at, k.models, k.ip_allowlist::text[], a.frozen_at
  from api_key k join account a on a.id = k.account_id where k.hash = any (p_hashes)
$$;

-- Every model that is not retired, with the price versions in force lately, now or later: a gateway whose clock is behind
-- this one's still needs the version before.
create function catalogue() returns table (id text, dialect text, context_length integer, default_output_tokens integer,
  request_timeout_seconds numeric, upstreams jsonb, traits jsonb, created_at timestamptz, versions jsonb)
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select m.id, m.dialect, m.context_length, m.default_output_tokens, m.request_timeout_seconds, m.upstreams, m.traits, m.created_at,
    coalesce((
      select jsonb_agg(jsonb_build_object('version', v.version, 'valid_from', v.valid_from, 'prices', v.prices) order by v.version)
      from price_version v
      where v.model_id = m.id and v.version >= coalesce(
        (select max(p.version) from price_version p where p.model_id = m.id and p.valid_from <= now() - interval '5 minutes'), 0)
    ), '[]')
  from model m where m.retired_at is null
$$;

-- The prices of one version, for rating after the fact.
create function price_version_of(p_model text, p_version integer) returns jsonb
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select prices from price_version where model_id = p_model and version = p_version
$$;

-- By which prices what a `:free` model gave away at p_at is booked: its own, else those of the model it is named after.
create function free_prices(p_model text, p_at timestamptz) returns jsonb
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select prices from (
    select distinct on (model_id) model_id, prices from price_version
    where model_id in (p_model, left(p_model, -char_length(':free'))) and valid_from <= p_at
    order by model_id, version desc
  ) in_force
  where prices -> 'prices' <> '{}' order by model_id = p_model desc limit 1
$$;

create function upstreams_of(p_model text) returns jsonb
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select upstreams from model where id = p_model
$$;

-- What resolveOrphan needs to know of a request.
create function orphan_facts(p_request uuid) returns table (state text, outcome text, model_id text, price_version integer,
  free boolean, hold usd, asked_units jsonb, input_tokens bigint, output_tokens bigint, handed_over boolean,
  created_at timestamptz, context_length integer)
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select r.state, r.outcome, r.model_id, r.price_version, r.free, r.hold, r.asked_units, r.input_tokens, r.output_tokens,
    r.resolver_started_at is not null, r.created_at, m.context_length
  from request r left join model m on m.id = r.model_id where r.id = p_request
$$;

reset role;
reset search_path;
