-- What the bridge remembers: source, views, targets, generations, positions, work.
--
-- Positions are an epoch and an LSN; the LSN is always the end of a commit, or an end of
-- log that the stream has reported. Nothing here holds a value of the user's rows but
-- keys, which are what the documents are called.

do $$
begin
    if to_regnamespace('bridge') is null then
        create schema bridge;
    end if;
end
$$;

comment on schema bridge is 'What pgbridge remembers; removed by `pgbridge drop`.';

create table bridge.migration (
    number integer primary key,
    name text not null,
    digest text not null,
    applied_at timestamptz not null default clock_timestamp()
);

create table bridge.source (
    singleton boolean primary key default true check (singleton),
    system_identifier text not null,
    timeline integer not null,
    database text not null,
    slot text not null,
    epoch integer not null check (epoch between 1 and 1023),
    -- Nothing is read before a snapshot's xmin has reached it; null: it has.
    barrier text check (barrier ~ '^[0-9]+$'),
    -- Digest of the publication and identities as they were last proven.
    fingerprint text not null default '',
    updated_at timestamptz not null default clock_timestamp()
);

create table bridge.daemon (
    singleton boolean primary key default true check (singleton),
    -- Who writes positions: a daemon that was superseded no longer can.
    token uuid not null,
    host text not null,
    pid integer not null,
    version text not null,
    http text not null default '',
    state text not null,
    reason text not null default '',
    started_at timestamptz not null default clock_timestamp(),
    seen_at timestamptz not null default clock_timestamp()
);

create table bridge.sink (
    name text primary key,
    type text not null,
    state text not null default 'ok'
        check (state in ('ok', 'down', 'paused', 'parked', 'halted')),
    reason text not null default '',
    -- What the operator wants; it outlives restarts.
    paused boolean not null default false,
    since timestamptz not null default clock_timestamp()
);

create table bridge.view (
    name text primary key,
    definition jsonb not null,
    fingerprint text not null,
    applied_at timestamptz not null default clock_timestamp()
);

create table bridge.target (
    sink text not null references bridge.sink,
    name text not null,
    view text not null references bridge.view,
    definition jsonb not null,
    fingerprint text not null,
    -- False once it is no longer in the file: not fed, kept until it is pruned.
    wanted boolean not null default true,
    next_generation integer not null default 1,
    applied_at timestamptz not null default clock_timestamp(),
    primary key (sink, name)
);

create index target_view on bridge.target (view);

create table bridge.generation (
    sink text not null,
    name text not null,
    number integer not null check (number > 0),
    -- dropped: its place in the sink is to be removed, then this row.
    state text not null check (state in ('building', 'live', 'previous', 'dropped')),
    fingerprint text not null,
    view_fingerprint text not null,
    documents bigint not null default 0,
    progress real not null default 0 check (progress between 0 and 1),
    -- Why it stopped; null: it did not.
    halted text,
    -- More keys are owed than can be kept: every key is to be derived again.
    sweep boolean not null default false,
    created_at timestamptz not null default clock_timestamp(),
    prepared_at timestamptz,
    published_at timestamptz,
    primary key (sink, name, number),
    foreign key (sink, name) references bridge.target on delete cascade,
    -- One of each; deferrable, so that one statement can let them change places.
    constraint generation_one_of_a_state
        exclude (sink with =, name with =, state with =)
        where (state <> 'dropped') deferrable
);

create table bridge.progress (
    sink text not null,
    name text not null,
    number integer not null,
    epoch integer not null,
    -- Everything up to here is kept.
    lsn pg_lsn not null,
    -- End of the newest transaction that had anything for it.
    content_lsn pg_lsn not null,
    -- When the oldest commit not yet kept was made; null: there was none.
    behind_since timestamptz,
    updated_at timestamptz not null default clock_timestamp(),
    primary key (sink, name, number),
    foreign key (sink, name, number) references bridge.generation on delete cascade
)
-- Updated five times a second: room for the new row version beside the old one.
with (fillfactor = 50);

create table bridge.owed_key (
    sink text not null,
    name text not null,
    number integer not null,
    key text not null,
    parts text[] not null,
    epoch integer not null,
    lsn pg_lsn not null,
    primary key (sink, name, number, key),
    foreign key (sink, name, number) references bridge.generation on delete cascade
);

create table bridge.dead_letter (
    sink text not null,
    name text not null,
    number integer not null,
    key text not null,
    view text not null,
    parts text[] not null,
    stage text not null check (stage in ('derive', 'deliver')),
    reason text not null,
    version bigint not null,
    first_seen timestamptz not null default clock_timestamp(),
    last_seen timestamptz not null default clock_timestamp(),
    attempts integer not null default 1,
    primary key (sink, name, number, key),
    foreign key (sink, name, number) references bridge.generation on delete cascade
);

create index dead_letter_view on bridge.dead_letter (view, key);
