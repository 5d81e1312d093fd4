-- Waiting sees what the running daemon tells of itself, before it is written down: an
-- open transaction that has written, or a record that no change made, holds nobody up.

-- Up to where the daemon that streams now has told that every target holds everything.
-- It says so with each sign of life on the stream, which writes nothing into the log;
-- null where none streams, or where a sink stands aside.
create function bridge.told_v1()
returns pg_lsn
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select a.replay_lsn
    from pg_replication_slots r
    join bridge.source s on r.slot_name = s.slot
    join pg_stat_replication a on a.pid = r.active_pid
    where r.database = current_database()
        and r.slot_type = 'logical'
        and not pg_is_in_recovery()
$$;

create function bridge.wait_for_v2(
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
    told pg_lsn;
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
        told := bridge.told_v1();
        acknowledged := bridge.acknowledged_v1();
        -- A statement of its own, and so a snapshot taken after the slot was asked.
        select coalesce(
            bool_and(
                coalesce(p.epoch = s.epoch and p.lsn >= wanted and g.number is not null, false)
                -- What is not fed, or owed more than the stream brings, is told by what
                -- is written down alone.
                or coalesce(
                    told >= wanted
                    and g.halted is null
                    and not g.sweep
                    and g.view_fingerprint <> ''
                    and k.state = 'ok'
                    and not k.paused,
                    false
                )
            ),
            false
        )
        into reached
        from bridge.targets_v1(wanted_view, null) t
        join bridge.sink k on k.name = t.sink
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

create or replace function bridge.wait_for(lsn pg_lsn, view text, timeout interval)
returns boolean
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$ select bridge.wait_for_v2($1, $2, $3) $$;

drop function bridge.wait_for_v1(pg_lsn, text, interval);

revoke all on function bridge.told_v1() from public;
revoke all on function bridge.wait_for_v2(pg_lsn, text, interval) from public;
