-- A target that stands nowhere yet is not level: how far it is behind is not known.
create or replace function bridge.status_v1()
returns table (
    view text,
    sink text,
    name text,
    state text,
    reason text,
    generation integer,
    building integer,
    previous integer,
    documents bigint,
    "position" text,
    lag_bytes bigint,
    lag_seconds double precision,
    dead_letters bigint,
    progress real
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    acknowledged pg_lsn := bridge.acknowledged_v1();
    flushed pg_lsn := case
        when pg_is_in_recovery() then pg_last_wal_replay_lsn()
        else pg_current_wal_flush_lsn()
    end;
begin
    return query
    select
        t.view,
        t.sink,
        t.name,
        case
            when shown.halted is not null or k.state = 'halted' then 'halted'
            when live.number is not null then 'live'
            else 'building'
        end,
        case
            when shown.halted is not null then shown.halted
            when k.paused then 'paused'
            else k.reason
        end,
        live.number,
        building.number,
        previous.number,
        coalesce(shown.documents, 0),
        p.epoch || ':' || p.lsn,
        case when p.lsn is not null then greatest(flushed - p.lsn, 0) end::bigint,
        case
            when p.lsn >= flushed then 0
            when kept.behind_since is not null
                then extract(epoch from clock_timestamp() - kept.behind_since)
            when p.level then 0
            else extract(epoch from clock_timestamp() - kept.updated_at)
        end::double precision,
        (
            select count(*)
            from bridge.dead_letter d
            where d.sink = t.sink and d.name = t.name and d.number = shown.number
        ),
        building.progress
    from bridge.target t
    join bridge.sink k on k.name = t.sink
    left join bridge.generation live
        on live.sink = t.sink and live.name = t.name and live.state = 'live'
    left join bridge.generation building
        on building.sink = t.sink and building.name = t.name
        and building.state = 'building'
    left join bridge.generation previous
        on previous.sink = t.sink and previous.name = t.name
        and previous.state = 'previous'
    left join bridge.generation shown
        on shown.sink = t.sink and shown.name = t.name
        and shown.number = coalesce(live.number, building.number)
    left join bridge.positions_v1(acknowledged) p
        on p.sink = t.sink and p.name = t.name and p.number = shown.number
    left join bridge.progress kept
        on kept.sink = t.sink and kept.name = t.name and kept.number = shown.number
    where t.wanted
    order by t.view, t.sink, t.name;
end
$$;
