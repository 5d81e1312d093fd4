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
                   'identity', l.relreplident,
                   'primary_key', array(
                       select a.attname::text
                         from pg_index i,
                              unnest(i.indkey::smallint[]) with ordinality k (attnum, place)
                         join pg_attribute a on a.attrelid = l.oid
                                            and a.attnum = k.attnum
                        where i.indrelid = l.oid and i.indisprimary
                        order by k.place),
                   'carried', array(
                       select a.attname::text
                         from pg_attribute a
                        where a.attrelid = l.oid and a.attnum > 0 and not a.attisdropped
                          and (l.relreplident = 'f'
                               or exists (select from pg_index i
                                           where i.indrelid = l.oid
                                             and a.attnum = any (i.indkey)
                                             and case l.relreplident
                                                   when 'd' then i.indisprimary
                                                   when 'i' then i.indisreplident
                                                 end))),
                   'nullable', array(
                       select a.attname::text from pg_attribute a
                        where a.attrelid = l.oid and a.attnum > 0
                          and not a.attisdropped and not a.attnotnull),
                   'generated', array(
                       select a.attname::text from pg_attribute a
                        where a.attrelid = l.oid and a.attnum > 0
                          and not a.attisdropped and a.attgenerated <> ''))
                 order by l.oid)
          from pg_class l
          join pg_namespace ln on ln.oid = l.relnamespace
         where l.oid in (select t.relid from pg_partition_tree(c.oid) t where t.isleaf
                         union select c.oid where c.relkind <> 'p')) as leaves
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
 where c.oid = any (%(oids)s::oid[])
 order by 2
