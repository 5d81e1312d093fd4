select a.pid, coalesce(a.application_name, '') as application,
       coalesce(a.state, '') as state,
       extract(epoch from pg_catalog.clock_timestamp() - a.xact_start)::float8 as age_s
  from pg_catalog.unnest(pg_catalog.pg_blocking_pids(%(pid)s)) as b(pid)
  join pg_catalog.pg_stat_activity a on a.pid = b.pid
union all
-- A prepared transaction has no process: it blocks as pid 0.
select 0, p.gid, 'prepared transaction',
       extract(epoch from pg_catalog.clock_timestamp() - p.prepared)::float8
  from pg_catalog.pg_prepared_xacts p
 where 0 = any(pg_catalog.pg_blocking_pids(%(pid)s))
 order by 4 desc nulls last
