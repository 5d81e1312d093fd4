-- name: save_differences
-- Documents that are wrong, as long as there are not too many of the generation.
insert into bridge.difference as d (sink, name, number, key, parts, kind, fields)
select %(sink)s, %(name)s, %(number)s, f.key, f.parts::text[], f.kind, f.fields::text[]
from unnest(
    %(keys)s::text[], %(parts)s::text[], %(kinds)s::text[], %(fields)s::text[]
) f (key, parts, kind, fields)
where exists (
    select
    from bridge.generation g
    where g.sink = %(sink)s and g.name = %(name)s and g.number = %(number)s
)
and (
    select count(*) < %(count_max)s
    from bridge.difference d
    where d.sink = %(sink)s and d.name = %(name)s and d.number = %(number)s
)
on conflict (sink, name, number, key) do update set
    kind = excluded.kind,
    fields = excluded.fields
where (d.kind, d.fields) is distinct from (excluded.kind, excluded.fields);

-- name: clear_differences
-- Documents that are right again.
delete from bridge.difference
where sink = %(sink)s and name = %(name)s and number = %(number)s
    and key = any(%(keys)s::text[]);

-- name: difference_parts
-- The keys of a generation whose documents were wrong when they were last looked at.
select key, parts
from bridge.difference
where sink = %(sink)s and name = %(name)s and number = %(number)s
order by key;

-- name: count_differences
-- How many documents of each generation are known to be wrong.
select sink, name, number, count(*) as count
from bridge.difference
group by sink, name, number
order by sink, name, number;
