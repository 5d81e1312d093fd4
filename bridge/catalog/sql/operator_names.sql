-- operator names: what is true of every operator of a name
select n.nspname::text, o.oprname::text, bool_and(p.proisstrict),
       bool_and(p.provolatile = 'i')
  from pg_catalog.pg_operator o
  join pg_catalog.pg_namespace n on n.oid = o.oprnamespace
  join pg_catalog.pg_proc p on p.oid = o.oprcode
 group by n.nspname, o.oprname
