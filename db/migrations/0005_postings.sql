-- The ledger. Partitioned by business id, so that (business id, kind) is a primary key.
set role holdfast_owner;
set search_path = holdfast;

-- One posting: debit pays credit, amount > 0. Zero-sum by construction; corrections are new postings, never edits.
-- The business id is the request, adjustment, refund or top-up the money belongs to: (business_id, kind) happens once.
create table posting (
  id uuid not null default uuidv7(),
  business_id uuid not null,
  kind text not null,
  debit uuid not null,
  credit uuid not null,
  amount usd not null,
  created_at timestamptz not null default clock_timestamp(),
  memo jsonb,
  primary key (business_id, kind),
  constraint amount_positive check (amount > 0),
  constraint two_accounts check (debit <> credit),
  constraint posting_kind_length check (char_length(kind) between 1 and 40)
) partition by range (business_id);
create index posting_debit on posting (debit, id);
-- a charge's credit is revenue, read by sums only
create index posting_credit on posting (credit, id) where kind <> 'charge';
create index posting_id on posting using brin (id);

-- Who reads reports and who manages may see every row; a role may write what is named here, and nothing else.
grant select on posting to
  holdfast_management, holdfast_reporter, holdfast_auditor;

reset role;
reset search_path;
