-- name: pin_settings
-- Session settings, so that nothing depends on those of role or database.
select set_config(s.name, s.value, false)
from unnest(%(names)s::text[], %(values)s::text[]) s (name, value);

-- name: lock
-- Wait for an advisory lock and hold it as long as the session lives.
select pg_advisory_lock(%(lock_class)s, %(lock_object)s);

-- name: try_lock
-- Hold an advisory lock as long as the session lives, unless somebody else does.
select pg_try_advisory_lock(%(lock_class)s, %(lock_object)s) as held;

-- name: keep_lease
-- The session is in use: it is ended after so many milliseconds without a word.
select set_config('idle_session_timeout', %(idle)s, false);

-- name: look_at_schema
-- Whether there is a schema of that name, and whether it is the bridge's.
select
    (
        select count(*) = 3 from pg_attribute a
        where a.attrelid = to_regclass('bridge.migration')
            and a.attname in ('number', 'name', 'digest')
    ) as ours,
    exists (
        select from pg_class c where c.relnamespace = to_regnamespace('bridge')
    )
    or exists (
        select from pg_proc p where p.pronamespace = to_regnamespace('bridge')
    ) as used;

-- name: list_migrations
-- What was applied.
select number, name, digest
from bridge.migration
order by number;

-- name: record_migration
-- A migration was applied in this transaction.
insert into bridge.migration (number, name, digest)
values (%(number)s, %(name)s, %(digest)s);

-- name: drop_schema
-- Remove everything that migrations installed.
drop schema bridge cascade;
