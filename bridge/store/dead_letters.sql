-- name: save_letters
-- Documents refused for good; one that was refused before is another attempt.
insert into bridge.dead_letter as d (
    sink, name, number, key, view, parts, stage, reason, version
)
select
    %(sink)s, %(name)s, %(number)s, l.key, %(view)s, l.parts::text[], l.stage,
    l.reason, l.version
from unnest(
    %(keys)s::text[], %(parts)s::text[], %(stages)s::text[], %(reasons)s::text[],
    %(versions)s::bigint[]
) l (key, parts, stage, reason, version)
where exists (
    select
    from bridge.generation g
    where g.sink = %(sink)s and g.name = %(name)s and g.number = %(number)s
)
on conflict (sink, name, number, key) do update set
    stage = excluded.stage,
    reason = excluded.reason,
    version = excluded.version,
    last_seen = clock_timestamp(),
    attempts = d.attempts + 1
where d.version <= excluded.version;

-- name: clear_letters
-- These keys were kept at these versions; one refused at a later version stays.
delete from bridge.dead_letter d
using unnest(%(keys)s::text[], %(versions)s::bigint[]) k (key, version)
where d.sink = %(sink)s and d.name = %(name)s and d.number = %(number)s
    and d.key = k.key
    and d.version <= k.version;

-- name: list_letters
-- Dead letters, all or of a view or key: the first of those that come after one.
select
    view, sink, name, number, key, parts, stage, reason, version, first_seen,
    last_seen, attempts
from bridge.dead_letter
where (%(view)s::text is null or view = %(view)s)
    and (%(keys)s::text[] is null or key = any(%(keys)s))
    and (
        %(after_view)s::text is null
        or (view, sink, name, number, key) > (
            %(after_view)s::text, %(after_sink)s::text, %(after_name)s::text,
            %(after_number)s::integer, %(after_key)s::text
        )
    )
order by view, sink, name, number, key
limit %(count)s;

-- name: total_letters
-- How many dead letters there are, in all or of a view or key.
select count(*) as count
from bridge.dead_letter
where (%(view)s::text is null or view = %(view)s)
    and (%(keys)s::text[] is null or key = any(%(keys)s));

-- name: drop_letters
-- Forget dead letters, all or of a view or some of its keys.
delete from bridge.dead_letter
where (%(view)s::text is null or view = %(view)s)
    and (%(keys)s::text[] is null or key = any(%(keys)s));

-- name: letter_keys
-- The keys that have a dead letter, of every generation.
select sink, name, number, key, version
from bridge.dead_letter
order by sink, name, number, key;

-- name: count_letters
-- How many dead letters each generation has.
select sink, name, number, count(*) as count
from bridge.dead_letter
group by sink, name, number
order by sink, name, number;
