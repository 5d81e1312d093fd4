-- refused
-- says: changes data
with gone as (delete from review returning id) select id from gone
