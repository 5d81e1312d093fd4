-- refused
-- says: limit
select id, title from product order by price desc, id limit 10
