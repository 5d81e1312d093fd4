-- The replication slot of that name, wherever it belongs.
select s.slot_type,
       s.plugin,
       s.database::text as database,
       s.database = current_database() as is_ours,
       s.active,
       s.active_pid,
       s.wal_status,
       to_jsonb(s) ->> 'invalidation_reason' as invalidation_reason,
       s.confirmed_flush_lsn::text as confirmed,
       case when pg_is_in_recovery() then null
            else pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn)::bigint
       end as retained_bytes,
       case when pg_is_in_recovery() then null
            else pg_wal_lsn_diff(pg_current_wal_flush_lsn(),
                                 s.confirmed_flush_lsn)::bigint
       end as lag_bytes,
       pg_current_wal_flush_lsn()::text as flushed
  from pg_replication_slots s
 where s.slot_name = %(slot)s
