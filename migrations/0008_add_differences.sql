-- What the continuous comparison has found: documents that are not what the source says.
-- A row goes when its document is found right again. As everywhere, of the user's rows
-- nothing is kept but keys, and names of columns.
create table bridge.difference (
    sink text not null,
    name text not null,
    number integer not null,
    key text not null,
    parts text[] not null,
    kind text not null check (kind in ('missing', 'different', 'extra')),
    fields text[] not null default '{}',
    found_at timestamptz not null default clock_timestamp(),
    primary key (sink, name, number, key),
    foreign key (sink, name, number) references bridge.generation on delete cascade
);
