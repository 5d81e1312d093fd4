-- refused
-- says: syntax
select id, from product
