-- Whether somebody is altering one of these tables, or the publication, now: it may be
-- committed, and so be in the log, before anybody sees it.
select exists (
    select
    from pg_locks l
    join pg_locks t using (virtualtransaction)
    where t.locktype = 'transactionid'
        and t.mode = 'ExclusiveLock'
        and t.pid is distinct from pg_backend_pid()
        and l.granted
        and (
            l.locktype = 'relation'
            and l.mode in (
                'ShareUpdateExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
                'AccessExclusiveLock'
            )
            and l.database = (
                select d.oid from pg_database d where d.datname = current_database()
            )
            and l.relation = any(%(tables)s::oid[])
            or l.locktype = 'object' and l.classid = 'pg_publication'::regclass
        )
) as found;
