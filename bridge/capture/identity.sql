select s.system_identifier::text,
       case when pg_catalog.pg_is_in_recovery() then null
            else pg_catalog.substr(
                   pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()),
                   1, 8)
       end as timeline,
       pg_catalog.pg_is_in_recovery() as in_recovery,
       pg_catalog.current_setting('server_version_num') as version,
       (select setting from pg_catalog.pg_settings
         where name = 'wal_sender_timeout') as wal_sender_timeout_ms
  from pg_catalog.pg_control_system() s
