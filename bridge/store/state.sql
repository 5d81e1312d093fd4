-- name: read_source
-- The history that the bridge is in. A schema of an earlier version, which is about to
-- be updated, has no owner and no doubt.
select
    system_identifier, timeline, database, slot, epoch, barrier::bigint as barrier,
    fingerprint, to_jsonb(s) ->> 'owner' as owner,
    coalesce(to_jsonb(s) ->> 'doubt', '') as doubt
from bridge.source s;

-- name: save_source
-- The history that the bridge is in from now on; the epoch never goes back.
insert into bridge.source (
    system_identifier, timeline, database, slot, epoch, barrier, fingerprint, owner
)
values (
    %(system_identifier)s, %(timeline)s, %(database)s, %(slot)s, %(epoch)s,
    %(barrier)s::bigint::text, %(fingerprint)s, %(owner)s
)
on conflict (singleton) do update set
    system_identifier = excluded.system_identifier,
    timeline = excluded.timeline,
    database = excluded.database,
    slot = excluded.slot,
    epoch = excluded.epoch,
    barrier = excluded.barrier,
    fingerprint = excluded.fingerprint,
    owner = excluded.owner,
    passed_lsn = case when source.epoch = excluded.epoch then source.passed_lsn end,
    noted_lsn = case when source.epoch = excluded.epoch then source.noted_lsn end,
    doubt = case when source.epoch = excluded.epoch then source.doubt else '' end,
    updated_at = clock_timestamp()
where source.epoch <= excluded.epoch
returning epoch;

-- name: save_passed
-- The slot may be found here although a parked sink is not: written before it moves, by
-- the daemon that has not been superseded.
update bridge.source s
set passed_lsn = greatest(s.passed_lsn, %(lsn)s::pg_lsn)
from bridge.daemon d
where d.token = %(token)s
returning true as saved;

-- name: read_passed
-- How far the bridge itself may have moved the slot while a sink is parked.
select passed_lsn::text from bridge.source;

-- name: save_noted
-- Sinks may be told that they are so far: written before they are, by the daemon that
-- has not been superseded.
update bridge.source s
set noted_lsn = greatest(s.noted_lsn, %(lsn)s::pg_lsn)
from bridge.daemon d
where d.token = %(token)s
returning true as saved;

-- name: read_log
-- How far sinks may have been told that they are (null: nobody knows), and where the log
-- ends now.
select noted_lsn::text as noted, pg_current_wal_insert_lsn()::text as ends
from bridge.source;

-- name: doubt_source
-- The history is another one than the sinks have followed: nothing is read from now on.
update bridge.source set doubt = %(reason)s;

-- name: read_facts
-- What was last known of the tables and of the publication.
select facts from bridge.source;

-- name: save_facts
-- What is known of them now; nothing is written when that is what was known.
update bridge.source set facts = %(facts)s where facts is distinct from %(facts)s;

-- name: take_over
-- From now on this daemon writes positions, and no other.
insert into bridge.daemon (token, host, pid, version, http, state)
values (%(token)s, %(host)s, %(pid)s, %(version)s, %(http)s, %(state)s)
on conflict (singleton) do update set
    token = excluded.token,
    host = excluded.host,
    pid = excluded.pid,
    version = excluded.version,
    http = excluded.http,
    state = excluded.state,
    reason = '',
    refused = '',
    started_at = clock_timestamp(),
    seen_at = clock_timestamp();

-- name: save_daemon
-- What the daemon does now, and each minute that it is there; nothing is written
-- besides when that is what it did before.
update bridge.daemon
set
    state = %(state)s,
    reason = %(reason)s,
    refused = %(refused)s,
    seen_at = clock_timestamp()
where token = %(token)s and (
    (state, reason, refused) is distinct from (%(state)s, %(reason)s, %(refused)s)
    or seen_at < clock_timestamp() - interval '1 min'
);

-- name: read_daemon
-- The daemon that writes or wrote last, and whether one holds the lease.
select
    host, pid, version, http, state, reason, refused, started_at, seen_at,
    exists (
        select
        from pg_locks l
        where l.locktype = 'advisory'
            and l.database = (
                select d.oid
                from pg_database d
                where d.datname = current_database()
            )
            and l.classid = %(lock_class)s
            and l.objid = %(lock_object)s
            and l.objsubid = 2
            and l.granted
    ) as alive
from bridge.daemon;

-- name: look_at_server
-- When the server was started, and when it last came back from a crash: recovery
-- resets all its counters, people seldom more than one.
select
    pg_postmaster_start_time() as started,
    coalesce(least(w.stats_reset, a.stats_reset), pg_postmaster_start_time())
        as recovered
from pg_stat_wal w, pg_stat_archiver a;

-- name: read_server
-- Of which start of the server everything is settled.
select server_started as started, server_recovered as recovered
from bridge.daemon;

-- name: save_server
-- Everything is settled of this start of the server.
update bridge.daemon
set server_started = %(started)s, server_recovered = %(recovered)s
where token = %(token)s;

-- name: save_sink
-- A configured sink; one that halted under another type starts anew.
insert into bridge.sink (name, type)
values (%(name)s, %(type)s)
on conflict (name) do update set
    type = excluded.type, state = 'ok', reason = '', since = clock_timestamp()
where sink.type <> excluded.type;

-- name: list_sinks
-- All sinks by name.
select name, type, state, reason, paused, since, answered
from bridge.sink
order by name;

-- name: set_sink_state
-- What a sink does now; nothing is written when that is what it did before.
update bridge.sink
set
    state = %(state)s,
    reason = %(reason)s,
    since = case when state = %(state)s then since else clock_timestamp() end
where name = %(name)s and (state, reason) is distinct from (%(state)s, %(reason)s);

-- name: set_sink_paused
-- What the operator wants of a sink.
update bridge.sink
set paused = %(paused)s, since = clock_timestamp()
where name = %(name)s and paused <> %(paused)s;

-- name: save_answered
-- So many writes a sink has answered for: written before anything that they were made for
-- is closed, by the daemon that has not been superseded.
update bridge.sink k
set answered = greatest(k.answered, %(answered)s)
from bridge.daemon d
where d.token = %(token)s and k.name = %(name)s
returning true as saved;

-- name: remove_sink
-- Forget a sink that has no targets left.
delete from bridge.sink s
where s.name = %(name)s
    and not exists (select from bridge.target t where t.sink = s.name);

-- name: emit_marker
-- Put a marker into the log, in a transaction of its own.
select pg_logical_emit_message(true, 'pgbridge', %(content)s)::text as lsn;
