select pg_catalog.to_jsonb(s) || pg_catalog.jsonb_build_object(
         'ours', s.database = pg_catalog.current_database() and s.plugin = 'pgoutput',
         'retained_bytes', case when not pg_catalog.pg_is_in_recovery() then
           pg_catalog.pg_wal_lsn_diff(
             pg_catalog.pg_current_wal_lsn(), s.restart_lsn) end) as slot
  from pg_catalog.pg_replication_slots s
 where s.slot_name = %s
