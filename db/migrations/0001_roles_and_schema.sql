-- Roles. The application never logs in as the owner: each process sets the role of its pool, and the money tables
-- answer only to functions. Roles are cluster-wide, so a second database finds them in place.
-- A login that may create roles but is no superuser must also be able to act as them.
set createrole_self_grant = 'set, inherit';
do $$
declare
  wanted text;
begin
  foreach wanted in array array['holdfast_owner', 'holdfast_gateway', 'holdfast_worker', 'holdfast_management',
    'holdfast_reporter', 'holdfast_auditor']
  loop
    begin
      execute format('create role %I nologin', wanted);
    exception when duplicate_object or unique_violation then null; -- another database, or a starter beside us
    end;
  end loop;
end
$$;

create schema if not exists holdfast authorization holdfast_owner;
grant usage on schema holdfast to
  holdfast_gateway, holdfast_worker, holdfast_management, holdfast_reporter, holdfast_auditor;

set role holdfast_owner;
set search_path = holdfast;

-- Nobody may call a function unless it says so beside the function. Holds for every function that is made from here on.
alter default privileges for role holdfast_owner revoke execute on functions from public;

-- What db/functions has made here, word for word, so that db/migrate.ts sees what has changed and what is not
-- defined any more.
create table applied_object (
  kind text not null,
  name text not null,
  definition text not null,
  grants text[] not null,
  primary key (kind, name),
  constraint object_kind_known check (kind in ('function', 'view', 'trigger'))
);

reset role;
reset search_path;
