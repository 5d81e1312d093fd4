-- leaves: the tables with rows behind each of these (itself, or its partitions), with
-- the columns whose old values their changes carry (null: all)
with wanted as (
    select c.oid as root, coalesce(p.relid, c.oid) as leaf
      from pg_catalog.pg_class c
      left join lateral pg_catalog.pg_partition_tree(c.oid) p on c.relkind = 'p'
     where c.oid = any ($1::oid[]) and (c.relkind <> 'p' or p.isleaf)
)
select w.root::int8, c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text,
       c.relpersistence::text, c.relreplident::text,
       case when c.relreplident <> 'f' then array(
           select a.attname::text
             from pg_catalog.pg_index i
             join pg_catalog.pg_attribute a on a.attrelid = i.indrelid
              and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1])
            where i.indrelid = c.oid and i.indimmediate and i.indisvalid
              and case c.relreplident when 'd' then i.indisprimary
                                      when 'i' then i.indisreplident
                                      else false end) end,
       (select array(select a.attname::text from pg_catalog.pg_attribute a
                      where a.attrelid = i.indrelid
                        and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
          from pg_catalog.pg_index i
         where i.indrelid = c.oid and i.indisprimary
           and i.indimmediate and i.indisvalid),
       array(select a.attname::text from pg_catalog.pg_attribute a
              where a.attrelid = c.oid and a.attnum > 0 and a.attgenerated <> ''),
       c.relfilenode::int8, c.reltuples::float8,
       array(select a.attname::text from pg_catalog.pg_attribute a
              where a.attrelid = c.oid and a.attnum > 0 and a.attnotnull)
  from wanted w
  join pg_catalog.pg_class c on c.oid = w.leaf
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 order by 1, 3, 4
