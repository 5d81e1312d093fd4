-- Which cluster and database this is, and whether the bridge remembers anything in it.
select (select system_identifier::text from pg_control_system()) as system_identifier,
       current_database()::text as database,
       exists (
           select
             from pg_class c
             join pg_namespace n on n.oid = c.relnamespace
            where n.nspname = 'bridge' and c.relname = 'source' and c.relkind = 'r'
              and has_schema_privilege(n.oid, 'usage')
              and has_table_privilege(c.oid, 'select')
       ) as remembers
