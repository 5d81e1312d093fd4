-- name: issue_command
-- Issue a command as the public functions do.
select bridge.issue_v1(%(kind)s, %(arguments)s) as id;

-- name: issue_backfill
-- The public function, for its checks.
select bridge.backfill(
    %(view)s, %(target)s, %(keys)s::text[], %(condition)s, %(rebuild)s
) as id;

-- name: issue_promote
-- The public function, for its checks.
select bridge.promote(%(view)s, %(target)s, %(force)s) as id;

-- name: issue_rollback
-- The public function, for its checks.
select bridge.rollback(%(view)s, %(target)s) as id;

-- name: issue_pause
-- The public function, for its checks.
select bridge.pause(%(sink)s) as id;

-- name: issue_resume
-- The public function, for its checks.
select bridge.resume(%(sink)s) as id;

-- name: issue_cancel
-- The public function, for its checks.
select bridge.cancel(%(id)s) as id;

-- name: issue_retry
-- The public function, for its checks.
select bridge.retry(%(view)s, %(keys)s::text[]) as id;

-- name: list_open_commands
-- Commands that were issued and have no outcome yet, in the order of their ids. The end
-- of the log is read after the snapshot: what is visible was committed below it.
select
    id, kind, arguments, issued_by, issued_at, state, message, lsn::text,
    started_at, finished_at, pg_current_wal_insert_lsn()::text as log_end
from bridge.command
where state in ('pending', 'running')
order by id;

-- name: list_newest_commands
-- The last that were issued, the newest first, whatever came of them.
select
    id, kind, arguments, issued_by, issued_at, state, message, lsn::text,
    started_at, finished_at
from bridge.command
order by id desc
limit %(count)s;

-- name: read_command
-- One command by its id.
select
    id, kind, arguments, issued_by, issued_at, state, message, lsn::text,
    started_at, finished_at
from bridge.command
where id = %(id)s;

-- name: start_command
-- It is being carried out; false for one that has an outcome already.
update bridge.command
set
    state = 'running',
    lsn = coalesce(%(lsn)s::pg_lsn, lsn),
    started_at = coalesce(started_at, clock_timestamp())
where id = %(id)s and state in ('pending', 'running');

-- name: tell_command
-- What a command that is being carried out waits for; nothing is written when it is known.
update bridge.command
set message = %(message)s
where id = %(id)s and state = 'running' and message <> %(message)s;

-- name: finish_command
-- Its outcome, once and for all.
update bridge.command
set state = %(state)s, message = %(message)s, finished_at = clock_timestamp()
where id = %(id)s and state in ('pending', 'running');
