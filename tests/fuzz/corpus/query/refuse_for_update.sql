-- refused
-- says: locks
select id, title from product for update
