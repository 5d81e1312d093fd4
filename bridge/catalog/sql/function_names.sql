-- function names: what is true of every function of a name
select n.nspname::text, p.proname::text, bool_and(p.proisstrict),
       bool_and(p.provolatile = 'i')
  from pg_catalog.pg_proc p
  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
 where p.prokind = 'f' and not p.proretset
 group by n.nspname, p.proname
