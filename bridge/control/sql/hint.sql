-- A text that changes whenever one of these views, functions or types was touched.
select coalesce(md5(string_agg(found.what, ',' order by found.what)), '') as hint
from (
    select concat_ws('/', 'v', c.oid, c.xmin, r.xmin) as what
    from pg_class c
    left join pg_rewrite r on r.ev_class = c.oid
    where c.oid = any(%(views)s::oid[])
    union all
    select concat_ws('/', 'f', p.oid, p.xmin)
    from pg_proc p
    where p.oid = any(%(functions)s::oid[])
    union all
    select concat_ws('/', 't', t.oid, t.xmin)
    from pg_type t
    where t.oid = any(%(types)s::oid[])
    union all
    select concat_ws('/', 'e', e.oid, e.xmin)
    from pg_enum e
    where e.enumtypid = any(%(types)s::oid[])
    union all
    select concat_ws('/', 'a', a.attrelid, a.attnum, a.xmin)
    from pg_type t
    join pg_attribute a on a.attrelid = t.typrelid
    where t.oid = any(%(types)s::oid[]) and t.typtype = 'c' and a.attnum > 0
) found;
