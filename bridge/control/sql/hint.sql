-- A text that changes whenever one of these views, functions or types was touched.
select coalesce(md5(string_agg(found.what, ',' order by found.what)), '') as hint
from (
    select concat_ws('/', 'v', r.oid, r.xmin) as what
    from pg_rewrite r
    where r.ev_class = any(%(views)s::oid[])
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
) found;
