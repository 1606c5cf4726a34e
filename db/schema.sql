-- The schema of a fresh database, written by `npm run db:dump`; nothing reads it but people and test/db/schema/schema.test.ts.
-- Tables are made by db/migrations, functions and views by db/functions: their bodies are there.

create domain account_kind as text
  constraint kind_known check (value = any (array['customer'::text, 'system'::text]));

create domain account_name as text
  constraint name_length check (char_length(value) >= 1 and char_length(value) <= 200);

create domain chain_address as text
  constraint address_is_lower_case check (value ~ '^0x[0-9a-f]{40}$'::text);

create domain chain_hash as text
  constraint hash_is_lower_case check (value ~ '^0x[0-9a-f]{64}$'::text);

create domain discord_id as text
  constraint discord_id_is_digits check (value ~ '^[0-9]{1,20}$'::text);

create domain email_address as text
  constraint email_length check (char_length(value) >= 3 and char_length(value) <= 320);

create domain freeze_kind as text
  constraint freeze_kind_known check (value = any (array['support'::text, 'operator'::text, 'fraud'::text]));

create domain key_name as text
  constraint key_name_length check (char_length(value) >= 1 and char_length(value) <= 100);

create domain limit_period as text
  constraint limit_reset_known check (value = any (array['none'::text, 'daily'::text, 'weekly'::text, 'monthly'::text]));

create domain rate_ppm as integer
  constraint rate_within_the_whole check (value >= 0 and value <= 1000000);

create domain request_outcome as text
  constraint outcome_known check (value = any (array['completed'::text, 'client_disconnected'::text, 'cut_by_limit'::text, 'cut_by_time'::text, 'upstream_error'::text, 'upstream_timeout'::text, 'empty_completion'::text, 'orphaned'::text, 'refused'::text]));

create domain request_state as text
  constraint state_known check (value = any (array['held'::text, 'finished'::text, 'charged'::text, 'released'::text]));

create domain sha256 as bytea
  constraint hash_is_sha256 check (octet_length(value) = 32);

create domain token_count as bigint
  constraint token_count_not_negative check (value >= 0);

create domain top_up_state as text
  constraint top_up_state_known check (value = any (array['created'::text, 'waiting'::text, 'processing'::text, 'credited'::text, 'expired'::text, 'failed'::text, 'quarantined'::text, 'abandoned'::text]));

create domain usd as numeric
  constraint usd_scale_and_bound check (scale(value) <= 12 and value > '-100000000000000000000'::numeric and value < '100000000000000000000'::numeric);

create domain usd_not_negative as usd
  constraint amount_not_negative check (value::numeric >= 0::numeric);

create type commission_line as (
  n integer,
  accrual_id uuid,
  kind text,
  affiliate_id uuid,
  account_id uuid,
  payment_id uuid,
  top_up_id uuid,
  base numeric,
  rate_ppm integer,
  rule_version integer,
  reversed_from numeric,
  reversed_to numeric,
  amount numeric,
  accrued_at timestamp with time zone,
  matures_at timestamp with time zone,
  payment_credited numeric,
  listed_amount numeric,
  posted_amount numeric
);

create table access_token (
  id uuid default uuidv7() not null,
  hash bytea not null,
  role text not null,
  account_id uuid,
  name text not null,
  created_at timestamp with time zone default now() not null,
  created_by uuid,
  person text,
  scopes text[],
  expires_at timestamp with time zone,
  revoked_at timestamp with time zone,
  constraint access_token_account_id_fkey foreign key (account_id) references account(id),
  constraint access_token_created_by_fkey foreign key (created_by) references access_token(id),
  constraint access_token_hash_key unique (hash),
  constraint access_token_pkey primary key (id),
  constraint account_role_has_scopes check ((role = 'account'::text) = (scopes is not null)),
  constraint account_role_names_account check ((role = 'account'::text) = (account_id is not null)),
  constraint role_known check (role = any (array['account'::text, 'operator'::text, 'support'::text, 'finance'::text, 'auditor'::text])),
  constraint scopes_known check (scopes <@ array['read'::text, 'keys'::text, 'money'::text] and cardinality(scopes) > 0),
  constraint staff_token_has_person check ((role = 'account'::text) = (person is null)),
  constraint token_hash_is_sha256 check (octet_length(hash) = 32)
);
create index access_token_account on access_token using btree (account_id, id desc) where account_id is not null;
create index access_token_maker on access_token using btree (created_by) where created_by is not null;
create index access_token_person on access_token using btree (person) where person is not null;
create trigger token_created after insert on access_token for each statement execute function notify_change('token_created');
create trigger token_person before insert or update of created_by, person on access_token for each row execute function set_token_person();
grant select on access_token to holdfast_auditor, holdfast_management, holdfast_reporter;

create table account (
  id uuid default uuidv7() not null,
  kind account_kind not null,
  name account_name not null,
  balance usd default 0 not null,
  held usd_not_negative default 0 not null,
  created_at timestamp with time zone default now() not null,
  frozen_at timestamp with time zone,
  frozen_reason text,
  frozen_kind freeze_kind,
  low_balance_usd usd_not_negative default 1 not null,
  low_balance_noticed_at timestamp with time zone,
  email email_address,
  constraint account_pkey primary key (id),
  constraint account_sound check (account_is_sound(kind::text, balance::numeric, held::numeric, frozen_at, frozen_reason))
) with (fillfactor=50, autovacuum_vacuum_scale_factor=0.01);
create unique index account_email on account using btree (lower(email::text)) where email is not null;
create unique index account_system_name on account using btree (name) where kind::text = 'system'::text;
create trigger account_changed after update of frozen_at on account for each row execute function notify_change('account');
grant select on account to holdfast_auditor, holdfast_management, holdfast_reporter;
grant insert (email, id, kind, low_balance_usd, name) on account to holdfast_management;
grant update (email, low_balance_noticed_at, low_balance_usd, name) on account to holdfast_management;

create table account_mark (
  account_id uuid not null,
  kind text not null,
  value text not null,
  seen_at timestamp with time zone default now() not null,
  constraint account_mark_account_id_fkey foreign key (account_id) references account(id),
  constraint account_mark_kind_fkey foreign key (kind) references referral_signal(kind),
  constraint account_mark_pkey primary key (account_id, kind, value),
  constraint mark_value_length check (char_length(value) >= 1 and char_length(value) <= 500)
);
create index account_mark_value on account_mark using btree (kind, value);
grant select on account_mark to holdfast_auditor, holdfast_management, holdfast_reporter;

create table adjustment (
  id uuid default uuidv7() not null,
  account_id uuid not null,
  amount usd not null,
  reason text not null,
  state text not null,
  requested_by text not null,
  requested_at timestamp with time zone default now() not null,
  decided_by text,
  decided_at timestamp with time zone,
  posting_id uuid,
  constraint adjustment_account_id_fkey foreign key (account_id) references account(id),
  constraint adjustment_pkey primary key (id),
  constraint adjustment_not_zero check (amount::numeric <> 0::numeric),
  constraint adjustment_posted_iff_posting check ((state = 'posted'::text) = (posting_id is not null)),
  constraint adjustment_reason_length check (char_length(reason) >= 3 and char_length(reason) <= 2000),
  constraint adjustment_second_person check (state <> 'posted'::text or decided_by is null or decided_by <> requested_by),
  constraint adjustment_state_known check (state = any (array['waiting'::text, 'posted'::text, 'rejected'::text]))
);
grant select on adjustment to holdfast_auditor, holdfast_management, holdfast_reporter;

create table affiliate (
  account_id uuid not null,
  code text not null,
  rate_ppm rate_ppm,
  created_at timestamp with time zone default now() not null,
  blocked_at timestamp with time zone,
  blocked_reason text,
  constraint affiliate_account_id_fkey foreign key (account_id) references account(id),
  constraint affiliate_code unique (code),
  constraint affiliate_pkey primary key (account_id),
  constraint blocked_has_reason check ((blocked_at is null) = (blocked_reason is null)),
  constraint code_form check (code ~ '^[0-9a-z]{6,32}$'::text)
);
grant select on affiliate to holdfast_auditor, holdfast_management, holdfast_reporter;
grant insert (account_id, code) on affiliate to holdfast_management;
grant update (blocked_at, blocked_reason) on affiliate to holdfast_management;

create table api_key (
  id uuid default uuidv7() not null,
  account_id uuid not null,
  held usd_not_negative default 0 not null,
  spent_total usd default 0 not null,
  limit_usd usd_not_negative,
  limit_reset limit_period default 'none'::text not null,
  window_start timestamp with time zone default '-infinity'::timestamp with time zone not null,
  window_spent usd default 0 not null,
  window_held usd_not_negative default 0 not null,
  expires_at timestamp with time zone,
  revoked_at timestamp with time zone,
  created_at timestamp with time zone default now() not null,
  hash sha256 not null,
  prefix text not null,
  name key_name not null,
  models text[],
  ip_allowlist cidr[],
  created_by uuid,
  constraint api_key_account_id_fkey foreign key (account_id) references account(id),
  constraint api_key_pkey primary key (id),
  constraint key_hash_unique unique (hash)
) with (fillfactor=50, autovacuum_vacuum_scale_factor=0.01);
create index api_key_account on api_key using btree (account_id, id);
create index api_key_prefix on api_key using btree (prefix text_pattern_ops);
create trigger key_changed after update of revoked_at, expires_at, models, ip_allowlist, limit_usd, limit_reset on api_key for each row execute function notify_change('key');
create trigger key_created after insert on api_key for each statement execute function notify_change('key_created');
create trigger live_maker before insert on api_key for each row when (new.created_by is not null) execute function require_live_maker();
grant select on api_key to holdfast_auditor, holdfast_management, holdfast_reporter;
grant update (expires_at, ip_allowlist, limit_reset, limit_usd, models, name, revoked_at) on api_key to holdfast_management;

create table applied_object (
  kind text not null,
  name text not null,
  definition text not null,
  grants text[] not null,
  constraint applied_object_pkey primary key (kind, name),
  constraint object_kind_known check (kind = any (array['function'::text, 'view'::text, 'trigger'::text]))
);

create table approval (
  kind text not null,
  subject uuid not null,
  person text not null,
  actor text not null,
  given_at timestamp with time zone default clock_timestamp() not null,
  constraint approval_pkey primary key (kind, subject, person)
);
create trigger append_only before delete or update on approval for each row execute function deny_change();
create trigger append_only_truncate before truncate on approval for each statement execute function deny_change();
grant select on approval to holdfast_auditor, holdfast_management, holdfast_reporter;

create table auto_top_up (
  account_id uuid not null,
  state text not null,
  pause_reason text,
  threshold usd_not_negative,
  amount usd_not_negative,
  monthly_cap usd_not_negative,
  strikes integer default 0 not null,
  next_attempt_at timestamp with time zone,
  cap_noticed_at timestamp with time zone,
  frozen_at timestamp with time zone,
  frozen_reason text,
  changed_at timestamp with time zone default now() not null,
  constraint auto_top_up_account_id_fkey foreign key (account_id) references account(id),
  constraint auto_top_up_pkey primary key (account_id),
  constraint auto_frozen_has_reason check ((frozen_at is null) = (frozen_reason is null)),
  constraint auto_state_known check (state = any (array['active'::text, 'paused'::text, 'off'::text])),
  constraint one_charge_within_cap check (amount::numeric > 0::numeric and amount::numeric <= monthly_cap::numeric),
  constraint order_is_complete check (num_nulls(threshold, amount, monthly_cap) = 0 or state = 'off'::text and num_nulls(threshold, amount, monthly_cap) = 3),
  constraint paused_has_reason check ((state = 'paused'::text) = (pause_reason is not null)),
  constraint strikes_not_negative check (strikes >= 0)
);
grant select on auto_top_up to holdfast_auditor, holdfast_management, holdfast_reporter;

create table auto_top_up_attempt (
  account_id uuid not null,
  slot timestamp with time zone not null,
  top_up_id uuid not null,
  amount usd_not_negative not null,
  monthly_cap usd_not_negative not null,
  state text default 'open'::text not null,
  failure text,
  started_at timestamp with time zone default clock_timestamp() not null,
  ended_at timestamp with time zone,
  constraint attempt_once_per_order unique (top_up_id),
  constraint auto_top_up_attempt_account_id_fkey foreign key (account_id) references auto_top_up(account_id),
  constraint auto_top_up_attempt_pkey primary key (account_id, slot),
  constraint auto_top_up_attempt_top_up_id_fkey foreign key (top_up_id) references top_up(id),
  constraint attempt_ended_iff_not_open check ((state = 'open'::text) = (ended_at is null)),
  constraint attempt_state_known check (state = any (array['open'::text, 'succeeded'::text, 'failed'::text, 'abandoned'::text])),
  constraint failed_has_failure check ((state = 'failed'::text) = (failure is not null))
);
create unique index auto_top_up_attempt_open on auto_top_up_attempt using btree (account_id) where state = 'open'::text;
grant select on auto_top_up_attempt to holdfast_auditor, holdfast_management, holdfast_reporter;

create table auto_top_up_consent (
  id uuid default uuidv7() not null,
  account_id uuid not null,
  text_version text not null,
  threshold usd_not_negative not null,
  amount usd_not_negative not null,
  monthly_cap usd_not_negative not null,
  given_by text not null,
  given_at timestamp with time zone default now() not null,
  constraint auto_top_up_consent_account_id_fkey foreign key (account_id) references account(id),
  constraint auto_top_up_consent_pkey primary key (id)
);
create index auto_top_up_consent_account on auto_top_up_consent using btree (account_id, id desc);
create trigger append_only before delete or update on auto_top_up_consent for each row execute function deny_change();
create trigger append_only_truncate before truncate on auto_top_up_consent for each statement execute function deny_change();
grant select on auto_top_up_consent to holdfast_auditor, holdfast_management, holdfast_reporter;

