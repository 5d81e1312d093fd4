-- functions: these functions, and those behind these operators
with wanted(oid) as (
    select pg_catalog.unnest($1::oid[])
    union
    select o.oprcode from pg_catalog.pg_operator o where o.oid = any ($2::oid[])
)
select p.oid::int8, n.nspname::text, p.proname::text, p.provolatile::text,
       p.prokind::text, p.proretset, p.proisstrict, l.lanname::text,
       p.proargtypes::oid[]::int8[],
       (select e.extname::text from pg_catalog.pg_depend d
          join pg_catalog.pg_extension e on e.oid = d.refobjid
         where d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
           and d.objid = p.oid and d.deptype = 'e'),
       pg_catalog.md5(concat_ws(' ', p.prosrc, p.probin, p.prosqlbody::text,
                                p.provolatile, p.prolang, p.proconfig::text))
  from wanted w
  join pg_catalog.pg_proc p on p.oid = w.oid
  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  join pg_catalog.pg_language l on l.oid = p.prolang
 order by p.oid
