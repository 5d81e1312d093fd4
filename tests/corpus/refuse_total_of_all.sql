-- refused
-- says: without a key
select count(*) as products from product
