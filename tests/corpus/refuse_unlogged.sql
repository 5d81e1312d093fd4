-- refused
-- says: unlogged
select id, content from session_store
