-- indexes: the indexes of these tables, with their key columns in order
select i.indrelid::int8, i.indexrelid::int8, c.relname::text,
       array(select a.attname::text
               from pg_catalog.unnest(i.indkey::int2[]) with ordinality k(number, place)
               left join pg_catalog.pg_attribute a
                 on a.attrelid = i.indrelid and a.attnum = k.number
              where k.place <= i.indnkeyatts
              order by k.place),
       i.indisunique, i.indisprimary, i.indimmediate,
       i.indisvalid and i.indisready and i.indislive,
       i.indpred is not null, m.amname::text
  from pg_catalog.pg_index i
  join pg_catalog.pg_class c on c.oid = i.indexrelid
  join pg_catalog.pg_am m on m.oid = c.relam
 where i.indrelid = any ($1::oid[])
 order by i.indrelid, c.relname