create table auto_top_up_freeze (
  account_id uuid not null,
  cause text not null,
  kind text not null,
  frozen_at timestamp with time zone default now() not null,
  freed_at timestamp with time zone,
  freed_by text,
  constraint auto_top_up_freeze_account_id_fkey foreign key (account_id) references account(id),
  constraint auto_top_up_freeze_pkey primary key (account_id, cause),
  constraint freed_by_somebody check ((freed_at is null) = (freed_by is null)),
  constraint freeze_cause_known check (kind = any (array['dispute'::text, 'refund'::text, 'fraud_warning'::text]))
);
grant select on auto_top_up_freeze to holdfast_auditor, holdfast_management, holdfast_reporter;

create table block_rescan (
  id uuid default uuidv7() not null,
  chain_id bigint not null,
  top_up_id uuid,
  from_block bigint,
  to_block bigint,
  next_block bigint,
  found integer default 0 not null,
  requested_by text not null,
  requested_at timestamp with time zone default clock_timestamp() not null,
  done_at timestamp with time zone,
  fault text,
  constraint block_rescan_pkey primary key (id),
  constraint block_rescan_top_up_id_fkey foreign key (top_up_id) references top_up(id),
  constraint done_has_range check (done_at is null or to_block is not null),
  constraint range_in_order check (from_block >= 0 and from_block <= (to_block + 1)),
  constraint range_or_order check ((from_block is null) = (to_block is null) and (from_block is not null or top_up_id is not null))
);
create index block_rescan_of_chain on block_rescan using btree (chain_id, id);
create index block_rescan_open on block_rescan using btree (chain_id) where done_at is null;
create unique index block_rescan_order_once on block_rescan using btree (chain_id, top_up_id) where done_at is null and top_up_id is not null;
create unique index block_rescan_range_once on block_rescan using btree (chain_id, from_block, to_block) where done_at is null and top_up_id is null;
grant select on block_rescan to holdfast_auditor, holdfast_management, holdfast_reporter;

create table boost (
  id uuid default uuidv7() not null,
  discord_user_id discord_id not null,
  message_id discord_id,
  n integer,
  premium_since timestamp with time zone,
  boosted_at timestamp with time zone not null,
  reward_id uuid not null,
  constraint boost_message_once unique (message_id, n),
  constraint boost_pkey primary key (id),
  constraint boost_premium_once unique (discord_user_id, premium_since),
  constraint boost_reward_id_fkey foreign key (reward_id) references reward(id),
  constraint boost_has_source check ((num_nulls(message_id, n) = any (array[0, 2])) and num_nonnulls(message_id, premium_since) > 0)
);
create index boost_user on boost using btree (discord_user_id, boosted_at);
grant select on boost to holdfast_auditor, holdfast_management, holdfast_reporter;

create table bounty_report (
  id uuid not null,
  account_id uuid not null,
  title text not null,
  description text not null,
  state text default 'submitted'::text not null,
  severity text,
  amount usd_not_negative,
  reason text,
  duplicate_of uuid,
  reported_by text not null,
  reported_at timestamp with time zone not null,
  triaged_by text,
  severity_by text,
  decided_by text,
  decided_at timestamp with time zone,
  reward_id uuid,
  constraint bounty_report_account_id_fkey foreign key (account_id) references account(id),
  constraint bounty_report_duplicate_of_fkey foreign key (duplicate_of) references bounty_report(id),
  constraint bounty_report_pkey primary key (id),
  constraint bounty_report_reward_id_fkey foreign key (reward_id) references reward(id),
  constraint bounty_accepted_has_severity check ((state <> all (array['accepted'::text, 'rewarded'::text])) or num_nulls(severity, amount, severity_by, reward_id) = 0),
  constraint bounty_at_most_50 check (amount::numeric <= 50::numeric),
  constraint bounty_closed_has_reason check ((state <> all (array['duplicate'::text, 'rejected'::text])) or reason is not null),
  constraint bounty_not_its_own_duplicate check (duplicate_of <> id),
  constraint bounty_severity_known check (severity = any (array['critical'::text, 'high'::text, 'medium'::text, 'low'::text])),
  constraint bounty_state_known check (state = any (array['submitted'::text, 'triaged'::text, 'accepted'::text, 'rewarded'::text, 'duplicate'::text, 'rejected'::text])),
  constraint bounty_text_length check (char_length(title) >= 3 and char_length(title) <= 200 and char_length(description) >= 3 and char_length(description) <= 10000)
);
create index bounty_report_open on bounty_report using btree (id) where state = any (array['submitted'::text, 'triaged'::text, 'accepted'::text]);
grant select on bounty_report to holdfast_auditor, holdfast_management, holdfast_reporter;

create table chain_checkpoint (
  chain_id bigint not null,
  vendor text not null,
  height bigint not null,
  hash chain_hash not null,
  constraint chain_checkpoint_pkey primary key (chain_id, vendor, height)
);
grant select on chain_checkpoint to holdfast_auditor, holdfast_management, holdfast_reporter;

create table chain_cursor (
  chain_id bigint not null,
  vendor text not null,
  height bigint not null,
  hash chain_hash not null,
  block_time timestamp with time zone not null,
  head bigint not null,
  head_time timestamp with time zone not null,
  safe bigint,
  finalized bigint,
  scanned_at timestamp with time zone default clock_timestamp() not null,
  constraint chain_cursor_pkey primary key (chain_id, vendor),
  constraint never_beyond_head check (height <= head)
);
grant select on chain_cursor to holdfast_auditor, holdfast_management, holdfast_reporter;

create table chain_token (
  chain_id bigint not null,
  token chain_address not null,
  fault text,
  checked_at timestamp with time zone not null,
  constraint chain_token_pkey primary key (chain_id, token)
);
grant select on chain_token to holdfast_auditor, holdfast_management, holdfast_reporter;

create table change_request (
  id uuid default uuidv7() not null,
  kind text not null,
  subject text not null,
  change jsonb not null,
  cause text not null,
  reason text,
  state text default 'waiting'::text not null,
  requested_by text not null,
  requested_at timestamp with time zone default now() not null,
  decided_by text,
  decided_at timestamp with time zone,
  constraint change_request_pkey primary key (id),
  constraint change_decided_iff_not_waiting check (num_nulls(decided_by, decided_at) =
case state
    when 'waiting'::text then 2
    else 0
end),
  constraint change_kind_known check (kind = any (array['affiliate_rate'::text, 'commission_rule'::text, 'price_version'::text, 'model'::text])),
  constraint change_state_known check (state = any (array['waiting'::text, 'applied'::text, 'rejected'::text]))
);
create index change_request_waiting on change_request using btree (id) where state = 'waiting'::text;
grant select on change_request to holdfast_auditor, holdfast_management, holdfast_reporter;

create table commission_accrual (
  id uuid default uuidv7() not null,
  affiliate_id uuid not null,
  kind text not null,
  amount usd not null,
  payment_id uuid,
  account_id uuid,
  base usd_not_negative,
  rate_ppm rate_ppm,
  rule_version integer not null,
  reversed_from usd_not_negative,
  reversed_to usd_not_negative,
  reversal_id uuid,
  accrued_at timestamp with time zone not null,
  matures_at timestamp with time zone,
  run text,
  constraint commission_accrual_account_id_fkey foreign key (account_id) references account(id),
  constraint commission_accrual_affiliate_id_fkey foreign key (affiliate_id) references affiliate(account_id),
  constraint commission_accrual_payment_id_fkey foreign key (payment_id) references payment(id),
  constraint commission_accrual_pkey primary key (id),
  constraint commission_accrual_reversal_id_fkey foreign key (reversal_id) references payment_reversal(id),
  constraint commission_accrual_rule_version_fkey foreign key (rule_version) references commission_rule(version),
  constraint commission_accrual_run_fkey foreign key (run) references commission_run(period),
  constraint accrual_kind_known check (kind = any (array['earned'::text, 'reversed'::text, 'restored'::text, 'correction'::text])),
  constraint correction_iff_no_payment check (num_nulls(payment_id, account_id, base, rate_ppm, reversed_from, reversed_to) =
case kind
    when 'correction'::text then 6
    else 0
end),
  constraint run_takes_matured check (run is null or matures_at is not null),
  constraint sign_by_kind check (
case kind
    when 'earned'::text then amount::numeric >= 0::numeric
    when 'reversed'::text then amount::numeric < 0::numeric
    when 'restored'::text then amount::numeric > 0::numeric
    else amount::numeric <> 0::numeric
end)
);
create index commission_accrual_affiliate on commission_accrual using btree (affiliate_id, id desc);
create index commission_accrual_open on commission_accrual using btree (matures_at) where run is null;
create index commission_accrual_payment on commission_accrual using btree (payment_id) where kind <> 'earned'::text;
create index commission_accrual_run on commission_accrual using btree (run, id) where run is not null;
create unique index commission_earned_once on commission_accrual using btree (payment_id) where kind = 'earned'::text;
create trigger append_only before delete on commission_accrual for each row execute function deny_change();
create trigger append_only_truncate before truncate on commission_accrual for each statement execute function deny_change();
create trigger guarded before update on commission_accrual for each row execute function guard_accrual();
grant select on commission_accrual to holdfast_auditor, holdfast_management, holdfast_reporter;

create table commission_check (
  kind text not null,
  period text not null,
  n integer not null,
  requested_by text not null,
  requested_at timestamp with time zone default now() not null,
  finished_at timestamp with time zone,
  result jsonb,
  manifest text,
  constraint commission_check_pkey primary key (kind, period, n),
  constraint check_finished_iff_result check ((finished_at is null) = (result is null)),
  constraint check_kind_known check (kind = any (array['dry_run'::text, 'replay'::text]))
);
grant select on commission_check to holdfast_auditor, holdfast_management, holdfast_reporter;

create table commission_correction (
  id uuid not null,
  affiliate_id uuid not null,
  amount usd not null,
  reason text not null,
  state text default 'waiting'::text not null,
  requested_by text not null,
  requested_at timestamp with time zone default now() not null,
  decided_by text,
  decided_at timestamp with time zone,
  constraint commission_correction_affiliate_id_fkey foreign key (affiliate_id) references affiliate(account_id),
  constraint commission_correction_pkey primary key (id),
  constraint correction_decided_iff_not_waiting check ((state = 'waiting'::text) = (decided_at is null)),
  constraint correction_not_zero check (amount::numeric <> 0::numeric),
  constraint correction_reason_length check (char_length(reason) >= 3 and char_length(reason) <= 2000),
  constraint correction_second_person check (state <> 'accrued'::text or decided_by is null or decided_by <> requested_by),
  constraint correction_state_known check (state = any (array['waiting'::text, 'accrued'::text, 'rejected'::text]))
);
create index commission_correction_affiliate on commission_correction using btree (affiliate_id, id desc);
grant select on commission_correction to holdfast_auditor, holdfast_management, holdfast_reporter;

create table commission_file_part (
  period text not null,
  dry_run integer not null,
  part integer not null,
  content bytea not null,
  constraint commission_file_part_pkey primary key (period, dry_run, part)
);
grant select on commission_file_part to holdfast_auditor, holdfast_management, holdfast_reporter;

create table commission_item (
  run text not null,
  n integer not null,
  accrual_id uuid not null,
  amount usd not null,
  posting_id uuid,
  constraint accrual_in_one_run unique (accrual_id),
  constraint commission_item_accrual_id_fkey foreign key (accrual_id) references commission_accrual(id),
  constraint commission_item_pkey primary key (run, n),
  constraint commission_item_run_fkey foreign key (run) references commission_run(period),
  constraint item_posted_iff_not_zero check ((posting_id is null) = (amount::numeric = 0::numeric))
);
create trigger append_only before delete or update on commission_item for each row execute function deny_change();
create trigger append_only_truncate before truncate on commission_item for each statement execute function deny_change();
grant select on commission_item to holdfast_auditor, holdfast_management, holdfast_reporter;

create table commission_review (
  id uuid default uuidv7() not null,
  payment_id uuid not null,
  affiliate_id uuid not null,
  account_id uuid not null,
  signals text[] not null,
  state text default 'waiting'::text not null,
  opened_at timestamp with time zone default now() not null,
  decided_by text,
  decided_at timestamp with time zone,
  decision_reason text,
  constraint commission_review_account_id_fkey foreign key (account_id) references account(id),
  constraint commission_review_affiliate_id_fkey foreign key (affiliate_id) references affiliate(account_id),
  constraint commission_review_payment_id_fkey foreign key (payment_id) references payment(id),
  constraint commission_review_pkey primary key (id),
  constraint review_once unique (payment_id),
  constraint review_decided_iff_not_waiting check (num_nulls(decided_by, decided_at, decision_reason) =
case state
    when 'waiting'::text then 3
    else 0
end),
  constraint review_state_known check (state = any (array['waiting'::text, 'approved'::text, 'denied'::text]))
);
create index commission_review_pair on commission_review using btree (affiliate_id, account_id);
create index commission_review_waiting on commission_review using btree (id) where state = 'waiting'::text;
grant select on commission_review to holdfast_auditor, holdfast_management, holdfast_reporter;

