-- refused
-- says: two output columns are called id
select p.id, r.id from product p join review r on r.product_id = p.id
