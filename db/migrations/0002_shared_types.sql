-- Types that many tables share. Money is DOMAIN usd: numeric would round silently and accept NaN, bigint ends at 9.2
-- million USD.
--
-- What concerns one column is a domain, and what concerns several columns of `account` or `request` is a function:
-- PostgreSQL reads and plans the expression of every table CHECK again in each statement that writes the table (a fifth
-- of the server's work for a request), a domain's and a function's once per session.
set role holdfast_owner;
set search_path = holdfast;

create domain usd as numeric
  constraint usd_scale_and_bound check (scale(value) <= 12 and value > -1e20 and value < 1e20);
-- What concerns one column is a domain, and what concerns several columns of `account` or `request` is a function:
-- PostgreSQL reads and plans the expression of every table CHECK again in each statement that writes the table (a fifth
-- of the server's work for a request), a domain's and a function's once per session.
create domain usd_not_negative as usd constraint amount_not_negative check (value >= 0);
create domain sha256 as bytea constraint hash_is_sha256 check (octet_length(value) = 32);

reset role;
reset search_path;
