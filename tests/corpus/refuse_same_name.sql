-- refused
-- says: more than once
select p.id, r.id from product p join review r on r.product_id = p.id
