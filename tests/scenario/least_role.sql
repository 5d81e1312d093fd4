-- The least role that runs the bridge: `replication`, `create` on the database, and the
-- owner of the tables to make the publication. The tables are that owner's, as an
-- application's are, and no superuser's.
do $$
declare
  name text;
begin
  begin
    create role pgbridge_owner;
  exception when duplicate_object or unique_violation then
    null;
  end;
  begin
    create role pgbridge_daemon login replication in role pgbridge_owner;
  exception when duplicate_object or unique_violation then
    null;
  end;
  execute format('grant create on database %I to pgbridge_daemon', current_database());
  for name in
    select format('%I', nspname) from pg_namespace
     where nspname !~ '^(pg_|information_schema$|bridge$)'
  loop
    execute format('grant usage on schema %s to pgbridge_daemon', name);
    execute format('alter default privileges in schema %s'
                   ' grant select on tables to pgbridge_daemon', name);
  end loop;
  for name in
    select c.oid::regclass::text
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relpersistence <> 't'
       and nspname !~ '^(pg_|information_schema$|bridge$)'
       and c.relowner = current_user::regrole
       and not exists (select from pg_depend d
                        where d.objid = c.oid and d.deptype = 'e')
  loop
    execute format('alter table %s owner to pgbridge_owner', name);
  end loop;
end
$$
