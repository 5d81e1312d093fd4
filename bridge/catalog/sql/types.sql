-- types: these types and all that they are made of
with recursive wanted(oid) as (
    select pg_catalog.unnest($1::oid[])
    union
    select part.oid
      from wanted w
      join pg_catalog.pg_type t on t.oid = w.oid
      cross join lateral (
          select t.typbasetype
          union all select t.typelem
          union all select r.rngsubtype from pg_catalog.pg_range r
                     where t.oid in (r.rngtypid, r.rngmultitypid)
          union all select a.atttypid from pg_catalog.pg_attribute a
                     where t.typtype = 'c' and a.attrelid = t.typrelid
                       and a.attnum > 0 and not a.attisdropped
      ) part(oid)
     where part.oid <> 0
)
select t.oid::int8, n.nspname::text, t.typname::text, t.typtype::text,
       t.typcategory::text,
       coalesce((select r.rngsubtype from pg_catalog.pg_range r
                  where t.oid in (r.rngtypid, r.rngmultitypid)),
                case when t.typlen = -1 and t.typcategory = 'A' then t.typelem end,
                0)::int8,
       t.typcategory = 'A' and t.typelem <> 0,
       t.typbasetype::int8, t.typtypmod,
       case when t.typtype = 'c' then array(
           select a.attname::text from pg_catalog.pg_attribute a
            where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
            order by a.attnum) end,
       case when t.typtype = 'c' then array(
           select a.atttypid::int8 from pg_catalog.pg_attribute a
            where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
            order by a.attnum) end,
       case when t.typtype = 'c' then array(
           select a.atttypmod from pg_catalog.pg_attribute a
            where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
            order by a.attnum) end,
       array(select e.enumlabel::text from pg_catalog.pg_enum e
              where e.enumtypid = t.oid order by e.enumsortorder),
       t.oid in ('text'::pg_catalog.regtype, 'varchar'::pg_catalog.regtype)
           or not exists (
               select from pg_catalog.pg_cast x
                where x.castsource = t.oid
                  and x.casttarget = 'text'::pg_catalog.regtype
                  and x.castmethod <> 'i'),
       (select array[on_.nspname::text, o.oprname::text]
          from pg_catalog.pg_opclass k
          join pg_catalog.pg_am m on m.oid = k.opcmethod
           and m.amname in ('btree', 'hash')
          join pg_catalog.pg_amop p on p.amopfamily = k.opcfamily
           and p.amoplefttype = k.opcintype and p.amoprighttype = k.opcintype
           and p.amopstrategy = case m.amname when 'btree' then 3 else 1 end
          join pg_catalog.pg_operator o on o.oid = p.amopopr
          join pg_catalog.pg_namespace on_ on on_.oid = o.oprnamespace
         where k.opcdefault
           and (k.opcintype = t.oid
                or t.typtype = 'e' and k.opcintype = 'anyenum'::pg_catalog.regtype
                or t.typtype = 'r' and k.opcintype = 'anyrange'::pg_catalog.regtype
                or t.typtype = 'm' and k.opcintype = 'anymultirange'::pg_catalog.regtype
                or t.typtype = 'c' and k.opcintype = 'record'::pg_catalog.regtype
                or t.typcategory = 'A' and k.opcintype = 'anyarray'::pg_catalog.regtype
                or k.opcintype = 'text'::pg_catalog.regtype
                   and t.oid = 'varchar'::pg_catalog.regtype)
         order by k.opcintype = t.oid desc, m.amname limit 1),
       (select e.extname::text from pg_catalog.pg_depend d
          join pg_catalog.pg_extension e on e.oid = d.refobjid
         where d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass
           and d.objid = t.oid and d.deptype = 'e'),
       (select case when exists (
                   select from pg_catalog.pg_depend d
                    where d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
                      and d.objid = p.oid and d.deptype = 'e')
                    then '' else concat_ws('.', pn.nspname, p.proname) end
          from pg_catalog.pg_cast x
          join pg_catalog.pg_proc p on p.oid = x.castfunc
          join pg_catalog.pg_namespace pn on pn.oid = p.pronamespace
         where x.castsource = t.oid and x.castmethod = 'f'
           and x.casttarget = 'json'::pg_catalog.regtype)
  from wanted w
  join pg_catalog.pg_type t on t.oid = w.oid
  join pg_catalog.pg_namespace n on n.oid = t.typnamespace
 order by t.oid
