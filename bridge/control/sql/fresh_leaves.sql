-- Which of these partitions were made as such, empty, by one statement, below tables
-- that were there before. To attach a table is to alter its columns.
select c.oid::int8 as oid
from pg_class c
join pg_type t on t.oid = c.reltype
join pg_inherits i on i.inhrelid = c.oid
where c.oid = any(%(oids)s::oid[])
    and i.inhparent = any(%(branches)s::oid[])
    and i.xmin = t.xmin
    and not exists (
        select
        from pg_attribute a
        where a.attrelid = c.oid
            and a.attnum > 0
            and (a.xmin <> t.xmin or a.cmin::text <> t.cmin::text)
    );
