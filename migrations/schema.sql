-- The sum of all migrations, for reading; a test proves it equal to them.

-- What the bridge remembers: source, views, targets, generations, positions, work.
--
-- Positions are an epoch and an LSN; the LSN is always the end of a commit, or an end of
-- log that the stream has reported. Nothing here holds a value of the user's rows but
-- keys, which are what the documents are called.

do $$
begin
    if to_regnamespace('bridge') is null then
        create schema bridge;
    end if;
end
$$;

comment on schema bridge is 'What pgbridge remembers; removed by `pgbridge drop`.';

create table bridge.migration (
    number integer primary key,
    name text not null,
    digest text not null,
    applied_at timestamptz not null default clock_timestamp()
);

create table bridge.source (
    singleton boolean primary key default true check (singleton),
    system_identifier text not null,
    timeline integer not null,
    database text not null,
    slot text not null,
    epoch integer not null check (epoch between 1 and 1023),
    -- Nothing is read before a snapshot's xmin has reached it; null: it has.
    barrier text check (barrier ~ '^[0-9]+$'),
    -- Digest of the publication and identities as they were last proven.
    fingerprint text not null default '',
    updated_at timestamptz not null default clock_timestamp(),
    -- What was known of tables and publication when every document was last known to
    -- follow from them.
    facts jsonb not null default '{}',
    -- How far the bridge itself may have moved the slot while a sink is parked.
    passed_lsn pg_lsn,
    -- How far sinks may have been told that they are: one that says more has seen a log
    -- that this database no longer has.
    noted_lsn pg_lsn,
    -- Why the history is in doubt, until another one has begun.
    doubt text not null default '',
    -- By which cluster's identifier the sinks know the bridge, where it was another one.
    owner text
);

create table bridge.daemon (
    singleton boolean primary key default true check (singleton),
    -- Who writes positions: a daemon that was superseded no longer can.
    token uuid not null,
    host text not null,
    pid integer not null,
    version text not null,
    http text not null default '',
    state text not null,
    reason text not null default '',
    started_at timestamptz not null default clock_timestamp(),
    seen_at timestamptz not null default clock_timestamp(),
    -- Of which start of the server, and of its last recovery, everything is settled.
    server_started timestamptz,
    server_recovered timestamptz,
    -- Why the edited configuration was not taken up; empty: it was.
    refused text not null default ''
);

create table bridge.sink (
    name text primary key,
    type text not null,
    state text not null default 'ok'
        check (state in ('ok', 'down', 'paused', 'parked', 'halted')),
    reason text not null default '',
    -- What the operator wants; it outlives restarts.
    paused boolean not null default false,
    since timestamptz not null default clock_timestamp(),
    -- How many writes it has answered for, as it counts them.
    answered bigint not null default 0
);

create table bridge.view (
    name text primary key,
    definition jsonb not null,
    fingerprint text not null,
    applied_at timestamptz not null default clock_timestamp()
);

create table bridge.target (
    sink text not null references bridge.sink,
    name text not null,
    view text not null references bridge.view,
    definition jsonb not null,
    fingerprint text not null,
    -- False once it is no longer in the file: not fed, kept until it is pruned.
    wanted boolean not null default true,
    next_generation integer not null default 1,
    applied_at timestamptz not null default clock_timestamp(),
    primary key (sink, name)
);

create index target_view on bridge.target (view);

create table bridge.generation (
    sink text not null,
    name text not null,
    number integer not null check (number > 0),
    -- dropped: its place in the sink is to be removed, then this row.
    state text not null check (state in ('building', 'live', 'previous', 'dropped')),
    fingerprint text not null,
    view_fingerprint text not null,
    documents bigint not null default 0,
    progress real not null default 0 check (progress between 0 and 1),
    -- Why it stopped; null: it did not.
    halted text,
    -- More keys are owed than can be kept: every key is to be derived again.
    sweep boolean not null default false,
    created_at timestamptz not null default clock_timestamp(),
    prepared_at timestamptz,
    published_at timestamptz,
    -- What it was built from: query, key, functions, and the target's options.
    definition jsonb not null default '{}',
    primary key (sink, name, number),
    foreign key (sink, name) references bridge.target on delete cascade,
    -- One of each; deferrable, so that one statement can let them change places.
    constraint generation_one_of_a_state
        exclude (sink with =, name with =, state with =)
        where (state <> 'dropped') deferrable
);

