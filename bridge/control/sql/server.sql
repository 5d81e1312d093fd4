-- What the server and the role are like: one row.
select current_setting('server_version_num')::integer as version_number,
       current_setting('server_version') as version,
       current_user::text as role,
       current_database()::text as database,
       pg_encoding_to_char(d.encoding) as encoding,
       pg_is_in_recovery() as in_recovery,
       current_setting('wal_level') as wal_level,
       current_setting('max_replication_slots')::integer as slots_max,
       (select count(*) from pg_replication_slots) as slots_used,
       current_setting('max_wal_senders')::integer as senders_max,
       (select count(*) from pg_stat_replication) as senders_used,
       (select setting::bigint from pg_settings where name = 'max_slot_wal_keep_size')
           as slot_keep_mb,
       (select setting::bigint from pg_settings where name = 'wal_sender_timeout')
           as sender_timeout_ms,
       coalesce((select setting::bigint from pg_settings
                  where name = 'idle_replication_slot_timeout'), 0)
           as idle_slot_timeout_s,
       current_setting('synchronous_standby_names') as standby_names,
       (select count(*) from pg_stat_replication
         where sync_state in ('sync', 'quorum')) as standbys_synchronous,
       r.rolsuper as is_superuser,
       r.rolreplication as may_replicate,
       r.rolbypassrls as bypasses_rls,
       has_database_privilege(current_database(), 'create') as may_create,
       n.oid is not null as has_schema,
       coalesce(has_schema_privilege(n.oid, 'usage'), false) as may_use_schema,
       coalesce(has_schema_privilege(n.oid, 'usage'), false)
           and exists (select from pg_class c
                        where c.relnamespace = n.oid and c.relname = 'generation')
           as is_installed,
       coalesce(pg_has_role(n.nspowner, 'member'), false) as owns_schema,
       coalesce((select ssl from pg_stat_ssl where pid = pg_backend_pid()), false)
           as is_encrypted,
       inet_server_addr() is not null
           and not inet_server_addr() <<= inet '127.0.0.0/8'
           and inet_server_addr() <> inet '::1' as is_remote
  from pg_roles r
  join pg_database d on d.datname = current_database()
  left join pg_namespace n on n.nspname = 'bridge'
 where r.rolname = current_user
