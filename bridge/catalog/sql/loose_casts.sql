-- loose casts: whether there are casts that give something for a null
select exists (
    select from pg_catalog.pg_cast c
      join pg_catalog.pg_proc p on p.oid = c.castfunc
     where not p.proisstrict)
