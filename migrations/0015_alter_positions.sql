-- Up to where each generation holds everything. `acknowledged` must have been read in an
-- earlier statement: what is still owed is recorded before the slot moves past it. One
-- that missed changes, whose view's plan is '', holds everything up to nowhere, whatever
-- has been written for it since.
create or replace function bridge.positions_v1(acknowledged pg_lsn)
returns table (
    sink text, name text, number integer, epoch integer, lsn pg_lsn, level boolean
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select
        p.sink,
        p.name,
        p.number,
        p.epoch,
        case when c.counts then greatest(p.lsn, acknowledged) else p.lsn end,
        c.counts and acknowledged >= p.lsn
    from bridge.progress p
    join bridge.generation g using (sink, name, number)
    join bridge.sink k on k.name = p.sink
    cross join bridge.source s
    cross join lateral (
        select
            p.epoch = s.epoch
            and acknowledged is not null
            and k.state in ('ok', 'down')
            and not k.paused
            and g.halted is null
            and not g.sweep
            and not exists (
                select
                from bridge.owed_key o
                where o.sink = p.sink and o.name = p.name and o.number = p.number
            ) as counts
    ) c
    where g.view_fingerprint <> ''
$$;