create table commission_rule (
  version integer not null,
  valid_from timestamp with time zone not null,
  rate_ppm rate_ppm not null,
  hold_days integer not null,
  final_hold_days integer not null,
  dispute_days integer not null,
  created_by text not null,
  reason text not null,
  approved_by text,
  constraint commission_rule_pkey primary key (version),
  constraint rule_days_within_bounds check (least(hold_days, final_hold_days, dispute_days) >= 0 and greatest(hold_days, final_hold_days, dispute_days) <= 3650)
);
create trigger append_only before delete or update on commission_rule for each row execute function deny_change();
create trigger append_only_truncate before truncate on commission_rule for each statement execute function deny_change();
grant select on commission_rule to holdfast_auditor, holdfast_management, holdfast_reporter;

create table commission_run (
  period text not null,
  ends_at timestamp with time zone not null,
  state text default 'posting'::text not null,
  begun_by text not null,
  began_at timestamp with time zone not null,
  accruals integer default 0 not null,
  total usd default 0 not null,
  posted integer default 0 not null,
  posted_through uuid default '00000000-0000-0000-0000-000000000000'::uuid not null,
  finished_at timestamp with time zone,
  csv_sha256 text,
  manifest text,
  constraint commission_run_pkey primary key (period),
  constraint done_iff_finished check (num_nulls(finished_at, csv_sha256, manifest) =
case state
    when 'done'::text then 0
    else 3
end),
  constraint period_form check (period ~ '^20[0-9]{2}-(0[1-9]|1[0-2])$'::text),
  constraint posting_has_some_left check (
case state
    when 'posting'::text then posted <= accruals
    else posted = accruals
end),
  constraint run_state_known check (state = any (array['posting'::text, 'posted'::text, 'done'::text]))
);
grant select on commission_run to holdfast_auditor, holdfast_management, holdfast_reporter;

create table commission_run_order (
  period text not null,
  ordered_by text not null,
  ordered_at timestamp with time zone default now() not null,
  constraint commission_run_order_pkey primary key (period)
);
grant select on commission_run_order to holdfast_auditor, holdfast_management, holdfast_reporter;

create table compared_payment (
  provider text not null,
  payment_id text not null,
  run timestamp with time zone not null,
  page integer not null,
  asked boolean not null,
  constraint compared_payment_pkey primary key (provider, payment_id)
);
grant select on compared_payment to holdfast_auditor, holdfast_management, holdfast_reporter;

create table database_reachability (
  only_row boolean default true not null,
  since timestamp with time zone default clock_timestamp() not null,
  seen_at timestamp with time zone default clock_timestamp() not null,
  constraint database_reachability_pkey primary key (only_row),
  constraint database_reachability_only_row_check check (only_row)
);
grant select on database_reachability to holdfast_auditor, holdfast_management, holdfast_reporter;

create table deposit (
  id uuid default uuidv7() not null,
  chain_id bigint not null,
  tx_hash chain_hash not null,
  ordinal integer not null,
  sender chain_address not null,
  address chain_address not null,
  token chain_address not null,
  symbol text not null,
  units numeric(78,0) not null,
  amount usd_not_negative not null,
  state text default 'seen'::text not null,
  height bigint not null,
  block_hash chain_hash not null,
  block_time timestamp with time zone not null,
  counted boolean default false not null,
  losses integer default 0 not null,
  recheck boolean default false not null,
  disputed_since timestamp with time zone,
  told text,
  has_news boolean generated always as ((told is distinct from state)) stored,
  seen_at timestamp with time zone default clock_timestamp() not null,
  spendable_at timestamp with time zone,
  final_at timestamp with time zone,
  undone_at timestamp with time zone,
  constraint deposit_address_fkey foreign key (address) references deposit_address(address),
  constraint deposit_pkey primary key (id),
  constraint transfer_once unique (chain_id, tx_hash, ordinal),
  constraint counted_when_spendable check ((state <> all (array['spendable'::text, 'final'::text])) or counted),
  constraint deposit_state_known check (state = any (array['seen'::text, 'spendable'::text, 'final'::text, 'undone'::text])),
  constraint final_at_iff_final check ((state = 'final'::text) = (final_at is not null)),
  constraint losses_not_negative check (losses >= 0),
  constraint not_counted_when_undone check (state <> 'undone'::text or not counted),
  constraint ordinal_not_negative check (ordinal >= 0),
  constraint spendable_at_iff_spendable check ((state = any (array['spendable'::text, 'final'::text])) = (spendable_at is not null)),
  constraint undone_at_iff_undone check ((state = 'undone'::text) = (undone_at is not null)),
  constraint units_above_zero check (units > 0::numeric)
);
create index deposit_address_of on deposit using btree (address);
create index deposit_height on deposit using btree (chain_id, height);
create index deposit_open on deposit using btree (chain_id) where state = any (array['seen'::text, 'spendable'::text]);
create index deposit_recheck on deposit using btree (chain_id) where recheck;
create index deposit_time on deposit using btree (block_time);
create index deposit_tx on deposit using btree (tx_hash);
create index deposit_undone on deposit using btree (chain_id, undone_at) where undone_at is not null;
create index deposit_untold on deposit using btree (chain_id) where has_news;
create trigger marks_account after insert or update of counted on deposit for each row when (new.counted and new.sender::text <> '0x0000000000000000000000000000000000000000'::text) execute function mark_funding();
grant select on deposit to holdfast_auditor, holdfast_management, holdfast_reporter;

create table deposit_address (
  "position" integer not null,
  path text not null,
  wallet text not null,
  address chain_address not null,
  top_up_id uuid not null,
  created_at timestamp with time zone default now() not null,
  constraint deposit_address_address_key unique (address),
  constraint deposit_address_pkey primary key ("position"),
  constraint deposit_address_top_up_id_fkey foreign key (top_up_id) references top_up(id),
  constraint deposit_address_top_up_id_key unique (top_up_id),
  constraint path_once unique (wallet, path),
  constraint path_is_two_indexes check (path ~ '^[0-9]{1,10}/[0-9]{1,10}$'::text),
  constraint position_above_zero check ("position" > 0)
);
create trigger append_only before delete or update on deposit_address for each row execute function deny_change();
create trigger append_only_truncate before truncate on deposit_address for each statement execute function deny_change();
grant select on deposit_address to holdfast_auditor, holdfast_management, holdfast_reporter;

create table discord_link (
  id uuid default uuidv7() not null,
  discord_user_id discord_id not null,
  account_id uuid not null,
  username text not null,
  linked_at timestamp with time zone not null,
  unlinked_at timestamp with time zone,
  stale_at timestamp with time zone,
  constraint discord_link_account_id_fkey foreign key (account_id) references account(id),
  constraint discord_link_pkey primary key (id),
  constraint unlinked_after_linked check (unlinked_at >= linked_at)
);
create unique index discord_link_account on discord_link using btree (account_id) where unlinked_at is null;
create unique index discord_link_user on discord_link using btree (discord_user_id) where unlinked_at is null;
create trigger marks_account after insert on discord_link for each row execute function mark_account('discord_user', 'discord_user_id');
grant select on discord_link to holdfast_auditor, holdfast_management, holdfast_reporter;

create table discord_state (
  hash sha256 not null,
  browser_hash sha256 not null,
  account_id uuid not null,
  token_id uuid not null,
  expires_at timestamp with time zone not null,
  used_at timestamp with time zone,
  discord_user_id discord_id,
  username text,
  constraint discord_state_account_id_fkey foreign key (account_id) references account(id),
  constraint discord_state_pkey primary key (hash),
  constraint state_proven_after_use check ((num_nulls(discord_user_id, username) = any (array[0, 2])) and (discord_user_id is null or used_at is not null))
);
create index discord_state_account on discord_state using btree (account_id, expires_at);
create index discord_state_expiry on discord_state using btree (expires_at);
grant select on discord_state to holdfast_auditor, holdfast_management, holdfast_reporter;

create table free_use (
  account_id uuid not null,
  open integer default 0 not null,
  minute timestamp with time zone default '-infinity'::timestamp with time zone not null,
  minute_requests integer default 0 not null,
  day timestamp with time zone default '-infinity'::timestamp with time zone not null,
  day_tokens token_count default 0 not null,
  constraint free_use_account_id_fkey foreign key (account_id) references account(id),
  constraint free_use_pkey primary key (account_id)
) with (fillfactor=50, autovacuum_vacuum_scale_factor=0.01);
grant select on free_use to holdfast_auditor, holdfast_management, holdfast_reporter;

create table gateway_instance (
  id uuid not null,
  started_at timestamp with time zone default clock_timestamp() not null,
  heartbeat_at timestamp with time zone default clock_timestamp() not null,
  stopped_at timestamp with time zone,
  description text not null,
  constraint gateway_instance_pkey primary key (id)
) with (fillfactor=50);
grant select on gateway_instance to holdfast_auditor, holdfast_management, holdfast_reporter;

create table hand_credit (
  id uuid default uuidv7() not null,
  action text not null,
  top_up_id uuid not null,
  account_id uuid not null,
  provider text not null,
  payment_id text not null,
  amount usd_not_negative not null,
  reason text not null,
  state text default 'waiting'::text not null,
  is_known boolean not null,
  shown numeric(38,12),
  shown_currency text,
  requested_by text,
  requested_at timestamp with time zone default now() not null,
  decided_by text,
  decided_at timestamp with time zone,
  payment uuid,
  constraint hand_credit_account_id_fkey foreign key (account_id) references account(id),
  constraint hand_credit_action_once unique (action),
  constraint hand_credit_payment_fkey foreign key (payment) references payment(id),
  constraint hand_credit_pkey primary key (id),
  constraint hand_credit_top_up_id_fkey foreign key (top_up_id) references top_up(id),
  constraint hand_credit_above_zero check (amount::numeric > 0::numeric),
  constraint hand_credit_decided_iff_not_waiting check ((state = 'waiting'::text) = (decided_at is null)),
  constraint hand_credit_payment_id_length check (char_length(payment_id) >= 1 and char_length(payment_id) <= 200),
  constraint hand_credit_posted_iff_payment check ((state = 'posted'::text) = (payment is not null)),
  constraint hand_credit_reason_length check (char_length(reason) >= 3 and char_length(reason) <= 2000),
  constraint hand_credit_second_person check (state <> 'posted'::text or decided_by is null or decided_by <> requested_by),
  constraint hand_credit_shown_unless_outside check (num_nulls(shown, shown_currency) =
case
    when payment_id ~~ 'outside/%'::text then 2
    else 0
end),
  constraint hand_credit_state_known check (state = any (array['waiting'::text, 'posted'::text, 'rejected'::text, 'superseded'::text])),
  constraint hand_credit_unknown_is_decided check (state <> 'posted'::text or is_known and requested_by is not null or decided_by is not null)
);
create unique index hand_credit_open on hand_credit using btree (provider, payment_id) where state = any (array['waiting'::text, 'posted'::text]);
create unique index hand_credit_outside_once on hand_credit using btree (payment_id) where (state = any (array['waiting'::text, 'posted'::text])) and payment_id ~~ 'outside/%'::text;
create index hand_credit_top_up on hand_credit using btree (top_up_id);
grant select on hand_credit to holdfast_auditor, holdfast_management, holdfast_reporter;

create table hand_money (
  kind text not null,
  subject uuid not null,
  person text not null,
  account_id uuid,
  amount usd_not_negative not null,
  moved_at timestamp with time zone not null,
  limits jsonb not null,
  constraint hand_money_account_id_fkey foreign key (account_id) references account(id),
  constraint hand_money_pkey primary key (kind, subject)
);
create index hand_money_account on hand_money using btree (account_id, moved_at) where account_id is not null;
create index hand_money_person on hand_money using btree (person, moved_at);
create trigger append_only before delete or update on hand_money for each row execute function deny_change();
create trigger append_only_truncate before truncate on hand_money for each statement execute function deny_change();
grant select on hand_money to holdfast_auditor, holdfast_management, holdfast_reporter;

create table idempotency_key (
  scope text not null,
  key text not null,
  body_hash bytea not null,
  subject uuid default uuidv7() not null,
  status integer,
  answer jsonb,
  created_at timestamp with time zone default now() not null,
  constraint idempotency_key_pkey primary key (scope, key)
);
grant delete on idempotency_key to holdfast_management;
grant insert on idempotency_key to holdfast_management;
grant select on idempotency_key to holdfast_auditor, holdfast_management, holdfast_reporter;
grant update on idempotency_key to holdfast_management;

create table known_payment (
  provider text not null,
  payment_id text not null,
  top_up_id uuid,
  status text not null,
  received numeric(38,12) not null,
  currency text not null,
  live boolean,
  names text[] not null,
  seen_at timestamp with time zone default clock_timestamp() not null,
  constraint known_payment_pkey primary key (provider, payment_id),
  constraint known_payment_top_up_id_fkey foreign key (top_up_id) references top_up(id),
  constraint known_payment_status_known check (status = any (array['paid'::text, 'processing'::text, 'failed'::text, 'no_payment'::text, 'listed'::text, 'gone'::text]))
);
create index known_payment_names on known_payment using gin (names);
create index known_payment_top_up on known_payment using btree (top_up_id);
grant select on known_payment to holdfast_auditor, holdfast_management, holdfast_reporter;

