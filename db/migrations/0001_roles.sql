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
grant usage on schema holdfast to holdfast_gateway, holdfast_worker, holdfast_management, holdfast_reporter, holdfast_auditor;
