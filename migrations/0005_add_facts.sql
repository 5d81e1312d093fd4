-- What was known of the tables and of the publication when every document was last
-- known to follow from them: a difference found later is what may have been missed.
alter table bridge.source add column facts jsonb not null default '{}';
