-- Transactions that a new slot or a changed publication would wait for: those with an
-- id of their own that are older than a while, the oldest first.
select pid,
       coalesce(usename::text, '') as role,
       coalesce(application_name, '') as application,
       extract(epoch from clock_timestamp() - xact_start)::double precision as age_s,
       null::text as prepared
  from pg_stat_activity
 where backend_xid is not null
   and pid <> pg_backend_pid()
   and clock_timestamp() - xact_start > make_interval(secs => %(age_s)s)
union all
select null, owner::text, '',
       extract(epoch from clock_timestamp() - prepared)::double precision,
       gid
  from pg_prepared_xacts
 where clock_timestamp() - prepared > make_interval(secs => %(age_s)s)
 order by age_s desc
 limit 5
