-- functions: these functions, and those behind these operators
with recursive wanted(oid) as (
    select pg_catalog.unnest($1::oid[])
    union
    select o.oprcode from pg_catalog.pg_operator o where o.oid = any ($2::oid[])
), called(root, oid) as (
    select p.oid, p.oid from pg_catalog.pg_proc p
     where p.oid = any (array(select w.oid from wanted w)) and p.oid >= 16384
    union
    -- What a body in a string calls is in no catalog: whatever it names is looked at.
    select c.root, q.oid
      from called c
      join pg_catalog.pg_proc p on p.oid = c.oid
       and p.prolang not in (12, 13)  -- compiled: internal, c
      join pg_catalog.pg_proc q on q.oid >= 16384
       and (pg_catalog.strpos(pg_catalog.lower(p.prosrc),
                              pg_catalog.lower(q.proname)) > 0
            or exists (select from pg_catalog.pg_depend d
                        where d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
                          and d.objid = p.oid and d.refclassid = d.classid
                          and d.refobjid = q.oid))
)
select p.oid::int8, n.nspname::text, p.proname::text, p.provolatile::text,
       p.prokind::text, p.proretset, p.proisstrict, l.lanname::text,
       p.proargtypes::oid[]::int8[],
       (select e.extname::text from pg_catalog.pg_depend d
          join pg_catalog.pg_extension e on e.oid = d.refobjid
         where d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
           and d.objid = p.oid and d.deptype = 'e'),
       pg_catalog.md5(concat_ws(' ', p.prosrc, p.probin, p.prosqlbody::text,
                                p.provolatile, p.prolang, p.proconfig::text, (
           select pg_catalog.string_agg(concat_ws(' ', n.nspname, q.proname,
                      q.proargtypes::text, q.prosrc, q.probin, q.prosqlbody::text,
                      q.provolatile, q.prolang, q.proconfig::text), ';'
                      order by n.nspname, q.proname, q.proargtypes::text)
             from called c
             join pg_catalog.pg_proc q on q.oid = c.oid
             join pg_catalog.pg_namespace n on n.oid = q.pronamespace
            where c.root = p.oid and c.oid <> p.oid and n.nspname !~ '^pg_temp')))
  from wanted w
  join pg_catalog.pg_proc p on p.oid = w.oid
  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  join pg_catalog.pg_language l on l.oid = p.prolang
 order by p.oid
