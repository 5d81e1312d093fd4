-- Which of these partitions were made as such, empty, by one statement, below tables
-- that were there before. To attach a table is to alter its columns; those of the system
-- (`tableoid` is one) stay as they were made, whoever owns the table later.
select c.oid::int8 as oid
from pg_class c
join pg_attribute made on made.attrelid = c.oid and made.attname = 'tableoid'
join pg_inherits i on i.inhrelid = c.oid
where c.oid = any(%(oids)s::oid[])
    and i.inhparent = any(%(branches)s::oid[])
    and i.xmin = made.xmin
    and not exists (
        select
        from pg_attribute a
        where a.attrelid = c.oid
            and a.attnum > 0
            and (a.xmin <> made.xmin or a.cmin::text <> made.cmin::text)
    );
