-- How far each target is: bridge.status() and bridge.wait_for().
--
-- The kept position of a target is written only when something moved it; on an idle
-- source the slot's own position, which moves without a word in the log, says the rest:
-- up to there everything is kept, or recorded as still owed.

-- Where the slot stands in the history that the bridge is in; null where it cannot say.
create function bridge.acknowledged_v1()
returns pg_lsn
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select r.confirmed_flush_lsn
    from pg_replication_slots r
    join bridge.source s on r.slot_name = s.slot
    where r.database = current_database()
        and r.slot_type = 'logical'
        and not pg_is_in_recovery()
$$;

-- Up to where each generation holds everything. `acknowledged` must have been read in an
-- earlier statement: what is still owed is recorded before the slot moves past it.
create function bridge.positions_v1(acknowledged pg_lsn)
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
            and k.state = 'ok'
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

create function bridge.status_v1()
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
        greatest(flushed - p.lsn, 0)::bigint,
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

-- Just past a page's header means the page's start: nothing was written there yet, and
-- no position that the stream reports lies between the two.
create function bridge.page_start_v1(lsn pg_lsn)
returns pg_lsn
language sql
stable
strict
set search_path = pg_catalog, pg_temp
as $$
    select lsn - case
        when b.into_segment = 40 then 40
        when b.into_segment > b.page and b.into_segment % b.page = 24 then 24
        else 0
    end
    from (
        select
            (lsn - pg_lsn '0/0') % pg_size_bytes(current_setting('wal_segment_size')),
            current_setting('wal_block_size')::numeric
    ) b (into_segment, page)
$$;

create function bridge.wait_for_v1(
    wanted_lsn pg_lsn, wanted_view text, patience interval
)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    deadline constant timestamptz := clock_timestamp() + patience;
    wanted constant pg_lsn := bridge.page_start_v1(wanted_lsn);
    pause_s double precision := 0.002;
    left_s double precision;
    acknowledged pg_lsn;
    reached boolean;
begin
    if wanted_lsn is null or patience is null then
        raise exception 'wait_for needs an LSN and a timeout'
            using errcode = 'null_value_not_allowed';
    end if;
    -- Its snapshot would stay as it is, so that nothing new could ever be seen.
    if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        raise exception 'wait_for cannot be called in a % transaction',
            current_setting('transaction_isolation')
            using errcode = 'active_sql_transaction',
                hint = 'Call it in READ COMMITTED, after the commit.';
    end if;
    if pg_current_xact_id_if_assigned() is not null then
        raise exception 'wait_for was called before the commit of what it waits for'
            using errcode = 'active_sql_transaction',
                hint = 'Commit, then call it with pg_current_wal_flush_lsn().';
    end if;
    -- Also says that the view is not there.
    perform from bridge.targets_v1(wanted_view, null);
    loop
        acknowledged := bridge.acknowledged_v1();
        -- A statement of its own, and so a snapshot taken after the slot was asked.
        select coalesce(
            bool_and(p.epoch = s.epoch and p.lsn >= wanted and g.number is not null),
            false
        )
        into reached
        from bridge.targets_v1(wanted_view, null) t
        left join bridge.source s on true
        left join bridge.generation g
            on g.sink = t.sink and g.name = t.name and g.state = 'live'
        left join bridge.positions_v1(acknowledged) p
            on p.sink = t.sink and p.name = t.name and p.number = g.number;
        left_s := extract(epoch from deadline - clock_timestamp());
        if reached or left_s <= 0 then
            return reached;
        end if;
        perform pg_sleep(least(pause_s, left_s));
        pause_s := least(pause_s * 1.5, 0.05);
    end loop;
end
$$;

create function bridge.status()
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
language sql
security definer
set search_path = pg_catalog, pg_temp
as $$ select * from bridge.status_v1() $$;

create function bridge.wait_for(lsn pg_lsn, view text, timeout interval)
returns boolean
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$ select bridge.wait_for_v1($1, $2, $3) $$;

comment on function bridge.status is
'A row for each target: state, generations, position, lag, dead letters.';
comment on function bridge.wait_for is
'Read-your-writes: true once everything up to the LSN is in every target of the view, false when the timeout comes first. Call it after the commit with pg_current_wal_flush_lsn().';

revoke all on all functions in schema bridge from public;
-- Waiting tells nothing but whether; everything else is granted by the operator.
grant usage on schema bridge to public;
grant execute on function bridge.wait_for to public;
