-- Every foreign key between tables: the columns on both sides in the same order, and
-- whether the referring side may be null (then there may be no row to join).
select k.conname as name,
       k.conrelid as referring,
       k.confrelid as referred,
       array(select a.attname::text
               from unnest(k.conkey) with ordinality as c (attnum, place)
               join pg_attribute a on a.attrelid = k.conrelid and a.attnum = c.attnum
              order by c.place) as columns,
       array(select a.attname::text
               from unnest(k.confkey) with ordinality as c (attnum, place)
               join pg_attribute a on a.attrelid = k.confrelid and a.attnum = c.attnum
              order by c.place) as referred_columns,
       exists (select from pg_attribute a
                where a.attrelid = k.conrelid and a.attnum = any (k.conkey)
                  and not a.attnotnull) as nullable
  from pg_constraint k
 where k.contype = 'f' and k.conparentid = 0
 order by k.conrelid, k.conname