create table model (
  id text not null,
  dialect text not null,
  context_length integer not null,
  default_output_tokens integer not null,
  request_timeout_seconds numeric default 600 not null,
  upstreams jsonb not null,
  traits jsonb default '{}'::jsonb not null,
  created_at timestamp with time zone default now() not null,
  retired_at timestamp with time zone,
  constraint model_pkey primary key (id),
  constraint dialect_known check (dialect = any (array['openai'::text, 'anthropic'::text])),
  constraint lengths_positive check (context_length > 0 and default_output_tokens > 0 and request_timeout_seconds > 0::numeric),
  constraint model_id_length check (char_length(id) >= 1 and char_length(id) <= 200)
);
create trigger catalogue_changed after insert or update on model for each row execute function notify_change('catalogue');
grant insert on model to holdfast_management;
grant select on model to holdfast_auditor, holdfast_management, holdfast_reporter;
grant update on model to holdfast_management;

create table model_finding (
  model_id text not null,
  upstream text not null,
  finding text not null,
  requests bigint not null,
  first_at timestamp with time zone default clock_timestamp() not null,
  last_at timestamp with time zone default clock_timestamp() not null,
  last_request_id uuid not null,
  constraint model_finding_pkey primary key (model_id, upstream, finding),
  constraint finding_length check (char_length(finding) >= 1 and char_length(finding) <= 40),
  constraint upstream_length check (char_length(upstream) >= 1 and char_length(upstream) <= 300)
);
grant select on model_finding to holdfast_auditor, holdfast_management, holdfast_reporter;

create table notice (
  id uuid default uuidv7() not null,
  account_id uuid not null,
  kind text not null,
  details jsonb not null,
  created_at timestamp with time zone default now() not null,
  read_at timestamp with time zone,
  constraint notice_account_id_fkey foreign key (account_id) references account(id),
  constraint notice_pkey primary key (id)
);
create index notice_account on notice using btree (account_id, id desc);
grant select on notice to holdfast_auditor, holdfast_management, holdfast_reporter;
grant update (read_at) on notice to holdfast_management;

create table open_reversal (
  payment uuid not null,
  object_id text not null,
  seen_at timestamp with time zone default clock_timestamp() not null,
  constraint open_reversal_payment_fkey foreign key (payment) references payment(id),
  constraint open_reversal_pkey primary key (payment, object_id)
);
grant select on open_reversal to holdfast_auditor, holdfast_management, holdfast_reporter;

create table operator_action (
  id uuid default uuidv7() not null,
  at timestamp with time zone default now() not null,
  actor text not null,
  action text not null,
  subject text not null,
  details jsonb not null,
  constraint operator_action_pkey primary key (id)
);
create trigger append_only before delete or update on operator_action for each row execute function deny_change();
create trigger append_only_truncate before truncate on operator_action for each statement execute function deny_change();
grant insert on operator_action to holdfast_management;
grant select on operator_action to holdfast_auditor, holdfast_management, holdfast_reporter;

create table own_transfer (
  chain_id bigint not null,
  tx_hash chain_hash not null,
  ordinal integer not null,
  sender chain_address not null,
  address chain_address not null,
  token chain_address not null,
  symbol text not null,
  units numeric(78,0) not null,
  amount usd_not_negative not null,
  height bigint not null,
  block_hash chain_hash not null,
  block_time timestamp with time zone not null,
  seen_at timestamp with time zone default clock_timestamp() not null,
  constraint own_transfer_address_fkey foreign key (address) references deposit_address(address),
  constraint own_transfer_pkey primary key (chain_id, tx_hash, ordinal)
);
grant select on own_transfer to holdfast_auditor, holdfast_management, holdfast_reporter;

create table payment (
  id uuid default uuidv7() not null,
  provider text not null,
  payment_id text not null,
  top_up_id uuid not null,
  account_id uuid not null,
  received usd_not_negative not null,
  credited usd_not_negative not null,
  reversed usd_not_negative default 0 not null,
  posting_id uuid not null,
  credited_by text not null,
  credited_at timestamp with time zone default now() not null,
  final_at timestamp with time zone,
  warned_at timestamp with time zone,
  constraint payment_account_id_fkey foreign key (account_id) references account(id),
  constraint payment_pkey primary key (id),
  constraint payment_top_up_id_fkey foreign key (top_up_id) references top_up(id),
  constraint provider_payment_once unique (provider, payment_id),
  constraint reversed_within_credited check (reversed::numeric <= credited::numeric)
);
create index payment_credited on payment using btree (provider, credited_at);
create unique index payment_outside_once on payment using btree (payment_id) where payment_id ~~ 'outside/%'::text;
create index payment_top_up on payment using btree (top_up_id);
create trigger accrues_commission after insert on payment for each row execute function commission_follows_payment();
create trigger adjusts_commission after update of reversed, final_at on payment for each row execute function commission_follows_payment();
grant select on payment to holdfast_auditor, holdfast_management, holdfast_reporter;

create table payment_customer (
  account_id uuid not null,
  provider text not null,
  n integer not null,
  customer_id text not null,
  created_at timestamp with time zone default now() not null,
  deleted_at timestamp with time zone,
  constraint payment_customer_account_id_fkey foreign key (account_id) references account(id),
  constraint payment_customer_pkey primary key (account_id, provider, n),
  constraint provider_customer_once unique (provider, customer_id)
);
create unique index payment_customer_current on payment_customer using btree (account_id, provider) where deleted_at is null;
grant select on payment_customer to holdfast_auditor, holdfast_management, holdfast_reporter;

create table payment_reversal (
  id uuid default uuidv7() not null,
  provider text not null,
  object_id text not null,
  direction text not null,
  kind text not null,
  payment uuid not null,
  amount usd_not_negative not null,
  posting_id uuid,
  created_at timestamp with time zone default now() not null,
  constraint payment_reversal_payment_fkey foreign key (payment) references payment(id),
  constraint payment_reversal_pkey primary key (id),
  constraint reversal_once unique (provider, object_id, direction),
  constraint direction_known check (direction = any (array['out'::text, 'in'::text])),
  constraint posted_iff_moved check ((posting_id is null) = (amount::numeric = 0::numeric)),
  constraint reversal_kind_known check (kind = any (array['refund'::text, 'dispute'::text, 'reorg'::text]))
);
create index payment_reversal_payment on payment_reversal using btree (payment);
create trigger append_only before delete or update on payment_reversal for each row execute function deny_change();
create trigger append_only_truncate before truncate on payment_reversal for each statement execute function deny_change();
grant select on payment_reversal to holdfast_auditor, holdfast_management, holdfast_reporter;

create table platform_cost (
  request_id uuid not null,
  reason text not null,
  usage jsonb not null,
  list_cost usd not null,
  estimated boolean default false not null,
  created_at timestamp with time zone default clock_timestamp() not null,
  constraint platform_cost_pkey primary key (request_id, reason),
  constraint list_cost_not_negative check (list_cost::numeric >= 0::numeric)
);
create unique index platform_cost_orphan on platform_cost using btree (request_id) where reason = any (array['late_finish'::text, 'orphan'::text]);
create trigger append_only before delete or update on platform_cost for each row execute function deny_change();
create trigger append_only_truncate before truncate on platform_cost for each statement execute function deny_change();
grant select on platform_cost to holdfast_auditor, holdfast_management, holdfast_reporter;

create table posting (
  id uuid default uuidv7() not null,
  business_id uuid not null,
  kind text not null,
  debit uuid not null,
  credit uuid not null,
  amount usd not null,
  created_at timestamp with time zone default clock_timestamp() not null,
  memo jsonb,
  constraint posting_pkey primary key (business_id, kind),
  constraint amount_positive check (amount::numeric > 0::numeric),
  constraint posting_kind_length check (char_length(kind) >= 1 and char_length(kind) <= 40),
  constraint two_accounts check (debit <> credit)
) partition by range (business_id);
create index posting_credit on only posting using btree (credit, id) where kind <> 'charge'::text;
create index posting_debit on only posting using btree (debit, id);
create index posting_id on only posting using brin (id);
create trigger append_only before delete or update on posting for each row execute function deny_change();
create trigger append_only_truncate before truncate on posting for each statement execute function deny_change();
grant select on posting to holdfast_auditor, holdfast_management, holdfast_reporter;

create table price_version (
  model_id text not null,
  version integer not null,
  valid_from timestamp with time zone not null,
  prices jsonb not null,
  created_at timestamp with time zone default now() not null,
  created_by text not null,
  constraint one_version_per_moment unique (model_id, valid_from),
  constraint price_version_model_id_fkey foreign key (model_id) references model(id),
  constraint price_version_pkey primary key (model_id, version)
);
create trigger append_only before delete or update on price_version for each row execute function deny_change();
create trigger append_only_truncate before truncate on price_version for each statement execute function deny_change();
create trigger catalogue_changed after insert on price_version for each row execute function notify_change('catalogue');
grant select on price_version to holdfast_auditor, holdfast_management, holdfast_reporter;

create table provider_event (
  provider text not null,
  event_id text not null,
  type text not null,
  payload jsonb not null,
  received_at timestamp with time zone default clock_timestamp() not null,
  tried_at timestamp with time zone,
  handled_at timestamp with time zone,
  result text,
  constraint provider_event_pkey primary key (provider, event_id)
);
create index creem_event_request on provider_event using btree (creem_request_id(payload)) where provider = 'creem'::text;
create index creem_event_transaction on provider_event using btree (creem_reversed_transaction(payload)) where provider = 'creem'::text;
create index provider_event_named on provider_event using btree (lower(event_id)) where provider = any (array['stripe'::text, 'creem'::text]);
create index provider_event_open on provider_event using btree (coalesce(tried_at, received_at)) where handled_at is null;
create index provider_event_received on provider_event using btree (provider, received_at);
grant select on provider_event to holdfast_auditor, holdfast_management, holdfast_reporter;

create table reconciled (
  part text not null,
  as_of timestamp with time zone not null,
  constraint reconciled_pkey primary key (part)
);
grant select on reconciled to holdfast_auditor, holdfast_management, holdfast_reporter;

create table referral (
  account_id uuid not null,
  affiliate_id uuid not null,
  code text not null,
  clicked_at timestamp with time zone,
  frozen_at timestamp with time zone default now() not null,
  constraint referral_account_id_fkey foreign key (account_id) references account(id),
  constraint referral_affiliate_id_fkey foreign key (affiliate_id) references affiliate(account_id),
  constraint referral_pkey primary key (account_id),
  constraint nobody_refers_oneself check (account_id <> affiliate_id)
);
create index referral_affiliate on referral using btree (affiliate_id, account_id);
create trigger append_only before delete or update on referral for each row execute function deny_change();
create trigger append_only_truncate before truncate on referral for each statement execute function deny_change();
grant select on referral to holdfast_auditor, holdfast_management, holdfast_reporter;
grant insert (account_id, affiliate_id, clicked_at, code) on referral to holdfast_management;

create table referral_signal (
  kind text not null,
  description text not null,
  constraint referral_signal_pkey primary key (kind)
);
grant select on referral_signal to holdfast_auditor, holdfast_management, holdfast_reporter;

create table request (
  id uuid not null,
  account_id uuid not null,
  key_id uuid not null,
  model_id text not null,
  state request_state default 'held'::text not null,
  outcome request_outcome,
  hold usd_not_negative not null,
  list_cost usd,
  cost usd,
  free boolean default false not null,
  stream boolean default false not null,
  estimated boolean default false not null,
  input_tokens token_count,
  output_tokens token_count,
  cached_input_tokens token_count,
  reasoning_tokens token_count,
  price_version integer,
  latency_ms integer,
  first_token_ms integer,
  created_at timestamp with time zone default clock_timestamp() not null,
  finished_at timestamp with time zone,
  settled_at timestamp with time zone,
  expires_at timestamp with time zone not null,
  window_start timestamp with time zone default '-infinity'::timestamp with time zone not null,
  gateway_id uuid not null,
  client_left_at timestamp with time zone,
  resolver_started_at timestamp with time zone,
  workflow_id text,
  refusal_code text,
  settle_error text,
  asked_units jsonb,
  usage_detail jsonb,
  raw_usage jsonb,
  upstream_name text,
  upstream_kind text,
  upstream_status integer,
  upstream_code text,
  upstream_message text,
  constraint request_pkey primary key (id),
  constraint request_sound check (request_is_sound(state::text, outcome::text, hold::numeric, list_cost::numeric, cost::numeric, free, finished_at, settled_at, refusal_code))
) partition by range (id);
create index request_finished on only request using btree (account_id, finished_at) include (key_id, hold, cost) where state::text = 'finished'::text;
create index request_held on only request using btree (gateway_id, expires_at) where state::text = 'held'::text;
create index request_log on only request using btree (account_id, id desc);
create trigger frozen_once_settled before update on request for each row when (old.settled_at is not null) execute function freeze_settled_request();
create trigger never_deleted before delete on request for each row execute function deny_change();
create trigger never_truncated before truncate on request for each statement execute function deny_change();
grant select on request to holdfast_auditor, holdfast_management, holdfast_reporter;
grant update (settle_error) on request to holdfast_management;

create table request_refund (
  request_id uuid not null,
  n integer not null,
  id uuid default uuidv7() not null,
  account_id uuid not null,
  amount usd not null,
  reason text not null,
  state text default 'waiting'::text not null,
  needs_approval boolean default true not null,
  requested_by text not null,
  requested_at timestamp with time zone default now() not null,
  decided_by text,
  decided_at timestamp with time zone,
  posting_id uuid,
  constraint request_refund_id_key unique (id),
  constraint request_refund_pkey primary key (request_id, n),
  constraint refund_amount_positive check (amount::numeric > 0::numeric),
  constraint refund_decided_iff_not_waiting check ((state = 'waiting'::text) = (decided_at is null)),
  constraint refund_posted_iff_posting check ((state = 'posted'::text) = (posting_id is not null)),
  constraint refund_reason_length check (char_length(reason) >= 3 and char_length(reason) <= 2000),
  constraint refund_state_known check (state = any (array['waiting'::text, 'posted'::text, 'rejected'::text]))
);
grant select on request_refund to holdfast_auditor, holdfast_management, holdfast_reporter;

