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