create table bridge.progress (
    sink text not null,
    name text not null,
    number integer not null,
    epoch integer not null,
    -- Everything up to here is kept.
    lsn pg_lsn not null,
    -- End of the newest transaction that had anything for it.
    content_lsn pg_lsn not null,
    -- When the oldest commit not yet kept was made; null: there was none.
    behind_since timestamptz,
    updated_at timestamptz not null default clock_timestamp(),
    primary key (sink, name, number),
    foreign key (sink, name, number) references bridge.generation on delete cascade
)
-- Updated five times a second: room for the new row version beside the old one.
with (fillfactor = 50);

create table bridge.owed_key (
    sink text not null,
    name text not null,
    number integer not null,
    key text not null,
    parts text[] not null,
    epoch integer not null,
    lsn pg_lsn not null,
    primary key (sink, name, number, key),
    foreign key (sink, name, number) references bridge.generation on delete cascade
);

create table bridge.dead_letter (
    sink text not null,
    name text not null,
    number integer not null,
    key text not null,
    view text not null,
    parts text[] not null,
    stage text not null check (stage in ('derive', 'deliver')),
    reason text not null,
    version bigint not null,
    first_seen timestamptz not null default clock_timestamp(),
    last_seen timestamptz not null default clock_timestamp(),
    attempts integer not null default 1,
    primary key (sink, name, number, key),
    foreign key (sink, name, number) references bridge.generation on delete cascade
);

create index dead_letter_view on bridge.dead_letter (view, key);

-- What the continuous comparison has found: documents that are not what the source says.
-- A row goes when its document is found right again. As everywhere, of the user's rows
-- nothing is kept but keys, and names of columns.
create table bridge.difference (
    sink text not null,
    name text not null,
    number integer not null,
    key text not null,
    parts text[] not null,
    kind text not null check (kind in ('missing', 'different', 'extra')),
    fields text[] not null default '{}',
    found_at timestamptz not null default clock_timestamp(),
    primary key (sink, name, number, key),
    foreign key (sink, name, number) references bridge.generation on delete cascade
);

-- What operators ask for, and the work that comes of it.
--
-- A command is a row; a transactional logical message carries its id alone, as its place
-- in the log. The functions are the only way in for others, by `grant execute`; each
-- public name stands before a function with a version suffix.

create table bridge.command (
    id bigint generated always as identity primary key,
    kind text not null check (
        kind in (
            'backfill', 'promote', 'rollback', 'pause', 'resume', 'cancel', 'retry',
            'configure'
        )
    ),
    arguments jsonb not null,
    issued_by text not null default session_user,
    issued_at timestamptz not null default clock_timestamp(),
    state text not null default 'pending'
        check (state in ('pending', 'running', 'done', 'failed', 'cancelled')),
    message text not null default '',
    -- End of the commit that issued it.
    lsn pg_lsn,
    started_at timestamptz,
    finished_at timestamptz
);

create index command_open on bridge.command (id) where state in ('pending', 'running');

create table bridge.backfill (
    id bigint generated always as identity primary key,
    command bigint references bridge.command,
    view text not null,
    sink text not null,
    name text not null,
    number integer not null,
    kind text not null check (kind in ('build', 'sweep', 'keys', 'where')),
    condition text,
    keys text[],
    state text not null default 'waiting'
        check (state in ('waiting', 'running', 'done', 'cancelled', 'failed')),
    message text not null default '',
    -- The marker it derives at; null: none was put into the log yet.
    epoch integer,
    lsn pg_lsn,
    documents bigint not null default 0,
    estimate bigint,
    created_at timestamptz not null default clock_timestamp(),
    started_at timestamptz,
    finished_at timestamptz,
    -- Since when the daemon that carries it out counts, and from how many on.
    counted_at timestamptz,
    counted_from bigint not null default 0,
    check ((kind = 'keys') = (keys is not null)),
    check ((kind = 'where') = (condition is not null)),
    foreign key (sink, name, number) references bridge.generation on delete cascade
);

create index backfill_open on bridge.backfill (id) where state in ('waiting', 'running');

create index backfill_generation on bridge.backfill (sink, name, number);

create index backfill_command on bridge.backfill (command);

create table bridge.backfill_range (
    backfill bigint not null references bridge.backfill on delete cascade,
    seq integer not null,
    -- Exclusive; null: from the first key.
    lower text[],
    -- Inclusive; null: to the last key.
    upper text[],
    done boolean not null default false,
    primary key (backfill, seq)
);

