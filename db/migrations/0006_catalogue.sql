-- Models and their prices.
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

-- What the gateways have found about how a model's upstream counts: one row per finding, for staff who keep the
-- catalogue.
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

-- Who reads reports and who manages may see every row; a role may write what is named here, and nothing else.
grant select on model, model_finding, price_version to
  holdfast_management, holdfast_reporter, holdfast_auditor;
grant insert, update on model to holdfast_management;

reset role;
reset search_path;
