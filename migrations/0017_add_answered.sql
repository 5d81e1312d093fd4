-- How many writes each sink has answered for, as it counts them: one that shows fewer to the
-- next daemon has lost some of them.
alter table bridge.sink add column answered bigint not null default 0;
