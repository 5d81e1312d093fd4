-- How fast a backfill is, as `status` tells it: the daemon that carries it out says since
-- when it counts, and from how many documents on.
alter table bridge.backfill
    add column counted_at timestamptz,
    add column counted_from bigint not null default 0;
