-- traces: a digest of each aspect of these relations and types that documents depend on;
-- of functions, `functions.sql` tells it
with leaves as (
    select c.oid as root, l.oid as leaf, l.relreplident, l.relfilenode
      from pg_catalog.pg_class c
      left join lateral pg_catalog.pg_partition_tree(c.oid) p on c.relkind = 'p'
      join pg_catalog.pg_class l on l.oid = coalesce(p.relid, c.oid)
     where c.oid = any ($1::oid[]) and (c.relkind <> 'p' or p.isleaf)
)
select 'relation', c.oid::int8, 'name',
       pg_catalog.md5(concat_ws(' ', n.nspname, c.relname, c.relkind, c.relpersistence))
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where c.oid = any ($1::oid[])
union all
select 'relation', a.attrelid::int8, 'columns',
       pg_catalog.md5(pg_catalog.string_agg(
           concat_ws(' ', a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull,
                     a.attgenerated, a.attcollation,
                     case when a.attgenerated <> '' then d.adbin::text end),
           ';' order by a.attnum))
  from pg_catalog.pg_attribute a
  left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
 where a.attrelid = any ($1::oid[]) and a.attnum > 0 and not a.attisdropped
 group by a.attrelid
union all
select 'relation', l.root::int8, 'leaves',
       pg_catalog.md5(pg_catalog.string_agg(l.leaf::text, ' ' order by l.leaf))
  from leaves l group by l.root
union all
select 'relation', l.root::int8, 'storage',
       pg_catalog.md5(pg_catalog.string_agg(l.relfilenode::text, ' ' order by l.leaf))
  from leaves l group by l.root
union all
select 'relation', l.root::int8, 'identity',
       pg_catalog.md5(pg_catalog.string_agg(
           concat_ws(' ', l.leaf, l.relreplident, i.indexrelid, i.indkey),
           ';' order by l.leaf, i.indexrelid))
  from leaves l
  left join pg_catalog.pg_index i on i.indrelid = l.leaf
   and (i.indisreplident or i.indisprimary)
 group by l.root
union all
select 'relation', r.ev_class::int8, 'definition', pg_catalog.md5(r.ev_action::text)
  from pg_catalog.pg_rewrite r
 where r.ev_class = any ($1::oid[]) and r.ev_type = '1'
union all
select 'type', t.oid::int8, 'definition',
       pg_catalog.md5(concat_ws(' ', t.typname, t.typnamespace, t.typtype, t.typbasetype,
                                t.typtypmod, t.typelem, (
           select pg_catalog.string_agg(e.enumlabel, ',' order by e.enumsortorder)
             from pg_catalog.pg_enum e where e.enumtypid = t.oid), (
           select pg_catalog.string_agg(concat_ws(' ', a.attname, a.atttypid,
                                                  a.atttypmod), ',' order by a.attnum)
             from pg_catalog.pg_attribute a
            where a.attrelid = t.typrelid and t.typtype = 'c' and a.attnum > 0
              and not a.attisdropped)))
  from pg_catalog.pg_type t where t.oid = any ($2::oid[])
