-- What must always hold. A rule is one `union all` of the view; docs/ledger.md has their list.

-- Every invariant of the ledger, one row per breach; empty when healthy. One statement, one snapshot: correct under
-- traffic.
create view violations with (security_invoker = true) as
  with entries as (select account_id, sum(amount) as amount from entry group by account_id),
  open_by_account as (select account_id, sum(hold) as hold from request where state in ('held', 'finished')
    group by account_id),
  open_by_key as (
    select r.key_id, sum(r.hold) as hold, sum(r.hold) filter (where r.window_start = k.window_start) as window_hold
    from request r join api_key k on k.id = r.key_id where r.state in ('held', 'finished') group by r.key_id
  ),
  charged_by_key as (
    select r.key_id, sum(r.cost) as cost, sum(r.cost) filter (where r.window_start = k.window_start) as window_cost
    from request r join api_key k on k.id = r.key_id where r.state = 'charged' group by r.key_id
  ),
  -- Credits under a key that is no payment's own, with the transaction hash in it, however it is written. There are
  -- few: the look-ups below go by index.
  strange_credits as (
    select p.id, p.payment_id, lower(p.payment_id) as name, '0x'
      || substring(lower(p.payment_id) from '[0-9a-f]{64}') as hash
    from payment p
    where not exists (select from known_payment k where k.provider = p.provider and k.payment_id = p.payment_id)
      and not exists (select from deposit d where p.provider = 'crypto' and d.tx_hash = split_part(p.payment_id, '/', 2)
        and p.payment_id = d.chain_id || '/' || d.tx_hash || '/' || d.ordinal)
  ),
  -- The payments that they mean, by the keys that their credits must have.
  meant_payments as (
    select k.payment_id, k.provider, s.id, s.payment_id as key
    from strange_credits s join known_payment k on k.names && array[s.name, s.hash]
    union
    select d.chain_id || '/' || d.tx_hash || '/' || d.ordinal, 'crypto', s.id, s.payment_id
    from strange_credits s join deposit d on d.tx_hash = s.hash
  ),
  credits_of_payments as (
    select m.provider, m.payment_id, count(distinct m.id) + count(distinct p.id) as credits,
      concat_ws(', ', max(p.payment_id), string_agg(distinct m.key, ', ')) as keys
    from meant_payments m left join payment p on (p.provider, p.payment_id) = (m.provider, m.payment_id)
    group by m.provider, m.payment_id
  )
  select 'balance_equals_entries' as rule, a.id::text as subject, a.balance::text as stored,
    coalesce(e.amount, 0)::text as expected
  from account a left join entries e on e.account_id = a.id
  where a.kind = 'customer' and a.balance <> coalesce(e.amount, 0)
  union all
  select 'account_held_equals_open_holds', a.id::text, a.held::text, coalesce(o.hold, 0)::text
  from account a left join open_by_account o on o.account_id = a.id
  where a.kind = 'customer' and a.held <> coalesce(o.hold, 0)
  union all
  select 'key_held_equals_open_holds', k.id::text, k.held::text, coalesce(o.hold, 0)::text
  from api_key k left join open_by_key o on o.key_id = k.id where k.held <> coalesce(o.hold, 0)
  union all
  select 'key_spent_equals_charges', k.id::text, k.spent_total::text, coalesce(c.cost, 0)::text
  from api_key k left join charged_by_key c on c.key_id = k.id where k.spent_total <> coalesce(c.cost, 0)
  union all
  select 'key_window_equals_its_requests', k.id::text, (k.window_held + k.window_spent)::text,
    (coalesce(o.window_hold, 0) + coalesce(c.window_cost, 0))::text
  from api_key k left join open_by_key o on o.key_id = k.id left join charged_by_key c on c.key_id = k.id
  where k.window_held <> coalesce(o.window_hold, 0) or k.window_spent <> coalesce(c.window_cost, 0)
  union all
  select 'charge_has_its_request', p.business_id::text, p.amount::text, r.cost::text
  from posting p left join request r on r.id = p.business_id and r.state = 'charged' and r.account_id = p.debit
  where p.kind = 'charge' and (r.cost is distinct from p.amount
    or p.credit <> (select id from account where kind = 'system' and name = 'revenue'))
  union all
  select 'charged_request_has_its_posting', r.id::text, r.cost::text, p.amount::text
  from request r left join posting p on p.business_id = r.id and p.kind = 'charge'
  where r.state = 'charged' and r.cost > 0 and p.amount is distinct from r.cost
  union all
  select 'unpaid_usage_is_platform_cost', r.id::text, c.list_cost::text, (r.list_cost - r.cost)::text
  from request r left join platform_cost c on c.request_id = r.id
    and c.reason = case when r.state = 'charged' then 'overrun' else r.outcome end
  where r.state in ('charged', 'released') and r.list_cost > r.cost
    and c.list_cost is distinct from r.list_cost - r.cost
  union all
  select 'delivered_is_accounted', r.id::text, r.outcome, null
  from request r join price_version v on v.model_id = r.model_id and v.version = r.price_version
  where r.first_token_ms is not null and r.state <> 'held' and r.list_cost = 0
    -- A price of 0 was meant; any other must show somewhere.
    and exists (select from jsonb_each_text(v.prices -> 'prices') as price (dimension, amount)
      where amount::numeric > 0)
    and not exists (select from platform_cost c where c.request_id = r.id and c.list_cost > 0)
  union all
  select 'free_use_equals_open_requests', coalesce(u.account_id, r.account_id)::text, u.open::text,
    coalesce(r.requests, 0)::text
  from free_use u
    full join (select account_id, count(*) as requests from request where state = 'held' and free group by account_id) r
      using (account_id)
  where coalesce(u.open, 0) <> coalesce(r.requests, 0)
  union all
  select 'adjustment_has_its_posting', x.id::text, x.amount::text,
    (case p.credit when x.account_id then p.amount else -p.amount end)::text
  from adjustment x left join posting p on p.business_id = x.id and p.kind = 'adjustment'
    and x.account_id in (p.debit, p.credit)
  where x.state = 'posted' and x.amount is distinct from case p.credit when x.account_id then p.amount
    else -p.amount end
  union all
  select 'refund_has_its_posting', f.id::text, f.amount::text, p.amount::text
  from request_refund f left join posting p on p.business_id = f.id and p.kind = 'request_refund'
  where f.state = 'posted' and p.amount is distinct from f.amount
  union all
  select 'decided_by_persons', d.kind || ' ' || d.id,
    coalesce(d.requested_by, '') || ', ' || coalesce(d.decided_by, ''), 'persons'
  from hand_decision d
  where d.requested_by is not null and person_of(d.requested_by) is null
    or d.decided_by is not null and person_of(d.decided_by) is null
    or num_nulls(d.requested_by, d.decided_by) = 2
  union all
  select 'approved_by_a_second_person', d.kind || ' ' || d.id, coalesce(d.decided_by, ''),
    'approved, and not by ' || d.requested_by
  from hand_decision d
  where not d.alone and d.requested_by is not null
    and coalesce(same_person(d.requested_by, d.decided_by), d.decided_by is null)
  union all
  select 'unasked_is_approved_by_two', d.kind || ' ' || d.id, a.n::text, '2'
  from hand_decision d cross join lateral (
    select count(distinct person) as n from approval a where a.kind = d.kind and a.subject = d.id
      and person_of(a.actor) = a.person) a
  where d.requested_by is null and a.n < case when d.alone and d.kind in ('reward', 'commission_review') then 1
    else 2 end
  union all
  select 'moved_alone_is_counted', d.kind || ' ' || d.id, m.amount::text, d.amount::text
  from hand_decision d left join hand_money m on m.kind = d.kind and m.subject = d.id
    and m.person = person_of(coalesce(d.requested_by, d.decided_by)) and m.account_id is not distinct from d.account_id
  where d.alone and (m.amount < d.amount or m.amount is null)
  union all
  select 'moved_alone_within_limits', s.kind || ' ' || s.subject,
    array[s.amount, s.person_day, s.person_month, s.account_day, s.account_month]::text, s.limits::text
  from (
    select *,
      sum(amount) over (partition by person order by moved_at
        range between interval '1 day' preceding and current row) as person_day,
      sum(amount) over (partition by person order by moved_at
        range between interval '30 days' preceding and current row) as person_month,
      sum(amount) over (partition by account_id order by moved_at
        range between interval '1 day' preceding and current row) as account_day,
      sum(amount) over (partition by account_id order by moved_at
        range between interval '30 days' preceding and current row) as account_month
    from (
      select kind, subject, person, account_id, amount, moved_at, limits from hand_money
      union all
      -- Of a person when the batch is issued, of an account when it redeems one.
      select m.kind || ' voucher', v.id, null, v.redeemed_by, b.amount, v.redeemed_at, m.limits
      from voucher v join voucher_batch b on b.id = v.batch_id and b.decided_by is null
        join hand_money m on m.kind = 'voucher_batch' and m.subject = b.id
      where v.redeemed_at is not null
    ) moved
  ) s
  where s.amount > (s.limits ->> 'movement')::numeric
    or s.person is not null and (s.person_day > (s.limits ->> 'person_day')::numeric
      or s.person_month > (s.limits ->> 'person_month')::numeric)
    or s.account_id is not null and (s.account_day > (s.limits ->> 'account_day')::numeric
      or s.account_month > (s.limits ->> 'account_month')::numeric)
  union all
  select 'changed_by_two_persons', c.kind || ' ' || c.id, c.decided_by, 'not ' || c.requested_by
  from change_request c where c.state = 'applied' and same_person(c.requested_by, c.decided_by) is distinct from false
  union all
  select 'rule_that_pays_more_has_two_persons', 'version ' || r.version,
    r.created_by || coalesce(', ' || r.approved_by, ''), 'two persons'
  from commission_rule r join commission_rule before on before.version = r.version - 1
  where pays_more(r, before) and same_person(r.created_by, r.approved_by) is distinct from false
  union all
  select 'refunds_within_cost', r.id::text, f.amount::text, r.cost::text
  from refunded f join request r on r.id = f.request_id where f.amount > r.cost
  union all
  select 'debt_has_a_reversal', a.id::text, a.balance::text, '0'
  from account a where a.kind = 'customer' and a.balance < a.held
    and not exists (select 1 from posting p where p.debit = a.id
      and (p.kind like '%reversal%' or p.kind = 'commission'))
  union all
  select 'usage_hours_equal_requests', coalesce(u.account_id, r.account_id)::text, u.cost::text, r.cost::text
  from (select account_id, sum(cost) as cost, sum(requests) as requests from usage_hour group by 1) u
  full join (select account_id, sum(cost) as cost, count(*) as requests from request
    where state in ('charged', 'released') and outcome <> 'refused' group by 1) r using (account_id)
  where u.cost is distinct from r.cost or u.requests is distinct from r.requests
  union all
  select 'hold_is_not_stale', id::text, expires_at::text, now()::text
  from request where state = 'held' and expires_at < now() - interval '1 hour'
  union all
  select 'settlement_is_not_stuck', id::text, finished_at::text, now()::text
  from request where state = 'finished' and settle_error is null and finished_at < now() - interval '1 hour'
  union all
  select 'payment_has_its_posting', t.id::text, t.credited::text, p.amount::text
  from payment t left join posting p on p.business_id = t.id and p.kind = 'top_up' and p.credit = t.account_id
  where p.amount is distinct from t.credited
  union all
  select 'top_up_has_its_payment', p.business_id::text, p.amount::text, null
  from posting p where p.kind = 'top_up' and not exists (select from payment t where t.id = p.business_id)
  union all
  select 'top_up_equals_its_payments', t.id::text, t.credited::text, coalesce(p.credited, 0)::text
  from top_up t left join (select top_up_id, sum(credited) as credited from payment group by 1) p on p.top_up_id = t.id
  where t.credited <> coalesce(p.credited, 0)
  union all
  select 'payment_equals_its_reversals', t.id::text, t.reversed::text, coalesce(r.amount, 0)::text
  from payment t left join (select payment, sum(case direction when 'out' then amount else -amount end) as amount
    from payment_reversal group by 1) r on r.payment = t.id
  where t.reversed <> coalesce(r.amount, 0)
  union all
  select 'reversal_has_its_posting', r.id::text, r.amount::text, p.amount::text
  from payment_reversal r left join posting p on p.business_id = r.id
    and p.kind = case r.direction when 'out' then 'top_up_reversal' else 'top_up_reversal_undone' end
  where r.amount > 0 and p.amount is distinct from r.amount
  union all
  select 'crypto_payment_has_its_deposit', p.id::text, p.received::text, d.amount::text
  from payment p left join (deposit d join deposit_address a on a.address = d.address)
    on p.payment_id = d.chain_id || '/' || d.tx_hash || '/' || d.ordinal and a.top_up_id = p.top_up_id
  where p.provider = 'crypto' and p.credited_by = 'provider' and d.amount is distinct from p.received
  union all
  select 'own_transfer_is_not_credited', p.id::text, p.credited::text, '0'
  from payment p join deposit d on p.payment_id = d.chain_id || '/' || d.tx_hash || '/' || d.ordinal
  where p.provider = 'crypto' and p.credited_by = 'provider' and exists (select from deposit_address o
    where o.address = d.sender)
  union all
  select 'lost_deposit_is_taken_back', d.id::text, d.undone_at::text, null
  from deposit d join payment p on p.provider = 'crypto' and p.payment_id = d.chain_id || '/' || d.tx_hash || '/'
    || d.ordinal
  where d.state = 'undone' and d.losses > 0 and d.undone_at < now() - interval '1 hour'
    and not exists (select from payment_reversal r
    where r.provider = 'crypto' and r.object_id = p.payment_id || '#' || d.losses and r.direction = 'out')
  union all
  select 'voucher_has_its_posting', v.id::text, b.amount::text, p.amount::text
  from voucher v join voucher_batch b on b.id = v.batch_id left join posting p on p.business_id = v.id
    and p.kind = 'voucher'
    and p.credit = v.redeemed_by and p.debit = (select id from account where kind = 'system' and name = 'promo:voucher')
  where v.redeemed_at is not null and p.amount is distinct from b.amount
  union all
  select 'voucher_posting_has_its_voucher', p.business_id::text, p.amount::text, null
  from posting p where p.kind = 'voucher' and not exists (select from voucher v
    where v.id = p.business_id and v.redeemed_at is not null)
  union all
  select 'voucher_batch_is_whole', b.id::text, b.count::text,
    (select count(*) from voucher v where v.batch_id = b.id)::text
  from voucher_batch b where b.count <> (select count(*) from voucher v where v.batch_id = b.id)
  union all
  select 'payment_has_its_accrual', p.id::text, p.credited::text, null
  from payment p join referral r on r.account_id = p.account_id
  where not exists (select from commission_accrual a where a.payment_id = p.id and a.kind = 'earned')
  union all
  select 'accruals_follow_their_payment', p.id::text, a.amount::text,
    (commission_on(p.credited, a.rate_ppm) - commission_lost(p.credited, a.rate_ppm, p.reversed))::text
  from payment p join (select payment_id, min(rate_ppm) as rate_ppm, sum(amount) as amount from commission_accrual
    where kind <> 'correction' group by 1) a on a.payment_id = p.id
  where a.amount is distinct from commission_on(p.credited, a.rate_ppm)
    - commission_lost(p.credited, a.rate_ppm, p.reversed)
  union all
  select 'commission_has_its_posting', i.accrual_id::text, i.amount::text,
    (case a.affiliate_id when p.credit then p.amount else -p.amount end)::text
  from commission_item i join commission_accrual a on a.id = i.accrual_id
    left join posting p on p.business_id = i.accrual_id and p.kind = 'commission'
      and a.affiliate_id in (p.debit, p.credit)
  where a.amount <> i.amount or a.run <> i.run
    or i.amount <> 0 and i.amount is distinct from case a.affiliate_id when p.credit then p.amount else -p.amount end
  union all
  select 'commission_posting_has_its_accrual', p.business_id::text, p.amount::text, null
  from posting p where p.kind = 'commission' and not exists (select from commission_item i
    where i.accrual_id = p.business_id)
  union all
  select 'commission_run_equals_its_accruals', r.period, r.accruals || ', ' || r.total || ', ' || r.posted,
    coalesce(a.n, 0) || ', ' || coalesce(a.total, 0) || ', ' || coalesce(i.n, 0)
  from commission_run r
    left join (select run, count(*) as n, sum(amount) as total from commission_accrual where run is not null
      group by 1) a on a.run = r.period
    left join (select run, count(*) as n from commission_item group by 1) i on i.run = r.period
  where (r.accruals, r.total, r.posted) is distinct from (coalesce(a.n, 0), coalesce(a.total, 0), coalesce(i.n, 0))
  union all
  select 'correction_has_its_accrual', c.id::text, c.amount::text, a.amount::text
  from commission_correction c left join commission_accrual a on a.id = c.id and a.kind = 'correction'
    and a.affiliate_id = c.affiliate_id
  where c.state = 'accrued' and a.amount is distinct from c.amount
  union all
  select 'reward_has_its_posting', r.id::text, r.amount::text, p.amount::text
  from reward r left join posting p on p.business_id = r.id and p.kind = 'reward_' || r.kind and p.credit = r.account_id
    and p.debit = (select id from account where kind = 'system' and name = 'promo:' || r.kind)
  where r.state = 'posted' and p.amount is distinct from r.amount
  union all
  select 'reward_posting_has_its_reward', p.business_id::text, p.amount::text, null
  from posting p where p.kind like 'reward\_%' and not exists (select from reward r
    where r.id = p.business_id and r.state = 'posted')
  union all
  select 'reward_days_equal_rewards', kind || ' ' || day, d.granted::text, r.granted::text
  from (select kind, day, sum(granted) as granted from reward_day
    where account_id = '00000000-0000-0000-0000-000000000000' group by 1, 2) d
    full join (select kind, (earned_at at time zone 'UTC')::date as day, sum(amount) as granted from reward
      where state = 'posted' group by 1, 2) r
      using (kind, day)
  where coalesce(d.granted, 0) <> coalesce(r.granted, 0)
  union all
  select 'reward_days_of_accounts_equal_the_day', kind || ' ' || day,
    sum(granted) filter (where account_id <> '00000000-0000-0000-0000-000000000000')::text,
    sum(granted) filter (where account_id = '00000000-0000-0000-0000-000000000000')::text
  from reward_day group by kind, day
  having sum(case account_id when '00000000-0000-0000-0000-000000000000' then granted else -granted end) <> 0
  union all
  select 'bounty_is_rewarded_with_its_reward', b.id::text, b.amount::text, r.amount::text
  from bounty_report b left join reward r on r.id = b.reward_id and r.kind = 'bounty' and r.account_id = b.account_id
  where (b.state = 'rewarded') <> coalesce(r.state = 'posted', false)
    or b.reward_id is not null and r.amount is distinct from b.amount
  union all
  select 'hand_credit_has_its_payment', h.id::text, h.amount::text, p.credited::text
  from hand_credit h left join payment p on p.id = h.payment
    and (p.provider, p.payment_id, p.top_up_id) = (h.provider, h.payment_id, h.top_up_id)
  where h.state = 'posted' and p.credited is distinct from h.amount
  union all
  select 'payment_by_hand_has_its_credit', p.id::text, p.credited_by, null
  from payment p where p.credited_by <> 'provider' and not exists (select from hand_credit h where h.payment = p.id)
  union all
  -- Under its own key and under another id of it, or under two of these.
  select 'payment_is_credited_once', provider || ' ' || payment_id, keys, payment_id from credits_of_payments
  where credits > 1
  union all
  -- The automatic credit of it would be a second one.
  select 'payment_is_credited_by_its_own_key', provider || ' ' || payment_id, keys, payment_id
  from credits_of_payments where credits = 1
  union all
  select 'auto_attempt_has_its_order', x.top_up_id::text, x.amount::text, t.amount::text
  from auto_top_up_attempt x left join top_up t on t.id = x.top_up_id and t.account_id = x.account_id
    and t.method = 'auto'
  where t.amount is distinct from x.amount or (x.state = 'succeeded' and t.state <> 'credited')
  union all
  -- Each attempt with those of its month before it stays within the cap that held when it began.
  select 'auto_top_ups_within_cap', x.top_up_id::text, x.monthly_cap::text, x.spent::text
  from (select top_up_id, monthly_cap, sum(amount) filter (where state in ('open', 'succeeded'))
    over (partition by account_id, date_trunc('month', slot, 'UTC') order by slot) as spent from auto_top_up_attempt) x
  where x.spent > x.monthly_cap
  union all
  select 'event_is_not_stuck', e.provider || ' ' || e.event_id, e.received_at::text, now()::text
  from provider_event e where e.handled_at is null and e.received_at < now() - interval '1 hour'
  union all
  select 'partitions_are_ahead', parent, null, 'a partition for next month'
  from unnest(array['request', 'posting']) parent
  where to_regclass(format('holdfast.%s_%s', parent, to_char((now() + interval '1 month') at time zone 'UTC',
    'YYYY_MM'))) is null;
grant select on violations to holdfast_management, holdfast_reporter, holdfast_auditor;
