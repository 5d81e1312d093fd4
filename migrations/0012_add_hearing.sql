-- Whoever waits tells the daemon for what, so that it writes positions down for them.
create or replace function bridge.wait_for_v2(
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
    heard boolean := false;
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
        if not heard and pause_s >= 0.05 then
            -- Positions are not written down where nothing of a view has changed, and
            -- not every role may read what `told_v1` does: the daemon sees in
            -- `pg_locks` that this page of the log is waited for.
            heard := pg_try_advisory_xact_lock_shared(
                1885823602,
                1024 + mod(div(wanted - pg_lsn '0/0', 8192), 1073741824)::integer
            );
        end if;
        perform pg_sleep(least(pause_s, left_s));
        pause_s := least(pause_s * 1.5, 0.05);
    end loop;
end
$$;
