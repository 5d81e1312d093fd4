-- refused
-- says: cannot be followed
select p.id from product p where p.id not in (select r.product_id from review r)
