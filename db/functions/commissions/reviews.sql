-- Top-ups that may be their affiliate's own: a person decides.

-- What an approval of a review lets through, at most: what its payment has earned, whether or not something of it is
-- taken back now (a dispute may be won), and what other payments of the two accounts have earned that nothing else
-- keeps back: from then on their common signals speak against none of them.
create function commission_review_worth(p_review commission_review) returns numeric
language sql stable as $$
  select coalesce(sum(a.amount), 0) from commission_accrual a
  where a.kind = 'earned' and a.affiliate_id = p_review.affiliate_id and a.account_id = p_review.account_id
    and (a.payment_id = p_review.payment_id
      or a.run is null and not exists (select from commission_review o where o.payment_id = a.payment_id))
$$;
grant execute on function commission_review_worth to holdfast_management, holdfast_reporter, holdfast_auditor;

-- A person decides whether the commission on a referred top-up is earned. Paying it counts as money moved by hand:
-- beyond p_limits it takes a second person, and the first one's approval leaves it waiting. A decided one stays
-- as it is.
create function decide_commission_review(p_id uuid, p_state text, p_reason text, p_by text, p_limits jsonb)
returns commission_review
language plpgsql security definer set search_path = holdfast, pg_temp as $$
declare
  v_review commission_review;
begin
  perform require_person(p_by);
  select * into v_review from commission_review where id = p_id for update;
  if not found then
    perform refuse('HF008', 'review unknown');
  end if;
  if v_review.state <> 'waiting' then
    return v_review;
  end if;
  if p_state = 'approved' then
    if not approve_automatic('commission_review', v_review.id, v_review.affiliate_id, commission_review_worth(v_review),
      p_by, p_limits) then
      return v_review;
    end if;
  end if;
  update commission_review set state = p_state, decided_by = p_by, decided_at = now(), decision_reason = p_reason
  where id = p_id returning * into v_review;
  return v_review;
end
$$;
grant execute on function decide_commission_review to holdfast_management;
