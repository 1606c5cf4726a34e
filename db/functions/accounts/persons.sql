-- Who somebody is: the person behind an actor, and what takes two of them.

-- The person behind an actor as the interface names one, `<name> (tok_…)` of a staff token. Null for any other text: a
-- name that somebody typed is nobody's.
create function person_of(p_actor text) returns text
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select person from access_token where id = substring(p_actor from '\(tok_([0-9a-f]{32})\)$')::uuid
$$;
grant execute on function person_of to holdfast_management, holdfast_reporter, holdfast_auditor;

-- Null when one of them is nobody.
create function same_person(p_one text, p_other text) returns boolean
language sql stable security definer set search_path = holdfast, pg_temp as $$
  select person_of(p_one) = person_of(p_other)
$$;
grant execute on function same_person to holdfast_management, holdfast_reporter, holdfast_auditor;

-- Who asks for or decides about money has to be somebody: HF015 unless the actor is a person. Returns the person.
create function require_person(p_actor text) returns text
language plpgsql stable security definer set search_path = holdfast, pg_temp as $$
declare
  v_person text := person_of(p_actor);
begin
  if v_person is null then
    perform refuse('HF015', 'not a person of the interface');
  end if;
  return v_person;
end
$$;

-- Records an approval and says whether it is enough: one by another person than who asked, or p_needed persons where
-- nobody of the interface asked. HF014 for who asked, and for a repeat that is not enough. The caller holds the
-- subject's row.
create function approve(p_kind text, p_subject uuid, p_requested_by text, p_by text, p_needed integer default 2)
returns boolean
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_person text := require_person(p_by);
  v_asked_by text := person_of(p_requested_by);
  v_made boolean;
  v_given integer;
begin
  if v_asked_by = v_person then
    perform refuse('HF014', 'a second person must approve');
  end if;
  insert into approval (kind, subject, person, actor) values (p_kind, p_subject, v_person, p_by) on conflict do nothing;
  v_made := found;
  if v_asked_by is not null then
    return true;
  end if;
  select count(*) into v_given from approval where kind = p_kind and subject = p_subject;
  if v_given < p_needed and not v_made then
    perform refuse('HF014', 'a second person must approve');
  end if;
  return v_given >= p_needed;
end
$$;

create trigger append_only before update or delete on approval for each row execute function deny_change();
create trigger append_only_truncate before truncate on approval for each statement execute function deny_change();
create trigger append_only before update or delete on operator_action for each row execute function deny_change();
create trigger append_only_truncate before truncate on operator_action
  for each statement execute function deny_change();
