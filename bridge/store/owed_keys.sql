-- name: add_owed
-- Keys owed to a generation; of two positions for one key the higher stays.
insert into bridge.owed_key as o (sink, name, number, key, parts, epoch, lsn)
select %(sink)s, %(name)s, %(number)s, k.key, k.parts::text[], k.epoch, k.lsn
from unnest(
    %(keys)s::text[], %(parts)s::text[], %(epochs)s::integer[], %(lsns)s::pg_lsn[]
) k (key, parts, epoch, lsn)
where exists (
    select
    from bridge.generation g
    where g.sink = %(sink)s and g.name = %(name)s and g.number = %(number)s
)
on conflict (sink, name, number, key) do update set
    epoch = excluded.epoch, lsn = excluded.lsn
where (o.epoch, o.lsn) < (excluded.epoch, excluded.lsn);

-- name: page_owed
-- Some of the keys owed to a generation, by key, after one.
select key, parts, epoch, lsn::text
from bridge.owed_key
where sink = %(sink)s and name = %(name)s and number = %(number)s
    and key > %(after)s
order by key
limit %(count)s;

-- name: remove_owed
-- These keys were kept at these positions; one asked for later stays.
delete from bridge.owed_key o
using unnest(%(keys)s::text[], %(epochs)s::integer[], %(lsns)s::pg_lsn[])
    k (key, epoch, lsn)
where o.sink = %(sink)s and o.name = %(name)s and o.number = %(number)s
    and o.key = k.key
    and (o.epoch, o.lsn) <= (k.epoch, k.lsn);

-- name: remove_owed_up_to
-- A sweep at this position has covered every key.
delete from bridge.owed_key
where sink = %(sink)s and name = %(name)s and number = %(number)s
    and (epoch, lsn) <= (%(epoch)s, %(lsn)s::pg_lsn);

-- name: count_owed
-- How many keys are owed to each generation.
select sink, name, number, count(*) as count
from bridge.owed_key
group by sink, name, number
order by sink, name, number;
