-- What customers see of their money and of their keys.

-- What a customer sees, exact at every moment, from one statement: finished rows count at their cost, not at their
-- hold.
create view account_balance with (security_invoker = true) as
  select a.id as account_id,
    (a.balance - f.cost) as balance,
    (a.held - f.hold) as held,
    (a.balance - f.cost) - (a.held - f.hold) as available
  from account a
  cross join lateral (
    select coalesce(sum(r.cost), 0) as cost, coalesce(sum(r.hold), 0) as hold
    from request r where r.account_id = a.id and r.state = 'finished'
  ) f
  where a.kind = 'customer';
grant select on account_balance to holdfast_management, holdfast_reporter, holdfast_auditor;

create view key_spending with (security_invoker = true) as
  select k.id as key_id,
    k.spent_total + f.cost as spent_total,
    case when limit_window(k.limit_reset, now()) > k.window_start then 0 else k.window_spent + f.window_cost end
      as window_spent,
    k.held - f.hold as held,
    case
      when k.limit_usd is null then null
      when k.limit_reset = 'none' then k.limit_usd - (k.spent_total + f.cost) - (k.held - f.hold)
      when limit_window(k.limit_reset, now()) > k.window_start then k.limit_usd
      else k.limit_usd - (k.window_spent + f.window_cost) - (k.window_held - f.window_hold)
    end as remaining
  from api_key k
  cross join lateral (
    select coalesce(sum(r.cost), 0) as cost, coalesce(sum(r.hold), 0) as hold,
      coalesce(sum(r.cost) filter (where r.window_start = k.window_start), 0) as window_cost,
      coalesce(sum(r.hold) filter (where r.window_start = k.window_start), 0) as window_hold
    from request r where r.account_id = k.account_id and r.key_id = k.id and r.state = 'finished'
  ) f;
grant select on key_spending to holdfast_management, holdfast_reporter, holdfast_auditor;
