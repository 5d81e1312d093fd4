-- name: save_view
-- A view as it is applied.
insert into bridge.view (name, definition, fingerprint)
values (%(name)s, %(definition)s, %(fingerprint)s)
on conflict (name) do update set
    definition = excluded.definition,
    fingerprint = excluded.fingerprint,
    applied_at = clock_timestamp()
where (view.definition, view.fingerprint)
    is distinct from (excluded.definition, excluded.fingerprint);

-- name: list_views
-- All views by name.
select name, definition, fingerprint, applied_at
from bridge.view
order by name;

-- name: remove_view
-- Forget a view that has no targets left.
delete from bridge.view v
where v.name = %(name)s
    and not exists (select from bridge.target t where t.view = v.name);

-- name: save_target
-- A target as it is applied; one that was no longer wanted is wanted again.
insert into bridge.target (sink, name, view, definition, fingerprint)
values (%(sink)s, %(name)s, %(view)s, %(definition)s, %(fingerprint)s)
on conflict (sink, name) do update set
    view = excluded.view,
    definition = excluded.definition,
    fingerprint = excluded.fingerprint,
    wanted = true,
    applied_at = clock_timestamp()
where (target.view, target.definition, target.fingerprint, target.wanted)
    is distinct from (excluded.view, excluded.definition, excluded.fingerprint, true);

-- name: list_targets
-- All targets, the unwanted too.
select sink, name, view, definition, fingerprint, wanted, next_generation
from bridge.target
order by sink, name;

-- name: unwant_target
-- Feed a target no more; what was built is kept.
update bridge.target
set wanted = false
where sink = %(sink)s and name = %(name)s and wanted;

-- name: remove_target
-- Forget a target and everything that hangs on it.
delete from bridge.target
where sink = %(sink)s and name = %(name)s;

-- name: create_generation
-- Begin a build, or find the one begun with the same fingerprints.
with begun as (
    select g.sink, g.name, g.number
    from bridge.generation g
    where g.sink = %(sink)s and g.name = %(name)s and g.state = 'building'
        and g.fingerprint = %(fingerprint)s
        and g.view_fingerprint = %(view_fingerprint)s
),
numbered as (
    update bridge.target t
    set next_generation = t.next_generation + 1
    where t.sink = %(sink)s and t.name = %(name)s and not exists (select from begun)
    returning t.sink, t.name, t.next_generation - 1 as number
),
created as (
    insert into bridge.generation (
        sink, name, number, state, fingerprint, view_fingerprint, definition
    )
    select
        sink, name, number, 'building', %(fingerprint)s, %(view_fingerprint)s,
        %(definition)s
    from numbered
    returning number
)
select number from created union all select number from begun;

-- name: list_generations
-- All generations of all targets, the dropped too.
select
    g.sink, g.name, g.number, t.view, g.state, g.fingerprint, g.view_fingerprint,
    g.documents, g.progress, g.halted, g.sweep, g.created_at, g.prepared_at,
    g.published_at,
    -- A database that is yet to be migrated has no such column.
    coalesce(to_jsonb(g) -> 'definition', '{}') as definition
from bridge.generation g
join bridge.target t using (sink, name)
order by g.sink, g.name, g.number;

-- name: set_prepared
-- The generation's place in the sink was made.
update bridge.generation
set prepared_at = clock_timestamp()
where sink = %(sink)s and name = %(name)s and number = %(number)s
    and prepared_at is null;

-- name: alter_generation
-- The generation is for something else from now on; its place is yet to be made so.
update bridge.generation
set fingerprint = %(fingerprint)s, definition = %(definition)s, prepared_at = null
where sink = %(sink)s and name = %(name)s and number = %(number)s;

-- name: promote
-- Building becomes live, live previous, previous dropped: all at once, or nothing.
update bridge.generation g
set
    state = case g.state
        when 'building' then 'live' when 'live' then 'previous' else 'dropped'
    end,
    progress = case g.state when 'building' then 1 else g.progress end,
    published_at = case g.state
        when 'building' then clock_timestamp() else g.published_at
    end
where g.sink = %(sink)s and g.name = %(name)s and g.state <> 'dropped'
    and exists (
        select
        from bridge.generation b
        where b.sink = %(sink)s and b.name = %(name)s and b.number = %(number)s
            and b.state = 'building'
    )
returning g.number, g.state;

-- name: roll_back
-- Previous becomes live again and live previous: both at once, or nothing.
update bridge.generation g
set
    state = case g.state when 'live' then 'previous' else 'live' end,
    published_at = case g.state
        when 'previous' then clock_timestamp() else g.published_at
    end
where g.sink = %(sink)s and g.name = %(name)s and g.state in ('live', 'previous')
    and exists (
        select
        from bridge.generation p
        where p.sink = %(sink)s and p.name = %(name)s and p.number = %(number)s
            and p.state = 'previous'
    )
returning g.number, g.state;

-- name: state_of_generation
-- Where one generation is in its life.
select state
from bridge.generation
where sink = %(sink)s and name = %(name)s and number = %(number)s;

-- name: drop_generation
-- Feed a generation no more; its open backfills end.
with dropped as (
    update bridge.generation
    set state = 'dropped', halted = null
    where sink = %(sink)s and name = %(name)s and number = %(number)s
        and state <> 'dropped'
    returning sink, name, number
)
update bridge.backfill b
set
    state = 'cancelled',
    message = 'the generation was dropped',
    finished_at = clock_timestamp()
from dropped d
where b.sink = d.sink and b.name = d.name and b.number = d.number
    and b.state in ('waiting', 'running');

-- name: forget_generation
-- Its place in the sink is gone: everything that hangs on it goes.
delete from bridge.generation
where sink = %(sink)s and name = %(name)s and number = %(number)s
    and state = 'dropped';

-- name: halt_generation
-- Why it stopped, or null: it goes on.
update bridge.generation
set halted = %(reason)s
where sink = %(sink)s and name = %(name)s and number = %(number)s
    and halted is distinct from %(reason)s;

-- name: set_sweep
-- Whether every key of the generation is to be derived again.
update bridge.generation
set sweep = %(sweep)s
where sink = %(sink)s and name = %(name)s and number = %(number)s
    and sweep <> %(sweep)s;

-- name: save_counts
-- Documents and progress of many generations; only what differs is written.
update bridge.generation g
set documents = c.documents, progress = c.progress
from unnest(
    %(sinks)s::text[], %(names)s::text[], %(numbers)s::integer[],
    %(documents)s::bigint[], %(progress)s::real[]
) c (sink, name, number, documents, progress)
where g.sink = c.sink and g.name = c.name and g.number = c.number
    and (g.documents, g.progress) is distinct from (c.documents, c.progress);

-- name: set_view_fingerprint
-- All documents of the generation are now those of this plan of the view.
update bridge.generation
set view_fingerprint = %(view_fingerprint)s
where sink = %(sink)s and name = %(name)s and number = %(number)s
    and view_fingerprint <> %(view_fingerprint)s;
