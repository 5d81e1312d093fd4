-- Of which start of the server everything is settled, so that a crash of it is noticed
-- whichever process looks.
alter table bridge.daemon
    add column server_started timestamptz,
    add column server_recovered timestamptz;
