-- relations: every relation of these oids, with what the reading role may see of it
select c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text,
       c.relpersistence::text, c.relispartition,
       c.relkind <> 'p' and exists (
           select from pg_catalog.pg_inherits i where i.inhparent = c.oid),
       pg_catalog.has_schema_privilege(n.oid, 'usage')
           and pg_catalog.has_table_privilege(c.oid, 'select'),
       pg_catalog.row_security_active(c.oid),
       case when c.relkind = 'v' then pg_catalog.pg_get_viewdef(c.oid) end,
       (select r.ev_action::text from pg_catalog.pg_rewrite r
         where c.relkind = 'v' and r.ev_class = c.oid and r.ev_type = '1')
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where c.oid = any ($1::oid[])
 order by c.oid
