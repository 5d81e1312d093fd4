-- Which history the server is in; the timeline is null on a standby.
select pg_is_in_recovery() as in_recovery,
       case when not pg_is_in_recovery()
            then ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))
                 ::bit(32)::int
       end as timeline