-- The targets of a view that are kept, all or those of one SINK or SINK/NAME.
create function bridge.targets_v1(wanted_view text, wanted_target text)
returns table (sink text, name text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    if not exists (select from bridge.view v where v.name = wanted_view) then
        raise exception 'there is no view %', coalesce(quote_ident(wanted_view), 'null')
            using errcode = 'undefined_object',
                hint = 'The views are: ' || coalesce(
                    (select string_agg(v.name, ', ' order by v.name) from bridge.view v),
                    'none'
                );
    end if;
    return query
    select t.sink, t.name
    from bridge.target t
    where t.view = wanted_view
        and t.wanted
        and (wanted_target is null or wanted_target in (t.sink, t.sink || '/' || t.name))
    order by t.sink, t.name;
    if not found then
        raise exception 'view % has no target %', wanted_view, coalesce(wanted_target, '')
            using errcode = 'undefined_object',
                hint = 'Its targets are: ' || coalesce(
                    (
                        select string_agg(t.sink || '/' || t.name, ', ')
                        from bridge.target t
                        where t.view = wanted_view and t.wanted
                    ),
                    'none'
                );
    end if;
end
$$;

-- The same with the generation that is in one of these states, the first that is.
create function bridge.generations_v1(
    wanted_view text, wanted_target text, states text[]
)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
        jsonb_agg(
            jsonb_build_object('sink', t.sink, 'name', t.name, 'number', g.number)
            order by t.sink, t.name
        ),
        '[]'
    )
    from bridge.targets_v1(wanted_view, wanted_target) t
    cross join lateral (
        select g.number
        from bridge.generation g
        where g.sink = t.sink and g.name = t.name and g.state = any(states)
        order by array_position(states, g.state)
        limit 1
    ) g
$$;

-- Only what was committed is carried out, where its message stands in the log.
create function bridge.issue_v1(kind text, arguments jsonb)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    issued bigint;
begin
    insert into bridge.command (kind, arguments)
    values (issue_v1.kind, jsonb_strip_nulls(issue_v1.arguments))
    returning id into issued;
    perform pg_logical_emit_message(true, 'pgbridge', 'command:' || issued);
    return issued;
end
$$;

