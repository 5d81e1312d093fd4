-- name: create_backfill
-- Plan a backfill, or find the same one that is still open.
with open as (
    select b.id
    from bridge.backfill b
    where b.sink = %(sink)s and b.name = %(name)s and b.number = %(number)s
        and b.kind = %(kind)s
        and b.command is not distinct from %(command)s::bigint
        and b.condition is not distinct from %(condition)s::text
        and b.keys is not distinct from %(keys)s::text[]
        and (b.command is not null or b.state in ('waiting', 'running'))
    order by b.id
    limit 1
),
created as (
    insert into bridge.backfill (
        command, view, sink, name, number, kind, condition, keys
    )
    select
        %(command)s::bigint, %(view)s, %(sink)s, %(name)s, %(number)s, %(kind)s,
        %(condition)s::text, %(keys)s::text[]
    where not exists (select from open)
    returning id
)
select id from created union all select id from open;

-- name: list_backfills
-- Backfills in the order of their ids: all, the open, those of a command, or one.
select
    id, command, view, sink, name, number, kind, condition, keys, state, message,
    epoch, lsn::text, documents, estimate, created_at, started_at, finished_at,
    documents - counted_from as counted,
    extract(epoch from clock_timestamp() - counted_at)::double precision as counted_s
from bridge.backfill
where (not %(open)s or state in ('waiting', 'running'))
    and (%(command)s::bigint is null or command = %(command)s)
    and (%(id)s::bigint is null or id = %(id)s)
order by id;

-- name: start_backfill
-- It runs; the marker and the estimate replace those of an earlier start, and from an
-- estimate on it is counted how fast it is.
update bridge.backfill
set
    state = 'running',
    epoch = coalesce(%(epoch)s::integer, epoch),
    lsn = coalesce(%(lsn)s::pg_lsn, lsn),
    estimate = coalesce(%(estimate)s::bigint, estimate),
    started_at = coalesce(started_at, clock_timestamp()),
    counted_at = case
        when %(estimate)s::bigint is null then counted_at
        else clock_timestamp()
    end,
    counted_from = case
        when %(estimate)s::bigint is null then counted_from
        else documents
    end
where id = %(id)s and state in ('waiting', 'running');

-- name: finish_backfill
-- It has ended, once and for all.
update bridge.backfill
set
    state = %(state)s,
    message = %(message)s,
    finished_at = clock_timestamp()
where id = %(id)s and state in ('waiting', 'running');

-- name: count_backfill
-- How many documents of a backfill without ranges are kept.
update bridge.backfill
set documents = %(documents)s
where id = %(id)s;

-- name: adopt_backfill
-- A backfill that nobody asked for is done for a command.
update bridge.backfill
set command = %(command)s
where id = %(id)s and command is null;

-- name: restart_backfill
-- Everything is to be done again.
with cleared as (
    delete from bridge.backfill_range where backfill = %(id)s
)
update bridge.backfill
set state = 'waiting', documents = 0, epoch = null, lsn = null, estimate = null,
    counted_at = null, counted_from = 0
where id = %(id)s and state in ('waiting', 'running');

-- name: add_ranges
-- Ranges that are to be done; those that are there stay as they are.
insert into bridge.backfill_range (backfill, seq, lower, upper)
select %(id)s, r.seq, r.lower::text[], r.upper::text[]
from unnest(%(seqs)s::integer[], %(lowers)s::text[], %(uppers)s::text[])
    r (seq, lower, upper)
on conflict (backfill, seq) do nothing;

-- name: list_ranges
-- The ranges of a backfill, in order.
select seq, lower, upper, done
from bridge.backfill_range
where backfill = %(id)s
order by seq;

-- name: finish_ranges
-- These ranges are kept; their documents are counted once.
with finished as (
    update bridge.backfill_range r
    set done = true
    from unnest(%(seqs)s::integer[]) f (seq)
    where r.backfill = %(id)s and r.seq = f.seq and not r.done
    returning r.seq
)
update bridge.backfill
set documents = documents + %(documents)s
where id = %(id)s and exists (select from finished);
