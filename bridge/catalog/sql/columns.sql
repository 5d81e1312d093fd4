-- columns: the columns of these relations in order
select a.attrelid::int8, a.attname::text, a.attnum::int4, a.atttypid::int8,
       a.atttypmod, a.attnotnull, a.attgenerated::text,
       coalesce(l.collisdeterministic, true),
       case when a.attgenerated <> ''
            then pg_catalog.pg_get_expr(d.adbin, d.adrelid) end,
       case when a.attcollation <> t.typcollation
            then array[n.nspname::text, l.collname::text] end
  from pg_catalog.pg_attribute a
  join pg_catalog.pg_type t on t.oid = a.atttypid
  left join pg_catalog.pg_collation l on l.oid = a.attcollation
  left join pg_catalog.pg_namespace n on n.oid = l.collnamespace
  left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
 where a.attrelid = any ($1::oid[]) and a.attnum > 0 and not a.attisdropped
 order by a.attrelid, a.attnum
