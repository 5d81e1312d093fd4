-- name: save_progress
-- Positions of many generations, written by the daemon that has not been superseded.
-- The slot moves after this: it must not be found ahead of it after a crash.
with writer as (
    update bridge.daemon set seen_at = clock_timestamp()
    where token = %(token)s
    returning true
),
saved as (
    insert into bridge.progress as p (
        sink, name, number, epoch, lsn, content_lsn, behind_since
    )
    select r.sink, r.name, r.number, r.epoch, r.lsn, r.content_lsn, r.behind_since
    from unnest(
        %(sinks)s::text[], %(names)s::text[], %(numbers)s::integer[],
        %(epochs)s::integer[], %(lsns)s::pg_lsn[], %(content_lsns)s::pg_lsn[],
        %(behind_since)s::timestamptz[]
    ) r (sink, name, number, epoch, lsn, content_lsn, behind_since)
    -- A generation may have been forgotten meanwhile.
    join bridge.generation g using (sink, name, number)
    cross join writer
    on conflict (sink, name, number) do update set
        epoch = excluded.epoch,
        lsn = excluded.lsn,
        content_lsn = excluded.content_lsn,
        behind_since = excluded.behind_since,
        updated_at = clock_timestamp()
    returning true
)
select (select count(*) from writer) as writers, (select count(*) from saved) as saved;

-- name: load_progress
-- The positions of all generations.
select sink, name, number, epoch, lsn::text, content_lsn::text, behind_since
from bridge.progress
order by sink, name, number;

-- name: list_since
-- Since when what is not fed any more may miss changes, as `bridge.status()` tells it.
select sink, name, number, coalesce(behind_since, updated_at) as since
from bridge.progress
order by sink, name, number;

-- name: forget_progress
-- The generation holds nothing that can be relied on.
delete from bridge.progress
where sink = %(sink)s and name = %(name)s and number = %(number)s;

-- name: list_waits
-- What callers of `wait_for` in this database wait for: `locks.waited_for` reads it.
select l.objid::bigint as number
from pg_locks l
join pg_database d on d.oid = l.database
where l.locktype = 'advisory'
    and d.datname = current_database()
    and l.classid = %(lock_class)s
    and l.objid >= %(first)s
    and l.objsubid = 2
    and l.granted;
