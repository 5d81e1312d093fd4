-- End of the log now; of a standby, which has none of its own, the beginning.
select case when pg_is_in_recovery() then '0/0'
    else pg_current_wal_insert_lsn()::text end as lsn;
