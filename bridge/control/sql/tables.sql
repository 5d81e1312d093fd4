-- Every ordinary or partitioned table that the role may read, with its columns in
-- order, and the columns of its primary key.
select c.oid,
       n.nspname as schema,
       c.relname as name,
       greatest(c.reltuples, 0)::bigint as rows,
       array(select a.attname::text
               from pg_attribute a
              where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
              order by a.attnum) as columns,
       array(select a.attname::text
               from pg_index i,
                    unnest(i.indkey::smallint[]) with ordinality as k (attnum, place)
               join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
              where i.indrelid = c.oid and i.indisprimary and i.indimmediate
                and k.place <= i.indnkeyatts
              order by k.place) as primary_key
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('r', 'p')
   and not c.relispartition
   and c.relpersistence = 'p'
   and not c.relrowsecurity
   and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast', 'bridge')
   and not exists (select from pg_depend d
                    where d.classid = 'pg_class'::regclass and d.objid = c.oid
                      and d.deptype = 'e')
   and has_schema_privilege(n.oid, 'usage')
   and has_table_privilege(c.oid, 'select')
 order by n.nspname, c.relname
