-- The tables of these oids as the bridge depends on them: what the role may do, and for
-- each leaf (the table itself, unless it is partitioned) what its identity carries.
select c.oid,
       format('%%I.%%I', n.nspname, c.relname) as name,
       quote_ident(n.nspname) as schema,
       c.relkind::text as kind,
       c.relpersistence::text as persistence,
       c.relrowsecurity as row_security,
       pg_has_role(c.relowner, 'member') as is_ours,
       pg_get_userbyid(c.relowner) as owner,
       has_schema_privilege(n.oid, 'usage') as may_use_schema,
       has_table_privilege(c.oid, 'select') as may_select,
       row_security_active(c.oid) as row_security_applies,
       (select jsonb_agg(jsonb_build_object(
                   'name', format('%%I.%%I', ln.nspname, l.relname),
                   'table', l.relname,
                   'identity', l.relreplident,
                   'primary_key', coalesce((
                       select jsonb_agg(a.attname order by k.place)
                         from pg_index i,
                              unnest(i.indkey::smallint[]) with ordinality k (attnum, place)
                         join pg_attribute a on a.attrelid = l.oid
                                            and a.attnum = k.attnum
                        where i.indrelid = l.oid and i.indisprimary
                          and i.indimmediate and i.indisvalid
                          and k.place <= i.indnkeyatts), '[]'),
                   -- Indexes that may be the identity, with their columns: not those
                   -- that are only stored beside the key.
                   'keys', coalesce((
                       select jsonb_agg(jsonb_build_object(
                                  'name', x.relname,
                                  'columns', array(
                                      select a.attname::text
                                        from unnest(i.indkey::smallint[])
                                             with ordinality k (attnum, place)
                                        join pg_attribute a on a.attrelid = l.oid
                                                           and a.attnum = k.attnum
                                       where k.place <= i.indnkeyatts
                                       order by k.place))
                              order by not i.indisprimary, x.relname)
                         from pg_index i
                         join pg_class x on x.oid = i.indexrelid
                        where i.indrelid = l.oid and i.indisunique and i.indimmediate
                          and i.indisvalid and i.indisready and i.indislive
                          and i.indpred is null and i.indexprs is null
                          and not exists (
                              select from unnest(i.indkey::smallint[])
                                          with ordinality k (attnum, place)
                                join pg_attribute a on a.attrelid = l.oid
                                                   and a.attnum = k.attnum
                               where k.place <= i.indnkeyatts and not a.attnotnull)),
                       '[]'),
                   'carried', array(
                       select a.attname::text
                         from pg_attribute a
                        where a.attrelid = l.oid and a.attnum > 0 and not a.attisdropped
                          and (l.relreplident = 'f'
                               or exists (select from pg_index i
                                           where i.indrelid = l.oid
                                             and i.indimmediate and i.indisvalid
                                             and a.attnum = any ((i.indkey::int2[])
                                                     [0:i.indnkeyatts - 1])
                                             and case l.relreplident
                                                   when 'd' then i.indisprimary
                                                   when 'i' then i.indisreplident
                                                 end))),
                   'nullable', array(
                       select a.attname::text from pg_attribute a
                        where a.attrelid = l.oid and a.attnum > 0
                          and not a.attisdropped and not a.attnotnull),
                   -- Without an order, or of values that an index may find too long.
                   'unfit', array(
                       select a.attname::text
                         from pg_attribute a
                         join pg_type d on d.oid = a.atttypid
                         join pg_type y on y.oid = coalesce(
                              nullif(d.typbasetype, 0), d.oid)
                        where a.attrelid = l.oid and a.attnum > 0 and not a.attisdropped
                          and (y.typcategory in ('A', 'C', 'G')
                               or y.typname in ('json', 'jsonb', 'bytea', 'xml',
                                                'tsvector', 'tsquery', 'hstore')
                               or not (y.typtype in ('d', 'e', 'r')
                                       or exists (
                                           select from pg_opclass o
                                             join pg_am m on m.oid = o.opcmethod
                                            where m.amname = 'btree' and o.opcdefault
                                              and (o.opcintype = y.oid
                                                   or exists (
                                                       select from pg_cast t
                                                        where t.castsource = y.oid
                                                          and t.casttarget = o.opcintype
                                                          and t.castmethod = 'b'
                                                          and t.castcontext = 'i')))))),
                   'generated', array(
                       select a.attname::text from pg_attribute a
                        where a.attrelid = l.oid and a.attnum > 0
                          and not a.attisdropped and a.attgenerated <> ''),
                   'taken', array(
                       select x.relname::text from pg_class x
                        where x.relnamespace = l.relnamespace
                          and x.relname like '%%\_bridge'))
                 order by l.oid)
          from pg_class l
          join pg_namespace ln on ln.oid = l.relnamespace
         where l.oid in (select t.relid from pg_partition_tree(c.oid) t where t.isleaf
                         union select c.oid where c.relkind <> 'p')) as leaves
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
 where c.oid = any (%(oids)s::oid[])
 order by 2
