select pg_catalog.pg_terminate_backend(a.pid) as freed
  from pg_catalog.pg_replication_slots s
  join pg_catalog.pg_stat_activity a on a.pid = s.active_pid
 where s.slot_name = %s
   and a.usename = current_user
   and a.application_name = 'pgbridge'