create table review_case (
  id uuid default uuidv7() not null,
  kind text not null,
  subject text not null,
  evidence jsonb not null,
  opened_at timestamp with time zone default now() not null,
  closed_at timestamp with time zone,
  closed_by text,
  resolution text,
  constraint review_case_pkey primary key (id),
  constraint closed_has_resolution check (num_nulls(closed_at, closed_by, resolution) = any (array[0, 3]))
);
create unique index review_case_open on review_case using btree (kind, subject) where closed_at is null;
grant insert on review_case to holdfast_management;
grant select on review_case to holdfast_auditor, holdfast_management, holdfast_reporter;
grant update on review_case to holdfast_management;

create table reward (
  id uuid default uuidv7() not null,
  kind text not null,
  source_event text not null,
  discord_user_id discord_id,
  account_id uuid,
  amount usd_not_negative not null,
  state text not null,
  reason text,
  earned_at timestamp with time zone not null,
  expires_at timestamp with time zone,
  decided_at timestamp with time zone,
  requested_by text default 'rules'::text not null,
  decided_by text,
  rule_version text not null,
  details jsonb not null,
  posting_id uuid,
  constraint reward_account_id_fkey foreign key (account_id) references account(id),
  constraint reward_once unique (kind, source_event),
  constraint reward_pkey primary key (id),
  constraint claimable_has_expiry check (state <> 'claimable'::text or expires_at is not null and discord_user_id is not null),
  constraint reward_kind_known check (kind = any (array['discord_link'::text, 'vote'::text, 'boost'::text, 'bounty'::text])),
  constraint reward_names_account check ((state = any (array['claimable'::text, 'expired'::text, 'denied'::text])) or account_id is not null),
  constraint reward_posted_iff_posting check ((state = 'posted'::text) = (posting_id is not null)),
  constraint reward_state_known check (state = any (array['claimable'::text, 'waiting'::text, 'posted'::text, 'denied'::text, 'rejected'::text, 'expired'::text])),
  constraint reward_unpaid_has_reason check ((state = any (array['claimable'::text, 'posted'::text])) or reason is not null)
);
create index reward_account on reward using btree (account_id, id desc) where account_id is not null;
create index reward_claims on reward using btree (discord_user_id, kind, earned_at) where state = 'claimable'::text;
create unique index reward_link_account on reward using btree (account_id) where kind = 'discord_link'::text and state <> 'denied'::text;
create unique index reward_link_user on reward using btree (discord_user_id) where kind = 'discord_link'::text and state <> 'denied'::text;
create index reward_waiting on reward using btree (id) where state = 'waiting'::text;
grant select on reward to holdfast_auditor, holdfast_management, holdfast_reporter;

create table reward_day (
  kind text not null,
  day date not null,
  account_id uuid not null,
  granted usd_not_negative not null,
  constraint reward_day_pkey primary key (kind, day, account_id)
) with (fillfactor=70);
grant select on reward_day to holdfast_auditor, holdfast_management, holdfast_reporter;

create table saved_card (
  id uuid default uuidv7() not null,
  account_id uuid not null,
  provider text not null,
  customer_id text not null,
  payment_method text not null,
  brand text not null,
  last4 text not null,
  exp_month integer not null,
  exp_year integer not null,
  fingerprint text,
  saved_at timestamp with time zone default now() not null,
  removed_at timestamp with time zone,
  removed_reason text,
  constraint saved_card_account_id_fkey foreign key (account_id) references account(id),
  constraint saved_card_once unique (provider, payment_method),
  constraint saved_card_pkey primary key (id),
  constraint last4_is_no_card_number check (last4 ~ '^\d{4}$'::text),
  constraint removed_has_reason check ((removed_at is null) = (removed_reason is null))
);
create unique index saved_card_current on saved_card using btree (account_id) where removed_at is null;
create trigger marks_account after insert or update of fingerprint on saved_card for each row when (new.fingerprint is not null) execute function mark_account('card_fingerprint', 'fingerprint');
grant select on saved_card to holdfast_auditor, holdfast_management, holdfast_reporter;

create table top_up (
  id uuid not null,
  account_id uuid not null,
  state top_up_state default 'created'::text not null,
  method text not null,
  provider text not null,
  amount usd_not_negative not null,
  fee usd_not_negative not null,
  currency text not null,
  live boolean not null,
  provider_id text,
  checkout_url text,
  received usd_not_negative default 0 not null,
  received_other jsonb default '{}'::jsonb not null,
  credited usd_not_negative default 0 not null,
  stuck text,
  expires_at timestamp with time zone not null,
  created_at timestamp with time zone default now() not null,
  looked_at timestamp with time zone default clock_timestamp() not null,
  save_card boolean default false not null,
  customer_id text,
  payment_method text,
  abandoned_by text,
  abandon_reason text,
  constraint provider_object_once unique (provider, provider_id),
  constraint top_up_account_id_fkey foreign key (account_id) references account(id),
  constraint top_up_pkey primary key (id),
  constraint amount_above_zero check (amount::numeric > 0::numeric),
  constraint auto_charges_a_card check ((method = 'auto'::text) = (payment_method is not null)),
  constraint credited_iff_credited check ((state::text = 'credited'::text) = (credited::numeric > 0::numeric))
);
create index top_up_account on top_up using btree (account_id, id desc);
create index top_up_open on top_up using btree (looked_at) where state::text = any (array['created'::text, 'waiting'::text, 'processing'::text, 'quarantined'::text]);
create index top_up_open_of_account on top_up using btree (account_id) where state::text = any (array['created'::text, 'waiting'::text, 'processing'::text]);
create index top_up_stuck on top_up using btree (id) where stuck is not null;
grant select on top_up to holdfast_auditor, holdfast_management, holdfast_reporter;

create table usage_hour (
  account_id uuid not null,
  hour timestamp with time zone not null,
  model_id text not null,
  key_id uuid not null,
  requests bigint not null,
  failed bigint not null,
  input_tokens numeric not null,
  output_tokens numeric not null,
  cached_input_tokens numeric not null,
  reasoning_tokens numeric not null,
  cost usd not null,
  constraint usage_hour_pkey primary key (account_id, hour, model_id, key_id)
) with (fillfactor=70);
grant select on usage_hour to holdfast_auditor, holdfast_management, holdfast_reporter;

create table vote (
  id uuid default uuidv7() not null,
  site text not null,
  event_id text not null,
  vote_id text,
  discord_user_id discord_id not null,
  voted_at timestamp with time zone not null,
  arrived_at timestamp with time zone not null,
  weight integer not null,
  outcome text not null,
  reason text,
  cooldown tstzrange,
  reward_id uuid,
  constraint vote_cooldown exclude using gist (site with =, discord_user_id with =, cooldown with &&) where (outcome = 'accepted'::text),
  constraint vote_event_once unique (site, event_id),
  constraint vote_pkey primary key (id),
  constraint vote_reward_id_fkey foreign key (reward_id) references reward(id),
  constraint vote_accepted_is_paid check ((outcome = 'accepted'::text) = (reward_id is not null) and (outcome = 'accepted'::text) = (cooldown is not null)),
  constraint vote_outcome_known check (outcome = any (array['accepted'::text, 'refused'::text, 'repeated'::text, 'test'::text])),
  constraint vote_refused_has_reason check ((outcome = 'refused'::text) = (reason is not null))
);
create unique index vote_id_once on vote using btree (site, vote_id) where vote_id is not null and outcome = 'accepted'::text;
create index vote_user on vote using btree (discord_user_id, voted_at desc);
create trigger append_only before delete or update on vote for each row execute function deny_change();
create trigger append_only_truncate before truncate on vote for each statement execute function deny_change();
grant select on vote to holdfast_auditor, holdfast_management, holdfast_reporter;

create table vote_role (
  discord_user_id discord_id not null,
  site text not null,
  held boolean not null,
  changed_at timestamp with time zone not null,
  constraint vote_role_pkey primary key (discord_user_id, site)
);
grant select on vote_role to holdfast_auditor, holdfast_management, holdfast_reporter;

create table voucher (
  id uuid default uuidv7() not null,
  batch_id uuid not null,
  hash sha256 not null,
  prefix text not null,
  redeemed_by uuid,
  redeemed_at timestamp with time zone,
  posting_id uuid,
  constraint voucher_batch_id_fkey foreign key (batch_id) references voucher_batch(id),
  constraint voucher_hash_unique unique (hash),
  constraint voucher_pkey primary key (id),
  constraint voucher_redeemed_by_fkey foreign key (redeemed_by) references account(id),
  constraint voucher_redeemed_whole check (num_nulls(redeemed_by, redeemed_at, posting_id) = any (array[0, 3]))
);
create index voucher_batch_redeemed on voucher using btree (batch_id) where redeemed_at is not null;
create index voucher_batch_vouchers on voucher using btree (batch_id, id);
create index voucher_redeemed_by on voucher using btree (redeemed_by, redeemed_at) where redeemed_at is not null;
create trigger frozen_once_redeemed before update on voucher for each row when (old.redeemed_at is not null) execute function freeze_redeemed_voucher();
create trigger never_deleted before delete on voucher for each row execute function deny_change();
create trigger never_truncated before truncate on voucher for each statement execute function deny_change();
grant select on voucher to holdfast_auditor, holdfast_management, holdfast_reporter;

create table voucher_attempt (
  account_id uuid not null,
  window_start timestamp with time zone not null,
  attempts integer not null,
  constraint voucher_attempt_account_id_fkey foreign key (account_id) references account(id),
  constraint voucher_attempt_pkey primary key (account_id)
);
grant select on voucher_attempt to holdfast_auditor, holdfast_management, holdfast_reporter;

create table voucher_batch (
  id uuid not null,
  name text not null,
  state text default 'waiting'::text not null,
  count integer not null,
  amount usd not null,
  expires_at timestamp with time zone,
  reason text not null,
  requested_by text not null,
  requested_at timestamp with time zone default now() not null,
  decided_by text,
  decided_at timestamp with time zone,
  voided_by text,
  voided_at timestamp with time zone,
  void_reason text,
  constraint voucher_batch_pkey primary key (id),
  constraint voucher_amount_positive check (amount::numeric > 0::numeric),
  constraint voucher_batch_count_bounds check (count >= 1 and count <= 10000),
  constraint voucher_batch_decided_iff_not_waiting check ((state = 'waiting'::text) = (decided_at is null)),
  constraint voucher_batch_name_length check (char_length(name) >= 1 and char_length(name) <= 200),
  constraint voucher_batch_reason_length check (char_length(reason) >= 3 and char_length(reason) <= 2000),
  constraint voucher_batch_second_person check (state = 'rejected'::text or decided_by is null or decided_by <> requested_by),
  constraint voucher_batch_state_known check (state = any (array['waiting'::text, 'issued'::text, 'rejected'::text, 'void'::text])),
  constraint voucher_batch_void_has_reason check (num_nulls(voided_by, voided_at, void_reason) =
case state
    when 'void'::text then 0
    else 3
end)
);
grant select on voucher_batch to holdfast_auditor, holdfast_management, holdfast_reporter;

create table webhook_count (
  provider text not null,
  kind text not null,
  reason text not null,
  n bigint default 0 not null,
  first_at timestamp with time zone default clock_timestamp() not null,
  last_at timestamp with time zone default clock_timestamp() not null,
  last_detail text,
  constraint webhook_count_pkey primary key (provider, kind, reason),
  constraint webhook_count_is_short check (char_length(provider) <= 60 and char_length(reason) <= 60 and char_length(last_detail) <= 300),
  constraint webhook_count_kind_known check (kind = any (array['refused'::text, 'foreign'::text]))
);
grant select on webhook_count to holdfast_auditor, holdfast_management, holdfast_reporter, holdfast_worker;

-- view account_balance with (security_invoker=true): account_id uuid, balance numeric, held numeric, available numeric
grant select on account_balance to holdfast_auditor, holdfast_management, holdfast_reporter;

-- view deposit_standing with (security_invoker=true): id uuid, chain_id bigint, tx_hash chain_hash, ordinal integer,
--  sender chain_address, address chain_address, token chain_address, symbol text, units numeric(78,0),
--  amount usd_not_negative, state text, height bigint, block_hash chain_hash, block_time timestamp with time zone,
--  counted boolean, losses integer, recheck boolean, disputed_since timestamp with time zone, told text,
--  has_news boolean, seen_at timestamp with time zone, spendable_at timestamp with time zone,
--  final_at timestamp with time zone, undone_at timestamp with time zone, top_up_id uuid, head bigint, token_fault text,
--  credited boolean
grant select on deposit_standing to holdfast_auditor, holdfast_management, holdfast_reporter;

-- view entry with (security_invoker=true): posting_id uuid, kind text, business_id uuid, account_id uuid,
--  amount numeric, created_at timestamp with time zone
grant select on entry to holdfast_auditor, holdfast_management, holdfast_reporter;

-- view hand_decision with (security_invoker=true): kind text, id uuid, account_id uuid, amount numeric,
--  requested_by text, decided_by text, alone boolean
grant select on hand_decision to holdfast_auditor, holdfast_management, holdfast_reporter;

