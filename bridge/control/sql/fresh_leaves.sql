-- Which of these partitions have no rows: a file of no bytes. One that was filled before
-- it was attached has some, in whatever transaction that was done.
select c.oid::int8 as oid
from pg_class c
where c.oid = any(%(oids)s::oid[])
    and pg_relation_size(c.oid) = 0;
