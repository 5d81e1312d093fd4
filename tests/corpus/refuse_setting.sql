-- refused
-- says: depends on the session
select id, current_setting('work_mem') as memory from product