-- view key_spending with (security_invoker=true): key_id uuid, spent_total numeric, window_spent numeric, held numeric,
--  remaining numeric
grant select on key_spending to holdfast_auditor, holdfast_management, holdfast_reporter;

-- view refunded with (security_invoker=true): request_id uuid, amount numeric
grant select on refunded to holdfast_auditor, holdfast_management, holdfast_reporter;

-- view violations with (security_invoker=true): rule text, subject text, stored text, expected text
grant select on violations to holdfast_auditor, holdfast_management, holdfast_reporter;

create function abandon_top_up(p_id uuid, p_reason text, p_by text)
returns boolean
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function abandon_top_up to holdfast_management;

create function accept_bounty(p_id uuid, p_severity text, p_limits jsonb, p_budget usd, p_rules jsonb, p_by text,
  p_at timestamp with time zone)
returns SETOF bounty_report
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function accept_bounty to holdfast_management;

create function account_is_sound(kind text, balance numeric, held numeric, frozen_at timestamp with time zone,
  frozen_reason text)
returns boolean
language plpgsql immutable;
grant execute on function account_is_sound to holdfast_auditor, holdfast_management, holdfast_reporter;

create function accounts_to_notify(p_requests uuid[])
returns uuid[]
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function accounts_to_notify to holdfast_worker;

create function accounts_to_top_up(p_requests uuid[])
returns uuid[]
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function accounts_to_top_up to holdfast_worker;

create function accrue_commission(p_payment payment)
returns void
language plpgsql;

create function accrue_correction(p_correction commission_correction)
returns void
language sql;

create function adjust_commission(p_payment payment, p_reversed_before usd)
returns void
language plpgsql;

create function advance_block_rescan(p_id uuid, p_from bigint, p_to bigint, p_next bigint, p_found integer,
  p_fault text)
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function advance_block_rescan to holdfast_worker;

create function approve(p_kind text, p_subject uuid, p_requested_by text, p_by text, p_needed integer DEFAULT 2)
returns boolean
language plpgsql security definer set search_path=holdfast, pg_temp;

create function approve_automatic(p_kind text, p_subject uuid, p_account uuid, p_amount numeric, p_by text,
  p_limits jsonb)
returns boolean
language plpgsql security definer set search_path=holdfast, pg_temp;

create function approve_bounty(p_id uuid, p_by text, p_at timestamp with time zone)
returns SETOF bounty_report
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function approve_bounty to holdfast_management;

create function arrived_events(p_provider text, p_events text[])
returns TABLE(known text[], last_at timestamp with time zone)
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function arrived_events to holdfast_management, holdfast_worker;

create function ask_hand_credit(p_action text, p_top_up uuid, p_payment_id text, p_amount usd, p_reason text)
returns hand_credit
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function ask_hand_credit to holdfast_worker;

create function assign_deposit_address(p_top_up uuid, p_path text, p_wallet text, p_address text)
returns SETOF deposit_address
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function assign_deposit_address to holdfast_worker;

create function auto_top_up_is_wanted(p_top_up uuid)
returns boolean
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function auto_top_up_is_wanted to holdfast_worker;

create function auto_top_up_of(p_account uuid, p_at timestamp with time zone)
returns TABLE(state text, pause_reason text, threshold usd, amount usd, monthly_cap usd, strikes integer,
  next_attempt_at timestamp with time zone, frozen_reason text, account_frozen boolean, balance usd, provider text,
  customer_id text, payment_method text, brand text, last4 text, exp_month integer, exp_year integer, freezes jsonb,
  consent_version text, consented_at timestamp with time zone, spent_this_month usd, open_top_up uuid, last_top_up uuid,
  last_slot timestamp with time zone, last_state text, last_failure text, last_started_at timestamp with time zone)
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function auto_top_up_of to holdfast_management, holdfast_worker;

create function begin_auto_top_up_attempt(p_account uuid, p_slot timestamp with time zone, p_top_up uuid, p_fee usd,
  p_currency text, p_live boolean)
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function begin_auto_top_up_attempt to holdfast_worker;

create function begin_checkout(p_id uuid, p_provider_id text, p_url text, p_expires_at timestamp with time zone)
returns top_up
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function begin_checkout to holdfast_worker;

create function begin_commission_run(p_period text, p_at timestamp with time zone)
returns commission_run
language plpgsql security definer set search_path=holdfast, pg_temp set enable_seqscan=on set enable_hashjoin=on set TimeZone=UTC;
grant execute on function begin_commission_run to holdfast_worker;

create function begin_discord_link(p_hash bytea, p_browser bytea, p_account uuid, p_token uuid, p_ttl_seconds numeric,
  p_at timestamp with time zone)
returns void
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function begin_discord_link to holdfast_management;

create function book_platform_cost(p_request uuid, p_reason text, p_usage jsonb, p_list_cost usd, p_estimated boolean)
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function book_platform_cost to holdfast_worker;

create function booked_payments(p_top_up uuid)
returns TABLE(payment_id text, received usd, credited usd, reversed usd, credited_by text, steps text[])
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function booked_payments to holdfast_worker;

create function bounty_of(p_id uuid)
returns SETOF bounty_report
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function bounty_of to holdfast_management, holdfast_worker;

create function catalogue()
returns TABLE(id text, dialect text, context_length integer, default_output_tokens integer,
  request_timeout_seconds numeric, upstreams jsonb, traits jsonb, created_at timestamp with time zone, versions jsonb)
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function catalogue to holdfast_gateway, holdfast_management, holdfast_worker;

create function chain_checkpoints(p_chain bigint, p_vendor text)
returns SETOF chain_checkpoint
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function chain_checkpoints to holdfast_worker;

create function chain_cursors(p_chain bigint)
returns SETOF chain_cursor
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function chain_cursors to holdfast_worker;

create function chains_read_until(p_chains bigint[])
returns timestamp with time zone
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function chains_read_until to holdfast_worker;

create function close_bounty(p_id uuid, p_state text, p_reason text, p_duplicate_of uuid, p_by text,
  p_at timestamp with time zone)
returns SETOF bounty_report
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function close_bounty to holdfast_management;

create function close_foreign_event(p_provider text, p_event text, p_reason text)
returns void
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function close_foreign_event to holdfast_worker;

create function close_gone_cases(p_kinds text[], p_looked_at text[], p_found text[], p_resolution text)
returns integer
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function close_gone_cases to holdfast_worker;

create function commission_candidates(p_period text)
returns SETOF commission_line
language sql stable security definer set search_path=holdfast, pg_temp set enable_hashjoin=on;
grant execute on function commission_candidates to holdfast_worker;

create function commission_entries(p_affiliate uuid, p_at timestamp with time zone)
returns TABLE(id uuid, kind text, amount usd, account_id uuid, payment_id uuid, base usd_not_negative,
  rate_ppm rate_ppm, rule_version integer, accrued_at timestamp with time zone, matures_at timestamp with time zone,
  run text, posting_id uuid, held_by text, phase text, is_reversed boolean)
language sql stable;
grant execute on function commission_entries to holdfast_auditor, holdfast_management, holdfast_reporter;

create function commission_follows_payment()
returns trigger
language plpgsql;

create function commission_hold(p_accrual commission_accrual, p_at timestamp with time zone)
returns text
language sql stable;
grant execute on function commission_hold to holdfast_auditor, holdfast_management, holdfast_reporter;

create function commission_lines(p_period text, p_after integer, p_limit integer)
returns SETOF commission_line
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function commission_lines to holdfast_worker;

create function commission_lost(p_base numeric, p_rate integer, p_reversed numeric)
returns numeric
language sql immutable parallel safe;
grant execute on function commission_lost to holdfast_auditor, holdfast_management, holdfast_reporter;

create function commission_matures_at(p_payment payment, p_rule commission_rule)
returns timestamp with time zone
language sql stable;

create function commission_on(p_base numeric, p_rate integer)
returns numeric
language sql immutable parallel safe;
grant execute on function commission_on to holdfast_auditor, holdfast_management, holdfast_reporter;

create function commission_part(p_period text, p_dry_run integer, p_part integer)
returns bytea
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function commission_part to holdfast_worker;

create function commission_period_end(p_period text)
returns timestamp with time zone
language sql immutable;

create function commission_review_worth(p_review commission_review)
returns numeric
language sql stable;
grant execute on function commission_review_worth to holdfast_auditor, holdfast_management, holdfast_reporter;

create function commission_rules()
returns SETOF commission_rule
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function commission_rules to holdfast_worker;

create function commission_run_of(p_period text)
returns SETOF commission_run
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function commission_run_of to holdfast_worker;

create function commission_taken(p_period text)
returns integer
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function commission_taken to holdfast_worker;

create function compare_entries(p_provider text, p_run timestamp with time zone, p_page integer, p_payments text[],
  p_orders uuid[], p_received numeric[], p_currencies text[], p_taken numeric[], p_objects text[],
  p_taken_back boolean[], p_kinds text[])
returns TABLE(place integer, top_up_id uuid)
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function compare_entries to holdfast_worker;

create function count_hand_money(p_kind text, p_subject uuid, p_by text, p_account uuid, p_amount numeric,
  p_limits jsonb)
returns boolean
language plpgsql security definer set search_path=holdfast, pg_temp;

create function count_voucher_attempt(p_account uuid, p_max integer, p_window_seconds numeric)
returns numeric
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function count_voucher_attempt to holdfast_management;

create function count_webhooks(p_provider text, p_kind text, p_reason text, p_n integer, p_detail text)
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function count_webhooks to holdfast_management;

create function create_access_token(p_hash bytea, p_role text, p_account uuid, p_name text, p_created_by uuid,
  p_expires_at timestamp with time zone, p_scopes text[], p_most bigint)
returns access_token
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function create_access_token to holdfast_management;

create function create_api_key(p_account uuid, p_hash bytea, p_prefix text, p_name text,
  p_expires_at timestamp with time zone, p_limit usd, p_limit_reset text, p_models text[], p_ip_allowlist cidr[],
  p_created_by uuid, p_most bigint)
returns uuid
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function create_api_key to holdfast_management;

create function create_bounty(p_id uuid, p_account uuid, p_title text, p_description text, p_by text,
  p_at timestamp with time zone)
returns bounty_report
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function create_bounty to holdfast_management;

create function create_top_up(p_id uuid, p_account uuid, p_method text, p_provider text, p_amount usd, p_fee usd,
  p_currency text, p_live boolean, p_expires_seconds numeric, p_save_card boolean DEFAULT false,
  p_open_max integer DEFAULT NULL::integer)
returns top_up
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function create_top_up to holdfast_management;

create function create_voucher_batch(p_id uuid, p_name text, p_amount usd, p_expires_at timestamp with time zone,
  p_reason text, p_by text, p_limits jsonb, p_hashes bytea[], p_prefixes text[])
returns voucher_batch
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function create_voucher_batch to holdfast_management;

create function credit_payment(p_top_up uuid, p_payment_id text, p_received usd, p_credit usd, p_final boolean,
  p_by text)
returns payment
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function credit_payment to holdfast_worker;

create function creditable_payment(p_top_up top_up, p_payment_id text)
returns known_payment
language plpgsql security definer set search_path=holdfast, pg_temp;

create function creem_checkouts_of(p_request_id text)
returns text[]
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function creem_checkouts_of to holdfast_worker;

create function creem_request_id(p_payload jsonb)
returns text
language sql immutable parallel safe set search_path=holdfast, pg_temp;

create function creem_reversals_of(p_transaction text)
returns SETOF jsonb
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function creem_reversals_of to holdfast_worker;

create function creem_reversed_transaction(p_payload jsonb)
returns text
language sql immutable parallel safe set search_path=holdfast, pg_temp;

create function creem_subject(p_payload jsonb)
returns jsonb
language sql immutable parallel safe;

create function decide_adjustment(p_id uuid, p_approve boolean, p_by text)
returns adjustment
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function decide_adjustment to holdfast_management;

create function decide_change(p_id uuid, p_approve boolean, p_by text)
returns change_request
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function decide_change to holdfast_management;

create function decide_commission_correction(p_id uuid, p_approve boolean, p_by text)
returns commission_correction
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function decide_commission_correction to holdfast_management;

create function decide_commission_review(p_id uuid, p_state text, p_reason text, p_by text, p_limits jsonb)
returns commission_review
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function decide_commission_review to holdfast_management;

create function decide_hand_credit(p_id uuid, p_approve boolean, p_by text)
returns hand_credit
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function decide_hand_credit to holdfast_management;

create function decide_refund(p_request uuid, p_n integer, p_approve boolean, p_by text)
returns request_refund
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function decide_refund to holdfast_management;

create function decide_reward(p_id uuid, p_approve boolean, p_by text, p_reason text, p_at timestamp with time zone,
  p_limits jsonb DEFAULT NULL::jsonb)
returns reward
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function decide_reward to holdfast_management;

create function decide_voucher_batch(p_id uuid, p_approve boolean, p_by text)
returns voucher_batch
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function decide_voucher_batch to holdfast_management;

create function deny_change()
returns trigger
language plpgsql;

create function deny_link(p_user text, p_account uuid, p_reason text, p_rules jsonb, p_at timestamp with time zone)
returns void
language sql security definer set search_path=holdfast, pg_temp;

create function deposit_address_of(p_top_up uuid)
returns SETOF deposit_address
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function deposit_address_of to holdfast_worker;

create function deposits_counted_between(p_since timestamp with time zone, p_until timestamp with time zone,
  p_after uuid, p_limit integer)
