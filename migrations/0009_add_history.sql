-- How far sinks may have been told that they are: a sink that says more has seen a log
-- that this database no longer has. Why the history is in doubt, until another one has
-- begun. And by which cluster's identifier the sinks know the bridge, where that was
-- another one.
alter table bridge.source
    add column noted_lsn pg_lsn,
    add column doubt text not null default '',
    add column owner text;