create function bridge.backfill_v1(
    wanted_view text,
    wanted_target text,
    wanted_keys text[],
    wanted_condition text,
    rebuild boolean
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    generations jsonb;
begin
    if num_nonnulls(wanted_keys, wanted_condition, nullif(rebuild, false)) > 1 then
        raise exception 'keys, condition and rebuild exclude each other'
            using errcode = 'invalid_parameter_value';
    end if;
    if cardinality(wanted_keys) = 0 or array_position(wanted_keys, null) is not null
        or array_ndims(wanted_keys) > 1 then
        raise exception 'keys are a list of texts, at least one and none null'
            using errcode = 'invalid_parameter_value';
    end if;
    if cardinality(wanted_keys) > 100000 or length(wanted_condition) > 65536 then
        raise exception 'at most 100000 keys, or a condition of 65536 characters'
            using errcode = 'program_limit_exceeded',
                hint = 'Leave them out to derive the whole view again.';
    end if;
    -- A condition is SQL that the bridge runs with its own rights.
    if wanted_condition is not null
        and not pg_has_role(session_user, current_user, 'member') then
        raise exception 'a condition may be given only by members of role %', current_user
            using errcode = 'insufficient_privilege',
                hint = 'Give keys, or derive the whole view again.';
    end if;
    generations := bridge.generations_v1(
        wanted_view, wanted_target, array['live', 'building']
    );
    if generations = '[]' and not coalesce(rebuild, false) then
        raise exception 'view % has nothing built that could be filled again', wanted_view
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'It is built by the running bridge: see bridge.status().';
    end if;
    return bridge.issue_v1('backfill', jsonb_build_object(
        'view', wanted_view,
        'target', wanted_target,
        'keys', to_jsonb(wanted_keys),
        'condition', wanted_condition,
        'rebuild', coalesce(rebuild, false),
        'generations', generations
    ));
end
$$;

create function bridge.switch_v1(
    kind text, wanted_view text, wanted_target text, state text, force boolean
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    generations jsonb := bridge.generations_v1(wanted_view, wanted_target, array[state]);
begin
    if generations = '[]' then
        raise exception 'view % has no % generation', wanted_view, state
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'See bridge.status() for the generations that there are.';
    end if;
    return bridge.issue_v1(switch_v1.kind, jsonb_build_object(
        'view', wanted_view,
        'generations', generations,
        'force', coalesce(force, false)
    ));
end
$$;

create function bridge.address_v1(kind text, wanted_sink text)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (select from bridge.sink s where s.name = wanted_sink) then
        raise exception 'there is no sink %', coalesce(quote_ident(wanted_sink), 'null')
            using errcode = 'undefined_object',
                hint = 'The sinks are: ' || coalesce(
                    (select string_agg(s.name, ', ' order by s.name) from bridge.sink s),
                    'none'
                );
    end if;
    return bridge.issue_v1(
        address_v1.kind, jsonb_build_object('sink', wanted_sink)
    );
end
$$;

create function bridge.cancel_v1(wanted_id bigint)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (
        select
        from bridge.command c
        where c.id = wanted_id and c.kind in ('backfill', 'retry')
    ) then
        raise exception 'there is no backfill %', wanted_id
            using errcode = 'undefined_object';
    end if;
    return bridge.issue_v1('cancel', jsonb_build_object('id', wanted_id));
end
$$;

create function bridge.retry_v1(wanted_view text, wanted_keys text[])
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Also says that the view is not there.
    perform from bridge.targets_v1(wanted_view, null);
    return bridge.issue_v1('retry', jsonb_build_object(
        'view', wanted_view,
        'keys', to_jsonb(wanted_keys)
    ));
end
$$;

create function bridge.backfill(
    view text,
    target text default null,
    keys text[] default null,
    condition text default null,
    rebuild boolean default false
)
returns bigint
language sql
security definer
set search_path = pg_catalog, pg_temp
as $$ select bridge.backfill_v1($1, $2, $3, $4, $5) $$;

create function bridge.promote(
    view text, target text default null, force boolean default false
)
returns bigint
language sql
security definer
set search_path = pg_catalog, pg_temp
as $$ select bridge.switch_v1('promote', $1, $2, 'building', $3) $$;

create function bridge.rollback(view text, target text default null)
returns bigint
language sql
security definer
set search_path = pg_catalog, pg_temp
as $$ select bridge.switch_v1('rollback', $1, $2, 'previous', false) $$;

create function bridge.pause(sink text)
returns bigint
language sql
security definer
set search_path = pg_catalog, pg_temp
as $$ select bridge.address_v1('pause', $1) $$;

create function bridge.resume(sink text)
returns bigint
language sql
security definer
set search_path = pg_catalog, pg_temp
as $$ select bridge.address_v1('resume', $1) $$;

create function bridge.cancel(id bigint)
returns bigint
language sql
security definer
set search_path = pg_catalog, pg_temp
as $$ select bridge.cancel_v1($1) $$;

create function bridge.retry(view text, keys text[] default null)
returns bigint
language sql
security definer
set search_path = pg_catalog, pg_temp
as $$ select bridge.retry_v1($1, $2) $$;

comment on function bridge.backfill is
'Derive documents of a view again, ordered with the data; the id of the command.';
comment on function bridge.promote is
'Let readers see the building generation of a view; the id of the command.';
comment on function bridge.rollback is
'Let readers see the previous generation of a view again; the id of the command.';
comment on function bridge.pause is
'Stop writing to one sink, the others unaffected; the id of the command.';
comment on function bridge.resume is
'Go on writing to one sink; the id of the command.';
comment on function bridge.cancel is
'Stop a backfill by the id that bridge.backfill gave; the id of the command.';
comment on function bridge.retry is
'Derive the dead letters of a view again; the id of the command.';

revoke all on all functions in schema bridge from public;

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
-- earlier statement: what is still owed is recorded before the slot moves past it. One
-- that missed changes, whose view's plan is '', holds everything up to nowhere, whatever
-- has been written for it since.
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
as $$ select bridge.wait_for_v2($1, $2, $3) $$;

comment on function bridge.status is
'A row for each target: state, generations, position, lag, dead letters.';
comment on function bridge.wait_for is
'Read-your-writes: true once everything up to the LSN is in every target of the view, false when the timeout comes first. Call it after the commit with pg_current_wal_flush_lsn().';

revoke all on all functions in schema bridge from public;
-- Waiting tells nothing but whether; everything else is granted by the operator.
grant usage on schema bridge to public;
grant execute on function bridge.wait_for to public;
