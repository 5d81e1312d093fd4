-- The slot does not move past what a sink that is away has not kept, until it is parked:
-- one for which nothing is written is level, and its lag does not grow.
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
$$;
