-- refused
-- says: does not exist
select id, colour from product
