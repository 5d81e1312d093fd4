-- Whether every transaction older than this id has ended, and whose have not.
select
    pg_snapshot_xmin(pg_current_snapshot())::text::numeric >= %(xid)s::numeric as ended,
    array(
        select l.pid
        from pg_locks l
        where l.locktype = 'transactionid' and l.mode = 'ExclusiveLock' and l.granted
            and l.pid is not null
            and age(l.transactionid) > age(mod(%(xid)s::numeric, 4294967296)::text::xid)
        order by l.pid
    ) as pids;