returns TABLE(id uuid, payment_id text, top_up_id uuid, amount usd)
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function deposits_counted_between to holdfast_worker;

create function deposits_of(p_top_up uuid)
returns SETOF deposit_standing
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function deposits_of to holdfast_worker;

create function earn_reward(p_kind text, p_source text, p_user text, p_account uuid, p_earned timestamp with time zone,
  p_rules jsonb, p_details jsonb, p_by text, p_at timestamp with time zone)
returns reward
language plpgsql security definer set search_path=holdfast, pg_temp;

create function end_auto_top_up(p_account uuid)
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function end_auto_top_up to holdfast_management;

create function end_free_use(p_requests uuid[])
returns void
language plpgsql security definer set search_path=holdfast, pg_temp;

create function ensure_partitions(p_months_ahead integer, p_at timestamp with time zone DEFAULT now())
returns integer
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function ensure_partitions to holdfast_worker;

create function event_of(p_provider text, p_event text)
returns SETOF provider_event
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function event_of to holdfast_worker;

create function exceeds_account_sums(p_kind text, p_subject uuid, p_account uuid, p_amount numeric)
returns boolean
language plpgsql security definer set search_path=holdfast, pg_temp;

create function expire_claims(p_limit integer, p_at timestamp with time zone)
returns integer
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function expire_claims to holdfast_worker;

create function extend_hold(p_request uuid, p_total usd)
returns usd
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function extend_hold to holdfast_gateway;

create function finalize_payment(p_payment uuid)
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function finalize_payment to holdfast_worker;

create function find_keys(p_hashes bytea[])
returns TABLE(hash bytea, key_id uuid, account_id uuid, name text, expires_at timestamp with time zone,
  revoked_at timestamp with time zone, models text[], ip_allowlist text[], frozen_at timestamp with time zone)
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function find_keys to holdfast_gateway;

create function find_known_payments(p_names text[])
returns SETOF known_payment
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function find_known_payments to holdfast_management, holdfast_worker;

create function find_orphans(p_gone_seconds numeric, p_limit integer)
returns TABLE(request_id uuid, model_id text, client_left_at timestamp with time zone)
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function find_orphans to holdfast_worker;

create function find_quiet_auto_top_ups(p_age_seconds numeric, p_limit integer)
returns uuid[]
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function find_quiet_auto_top_ups to holdfast_worker;

create function find_quiet_reversals(p_age_seconds numeric, p_poll_seconds numeric, p_limit integer)
returns TABLE(provider text, object_id text, top_up_id uuid)
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function find_quiet_reversals to holdfast_worker;

create function find_quiet_top_ups(p_age_seconds numeric, p_poll_seconds numeric, p_limit integer)
returns uuid[]
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function find_quiet_top_ups to holdfast_worker;

create function find_unhandled_events(p_age_seconds numeric, p_limit integer, p_rewards boolean DEFAULT false)
returns SETOF provider_event
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function find_unhandled_events to holdfast_worker;

create function find_unsettled(p_age_seconds numeric, p_limit integer)
returns uuid[]
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function find_unsettled to holdfast_worker;

create function find_waiting_claims(p_limit integer)
returns text[]
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function find_waiting_claims to holdfast_worker;

create function finish_auto_top_up_attempt(p_top_up uuid, p_state text, p_failure text, p_strikes integer, p_pause text)
returns boolean
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function finish_auto_top_up_attempt to holdfast_worker;

create function finish_commission_check(p_kind text, p_period text, p_n integer, p_at timestamp with time zone,
  p_result jsonb, p_manifest text)
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function finish_commission_check to holdfast_worker;

create function finish_commission_run(p_period text, p_at timestamp with time zone, p_sha256 text, p_manifest text)
returns commission_run
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function finish_commission_run to holdfast_worker;

create function finish_request(p_request uuid, p_outcome text, p_list_cost usd, p_input bigint, p_output bigint,
  p_cached bigint, p_reasoning bigint, p_detail jsonb, p_raw jsonb, p_estimated boolean, p_latency_ms integer,
  p_first_token_ms integer, p_upstream jsonb DEFAULT NULL::jsonb, p_undelivered jsonb DEFAULT NULL::jsonb)
returns text
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function finish_request to holdfast_gateway, holdfast_worker;

create function finish_requests(p_request uuid[], p_outcome text[], p_list_cost usd[], p_input bigint[],
  p_output bigint[], p_cached bigint[], p_reasoning bigint[], p_detail jsonb[], p_raw jsonb[], p_estimated boolean[],
  p_latency_ms integer[], p_first_token_ms integer[], p_upstream jsonb[] DEFAULT NULL::jsonb[],
  p_undelivered jsonb[] DEFAULT NULL::jsonb[])
returns text[]
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function finish_requests to holdfast_gateway, holdfast_worker;

create function forget_compared(p_provider text, p_run timestamp with time zone)
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function forget_compared to holdfast_worker;

create function forget_voucher_attempt(p_account uuid)
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function forget_voucher_attempt to holdfast_management;

create function free_auto_top_up(p_account uuid, p_cause text, p_by text)
returns boolean
language plpgsql security definer set search_path=holdfast, pg_temp;

create function free_prices(p_model text, p_at timestamp with time zone)
returns jsonb
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function free_prices to holdfast_worker;

create function freeze_account(p_account uuid, p_kind text, p_reason text)
returns boolean
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function freeze_account to holdfast_management;

create function freeze_auto_top_up(p_account uuid, p_kind text, p_cause text, p_again boolean DEFAULT false)
returns void
language plpgsql security definer set search_path=holdfast, pg_temp;

create function freeze_redeemed_voucher()
returns trigger
language plpgsql;

create function freeze_settled_request()
returns trigger
language plpgsql;

create function gateway_heartbeat(p_gateway uuid, p_description text)
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function gateway_heartbeat to holdfast_gateway;

create function gateway_stopped(p_gateway uuid)
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function gateway_stopped to holdfast_gateway;

create function guard_accrual()
returns trigger
language plpgsql;

create function hand_credits_of(p_top_up uuid)
returns SETOF hand_credit
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function hand_credits_of to holdfast_management, holdfast_worker;

create function hand_money_sums(p_person text, p_account uuid, p_at timestamp with time zone)
returns TABLE(person_day numeric, person_month numeric, account_day numeric, account_month numeric)
language plpgsql stable security definer set search_path=holdfast, pg_temp;
grant execute on function hand_money_sums to holdfast_auditor, holdfast_management, holdfast_reporter;

create function handle_event(p_provider text, p_event text, p_result text)
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function handle_event to holdfast_worker;

create function has_unsettled(p_account uuid)
returns boolean
language sql stable;

create function is_billed(p_outcome text)
returns boolean
language sql immutable parallel safe;
grant execute on function is_billed to holdfast_auditor, holdfast_management, holdfast_reporter;

create function keep_findings(p_chain bigint, p_findings jsonb)
returns integer
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function keep_findings to holdfast_worker;

create function keep_open_reversals(p_payment uuid, p_objects text[])
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function keep_open_reversals to holdfast_worker;

create function keep_own_transfers(p_chain bigint, p_findings jsonb)
returns TABLE(tx_hash text, ordinal integer, sender text, address text, symbol text, amount usd, height bigint,
  top_up_id uuid)
language sql security definer set search_path=holdfast, pg_temp;

create function keep_payment_customer(p_account uuid, p_provider text, p_n integer, p_customer text)
returns text
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function keep_payment_customer to holdfast_worker;

create function key_room(p_key api_key, p_at timestamp with time zone)
returns numeric
language sql immutable;
grant execute on function key_room to holdfast_auditor, holdfast_management, holdfast_reporter;

create function known_payments_of(p_top_up uuid)
returns SETOF known_payment
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function known_payments_of to holdfast_management, holdfast_worker;

create function limit_window(p_reset text, p_at timestamp with time zone)
returns timestamp with time zone
language sql immutable parallel safe;
grant execute on function limit_window to holdfast_auditor, holdfast_management, holdfast_reporter;

create function link_discord(p_user text, p_account uuid, p_username text, p_refusal text, p_rules jsonb,
  p_at timestamp with time zone)
returns text
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function link_discord to holdfast_worker;

create function linked_account(p_user text)
returns uuid
language sql stable security definer set search_path=holdfast, pg_temp;

create function lock_auto_top_up(p_account uuid)
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function lock_auto_top_up to holdfast_worker;

create function lock_discord_user(p_user text)
returns void
language sql;

create function lock_keys_and_accounts(p_keys uuid[], p_accounts uuid[])
returns void
language plpgsql security definer set search_path=holdfast, pg_temp;

create function lock_payment(p_provider text, p_payment_id text)
returns void
language sql security definer set search_path=holdfast, pg_temp;

create function log_refusals(p_request uuid[], p_account uuid[], p_key uuid[], p_model text[], p_code text[],
  p_stream boolean[], p_latency_ms integer[], p_gateway uuid)
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function log_refusals to holdfast_gateway;

create function mark_account()
returns trigger
language plpgsql security definer set search_path=holdfast, pg_temp;

create function mark_funding()
returns trigger
language plpgsql security definer set search_path=holdfast, pg_temp;

create function mark_settle_error(p_request uuid, p_error text)
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function mark_settle_error to holdfast_worker;

create function mature_commission(p_payment payment)
returns void
language sql;

create function move_deposit(p_id uuid, p_from text, p_from_hash text, p_state text, p_height bigint, p_block_hash text,
  p_block_time double precision, p_sender text, p_address text, p_token text, p_symbol text, p_units numeric,
  p_amount usd)
returns boolean
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function move_deposit to holdfast_worker;

create function move_top_up(p_id uuid, p_from text, p_to text, p_stuck text, p_received usd)
returns top_up
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function move_top_up to holdfast_worker;

create function names_of_payment(p_payment_id text, p_others text[])
returns text[]
language sql immutable set search_path=holdfast, pg_temp;

create function narrow_access_token(p_id uuid, p_scopes text[], p_expires_at timestamp with time zone)
returns void
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function narrow_access_token to holdfast_management;

create function next_block_rescan(p_chain bigint)
returns TABLE(id uuid, from_block bigint, to_block bigint, next_block bigint, address text, since double precision,
  until double precision)
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function next_block_rescan to holdfast_worker;

create function note_account_mark(p_account uuid, p_kind text, p_value text)
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function note_account_mark to holdfast_management, holdfast_worker;

create function note_auto_top_up_wait(p_account uuid, p_until timestamp with time zone, p_capped boolean,
  p_at timestamp with time zone)
returns void
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function note_auto_top_up_wait to holdfast_worker;

create function note_client_left(p_request uuid, p_input bigint, p_output bigint)
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function note_client_left to holdfast_gateway;

create function note_compared(p_provider text, p_run timestamp with time zone, p_page integer, p_payments text[])
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function note_compared to holdfast_worker;

create function note_deauthorized(p_user text, p_at timestamp with time zone)
returns boolean
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function note_deauthorized to holdfast_worker;

create function note_deposit_dispute(p_id uuid, p_disputed boolean)
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function note_deposit_dispute to holdfast_worker;

create function note_deposit_told(p_id uuid, p_state text)
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function note_deposit_told to holdfast_worker;

create function note_disputes(p_account uuid, p_provider text, p_open text[], p_won text[])
returns void
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function note_disputes to holdfast_worker;

create function note_listed_payment(p_provider text, p_payment_id text, p_top_up uuid, p_received numeric,
  p_currency text)
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function note_listed_payment to holdfast_worker;

create function note_member(p_user text, p_roles text[], p_premium_since timestamp with time zone, p_vote_roles jsonb,
  p_at timestamp with time zone)
returns TABLE(provider text, event_id text)
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function note_member to holdfast_worker;

create function note_model_finding(p_model text, p_upstream text, p_finding text, p_requests bigint, p_request uuid)
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function note_model_finding to holdfast_gateway;

create function note_payments(p_id uuid, p_payments jsonb)
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function note_payments to holdfast_worker;

create function note_reachable(p_gap_seconds numeric)
returns timestamp with time zone
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function note_reachable to holdfast_worker;

create function note_reconciled(p_part text, p_as_of timestamp with time zone)
returns void
language sql security definer set search_path=holdfast, pg_temp;

create function note_token(p_chain bigint, p_token text, p_fault text)
returns void
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function note_token to holdfast_worker;

create function note_top_up_customer(p_top_up uuid, p_customer text)
returns top_up
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function note_top_up_customer to holdfast_worker;

create function note_top_up_look(p_id uuid)
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function note_top_up_look to holdfast_worker;

create function note_top_up_stuck(p_id uuid, p_stuck text)
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function note_top_up_stuck to holdfast_worker;

create function notice_low_balance(p_account uuid)
returns boolean
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function notice_low_balance to holdfast_worker;

create function notify_change()
returns trigger
language plpgsql;

create function open_attempt_account(p_top_up uuid)
returns uuid
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function open_attempt_account to holdfast_worker;

create function open_case(p_kind text, p_subject text, p_evidence jsonb)
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function open_case to holdfast_worker;

create function open_deposits(p_chain bigint)
returns TABLE(id uuid, top_up_id uuid, tx_hash text, ordinal integer, sender text, address text, token text,
  symbol text, units numeric, amount usd, state text, height bigint, block_hash text, recheck boolean,
  disputed_seconds double precision, told text)
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function open_deposits to holdfast_worker;

create function order_commission_run(p_period text, p_by text)
returns void
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function order_commission_run to holdfast_management;

