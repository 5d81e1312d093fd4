-- Which of these partitions were empty when they became partitions: made as such by one
-- statement. Attaching a table takes several, filling it before one more.
select c.oid::int8 as oid
from pg_class c
join pg_type t on t.oid = c.reltype
join pg_inherits i on i.inhrelid = c.oid
where c.oid = any(%(oids)s::oid[])
    and t.xmin = i.xmin
    and i.cmin::text::int8 - t.cmin::text::int8 <= 2;
