-- What each generation was built from, so that the live one can still be fed by its own
-- query while another is being built from an edited one.
alter table bridge.generation add column definition jsonb not null default '{}';