create function orphan_facts(p_request uuid)
returns TABLE(state text, outcome text, model_id text, price_version integer, free boolean, hold usd, asked_units jsonb,
  input_tokens bigint, output_tokens bigint, handed_over boolean, created_at timestamp with time zone,
  context_length integer)
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function orphan_facts to holdfast_worker;

create function overrun_costs(p_requests uuid[])
returns TABLE(request_id uuid, charged usd)
language plpgsql security definer set search_path=holdfast, pg_temp;

create function pause_auto_top_up(p_account uuid, p_reason text, p_details jsonb)
returns boolean
language plpgsql security definer set search_path=holdfast, pg_temp;

create function payment_customer_of(p_account uuid, p_provider text)
returns TABLE(customer_id text, next_n integer)
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function payment_customer_of to holdfast_worker;

create function payments_of(p_top_up uuid)
returns TABLE(id uuid, payment_id text, received usd, credited usd, reversed usd, final_at timestamp with time zone,
  warned_at timestamp with time zone, steps text[])
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function payments_of to holdfast_worker;

create function pays_more(p_new commission_rule, p_old commission_rule)
returns boolean
language sql immutable;
grant execute on function pays_more to holdfast_auditor, holdfast_management, holdfast_reporter;

create function person_of(p_actor text)
returns text
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function person_of to holdfast_auditor, holdfast_management, holdfast_reporter;

create function place_free_holds(p_request uuid[], p_account uuid[], p_key uuid[], p_model text[], p_stream boolean[],
  p_gateway uuid, p_ttl_seconds numeric[], p_day_tokens bigint, p_minute_requests bigint, p_open bigint)
returns text[]
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function place_free_holds to holdfast_gateway;

create function place_hold(p_request uuid, p_account uuid, p_key uuid, p_wanted usd, p_least usd, p_model text,
  p_price_version integer, p_stream boolean, p_gateway uuid, p_ttl_seconds numeric, p_asked jsonb DEFAULT NULL::jsonb)
returns usd
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function place_hold to holdfast_gateway;

create function place_holds(p_request uuid[], p_account uuid[], p_key uuid[], p_wanted usd[], p_model text[],
  p_price_version integer[], p_stream boolean[], p_gateway uuid, p_ttl_seconds numeric[],
  p_asked jsonb[] DEFAULT '{}'::jsonb[])
returns numeric[]
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function place_holds to holdfast_gateway;

create function post_adjustment(p_id uuid)
returns uuid
language sql security definer set search_path=holdfast, pg_temp;

create function post_commissions(p_period text, p_limit integer)
returns commission_run
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function post_commissions to holdfast_worker;

create function post_hand_credit(p_id uuid)
returns hand_credit
language plpgsql security definer set search_path=holdfast, pg_temp;

create function post_refund(p_id uuid)
returns uuid
language sql security definer set search_path=holdfast, pg_temp;

create function post_reward(p_reward reward, p_by text, p_at timestamp with time zone)
returns reward
language plpgsql security definer set search_path=holdfast, pg_temp;

create function post_transfer(p_kind text, p_business uuid, p_debit uuid, p_credit uuid, p_amount usd, p_memo jsonb,
  p_allow_negative boolean)
returns uuid
language plpgsql security definer set search_path=holdfast, pg_temp;

create function price_version_of(p_model text, p_version integer)
returns jsonb
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function price_version_of to holdfast_worker;

create function prove_discord_link(p_hash bytea, p_user text, p_username text)
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function prove_discord_link to holdfast_management;

create function proven_discord_link(p_hash bytea)
returns TABLE(discord_user_id text, account_id uuid, username text)
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function proven_discord_link to holdfast_worker;

create function publish_commission_rule(p_rate rate_ppm, p_hold_days integer, p_final_hold_days integer,
  p_dispute_days integer, p_reason text, p_by text, p_approved_by text DEFAULT NULL::text)
returns commission_rule
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function publish_commission_rule to holdfast_management;

create function publish_price_version(p_model text, p_valid_from timestamp with time zone, p_prices jsonb,
  p_lead_seconds numeric, p_by text)
returns price_version
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function publish_price_version to holdfast_management;

create function recheck_deposits(p_chain bigint, p_from bigint, p_to bigint)
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function recheck_deposits to holdfast_worker;

create function record_boosts(p_user text, p_message text, p_count integer, p_boosted_at timestamp with time zone,
  p_match_seconds numeric, p_rules jsonb, p_at timestamp with time zone)
returns integer
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function record_boosts to holdfast_worker;

create function record_premium(p_user text, p_since timestamp with time zone, p_match_seconds numeric, p_rules jsonb,
  p_at timestamp with time zone)
returns boolean
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function record_premium to holdfast_worker;

create function record_scan(p_chain bigint, p_vendor text, p_expected text, p_fork bigint, p_height bigint, p_hash text,
  p_block_time double precision, p_head bigint, p_head_time double precision, p_safe bigint, p_finalized bigint,
  p_findings jsonb)
returns boolean
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function record_scan to holdfast_worker;

create function record_vote(p_site text, p_event text, p_vote_id text, p_user text, p_voted_at timestamp with time zone,
  p_arrived_at timestamp with time zone, p_weight integer, p_outcome text, p_reason text,
  p_until timestamp with time zone, p_rules jsonb, p_at timestamp with time zone)
returns vote
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function record_vote to holdfast_worker;

create function redeem_voucher(p_hash bytea, p_account uuid)
returns TABLE(verdict text, id uuid, amount usd, redeemed_at timestamp with time zone, posting_id uuid)
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function redeem_voucher to holdfast_management;

create function refund_of(p_request uuid, p_n integer)
returns SETOF request_refund
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function refund_of to holdfast_worker;

create function refuse(p_code text, p_message text, p_remaining numeric DEFAULT NULL::numeric,
  p_required numeric DEFAULT NULL::numeric, p_unsettled boolean DEFAULT false)
returns void
language plpgsql;

create function release_claims(p_user text, p_rules jsonb, p_limit integer, p_at timestamp with time zone)
returns integer
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function release_claims to holdfast_worker;

create function remove_cards(p_provider text, p_method text, p_customer text, p_reason text)
returns integer
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function remove_cards to holdfast_worker;

create function request_adjustment(p_id uuid, p_account uuid, p_amount usd, p_reason text, p_by text, p_limits jsonb)
returns adjustment
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function request_adjustment to holdfast_management;

create function request_block_rescan(p_id uuid, p_chain bigint, p_from bigint, p_to bigint, p_open_max integer,
  p_by text)
returns SETOF block_rescan
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function request_block_rescan to holdfast_management, holdfast_worker;

create function request_change(p_kind text, p_subject text, p_change jsonb, p_cause text, p_reason text, p_by text)
returns change_request
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function request_change to holdfast_management;

create function request_commission_check(p_kind text, p_period text, p_by text)
returns commission_check
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function request_commission_check to holdfast_management;

create function request_commission_correction(p_id uuid, p_affiliate uuid, p_amount usd, p_reason text, p_by text,
  p_limits jsonb)
returns commission_correction
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function request_commission_correction to holdfast_management;

create function request_hand_credit(p_action text, p_top_up uuid, p_payment_id text, p_amount usd, p_reason text,
  p_by text, p_limits jsonb)
returns hand_credit
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function request_hand_credit to holdfast_management;

create function request_is_sound(state text, outcome text, hold numeric, list_cost numeric, cost numeric, free boolean,
  finished_at timestamp with time zone, settled_at timestamp with time zone, refusal_code text)
returns boolean
language plpgsql immutable;
grant execute on function request_is_sound to holdfast_auditor, holdfast_management, holdfast_reporter;

create function request_order_rescans(p_top_up uuid, p_chains bigint[], p_by text)
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function request_order_rescans to holdfast_worker;

create function request_refund(p_request uuid, p_n integer, p_amount usd, p_reason text, p_by text,
  p_limits jsonb DEFAULT NULL::jsonb)
returns request_refund
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function request_refund to holdfast_management;

create function require_live_maker()
returns trigger
language plpgsql security definer set search_path=holdfast, pg_temp;

create function require_person(p_actor text)
returns text
language plpgsql stable security definer set search_path=holdfast, pg_temp;

create function reverse_payment(p_payment uuid, p_object text, p_kind text, p_direction text, p_amount usd,
  p_expected usd)
returns boolean
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function reverse_payment to holdfast_worker;

create function review_violations(p_limit integer)
returns integer
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function review_violations to holdfast_worker;

create function revoke_access_token(p_id uuid, p_keys boolean)
returns SETOF access_token
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function revoke_access_token to holdfast_management;

create function roll_up(p_requests uuid[])
returns void
language sql security definer set search_path=holdfast, pg_temp;

create function same_person(p_one text, p_other text)
returns boolean
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function same_person to holdfast_auditor, holdfast_management, holdfast_reporter;

create function save_card(p_account uuid, p_provider text, p_customer text, p_method text, p_brand text, p_last4 text,
  p_exp_month integer, p_exp_year integer, p_fingerprint text)
returns boolean
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function save_card to holdfast_worker;

create function save_commission_part(p_period text, p_dry_run integer, p_part integer, p_content bytea)
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function save_commission_part to holdfast_worker;

create function self_referral_signals(p_affiliate uuid, p_account uuid)
returns text[]
language sql stable;
grant execute on function self_referral_signals to holdfast_auditor, holdfast_management, holdfast_reporter;

create function set_affiliate_rate(p_affiliate uuid, p_rate rate_ppm, p_by text, p_approved_by text DEFAULT NULL::text)
returns SETOF affiliate
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function set_affiliate_rate to holdfast_management;

create function set_auto_top_up(p_account uuid, p_threshold usd, p_amount usd, p_cap usd, p_consent_version text,
  p_by text)
returns void
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function set_auto_top_up to holdfast_management;

create function set_token_person()
returns trigger
language plpgsql security definer set search_path=holdfast, pg_temp;

create function settle_account(p_account uuid)
returns integer
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function settle_account to holdfast_gateway;

create function settle_requests(p_requests uuid[], p_workflow text)
returns integer
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function settle_requests to holdfast_worker;

create function settle_reward(p_reward reward, p_rules jsonb, p_at timestamp with time zone)
returns reward
language plpgsql security definer set search_path=holdfast, pg_temp;

create function settlement_lock()
returns bigint
language sql immutable parallel safe;

create function store_event(p_provider text, p_event text, p_type text, p_payload jsonb)
returns boolean
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function store_event to holdfast_management, holdfast_worker;

create function system_account(p_name text)
returns uuid
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function system_account to holdfast_management;

create function tell_account(p_account uuid, p_kind text, p_details jsonb)
returns void
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function tell_account to holdfast_management;

create function token_usage(p_request request)
returns jsonb
language sql immutable;

create function tokens_made_with(p_id uuid)
returns SETOF uuid
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function tokens_made_with to holdfast_management;

create function top_up_of(p_id uuid)
returns SETOF top_up
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function top_up_of to holdfast_worker;

create function top_up_of_payment(p_provider text, p_payment_id text)
returns uuid
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function top_up_of_payment to holdfast_worker;

create function top_ups_not_compared(p_provider text, p_since timestamp with time zone,
  p_until timestamp with time zone, p_run timestamp with time zone, p_page integer, p_after uuid, p_limit integer)
returns uuid[]
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function top_ups_not_compared to holdfast_worker;

create function triage_bounty(p_id uuid, p_by text)
returns SETOF bounty_report
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function triage_bounty to holdfast_management;

create function unfreeze_account(p_account uuid, p_kinds text[])
returns boolean
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function unfreeze_account to holdfast_management;

create function unfreeze_auto_top_up(p_account uuid, p_by text)
returns boolean
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function unfreeze_auto_top_up to holdfast_management;

create function unlink_discord(p_account uuid, p_at timestamp with time zone)
returns boolean
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function unlink_discord to holdfast_management;

create function upstreams_of(p_model text)
returns jsonb
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function upstreams_of to holdfast_worker;

create function use_discord_state(p_hash bytea, p_browser bytea, p_token uuid, p_at timestamp with time zone)
returns uuid
language sql security definer set search_path=holdfast, pg_temp;
grant execute on function use_discord_state to holdfast_management;

create function v7_floor(p_at timestamp with time zone)
returns uuid
language sql immutable parallel safe;
grant execute on function v7_floor to holdfast_auditor, holdfast_management, holdfast_reporter;

create function void_voucher_batch(p_id uuid, p_reason text, p_by text)
returns voucher_batch
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function void_voucher_batch to holdfast_management;

create function vote_role_holders()
returns text[]
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function vote_role_holders to holdfast_worker;

create function vote_spans(p_site text, p_user text, p_from timestamp with time zone)
returns TABLE(starts_at timestamp with time zone, ends_at timestamp with time zone)
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function vote_spans to holdfast_worker;

create function voucher_state(p_voucher voucher, p_batch voucher_batch, p_at timestamp with time zone)
returns text
language sql immutable;
grant execute on function voucher_state to holdfast_auditor, holdfast_management, holdfast_reporter;

create function waiting_top_ups(p_provider text, p_after uuid, p_limit integer)
returns uuid[]
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function waiting_top_ups to holdfast_worker;

create function warn_payment(p_payment uuid, p_evidence jsonb, p_freeze boolean)
returns boolean
language plpgsql security definer set search_path=holdfast, pg_temp;
grant execute on function warn_payment to holdfast_worker;

create function watched_addresses(p_after integer, p_limit integer)
returns SETOF deposit_address
language sql stable security definer set search_path=holdfast, pg_temp;
grant execute on function watched_addresses to holdfast_worker;
