-- refused
-- says: may read tables
select p.id, secret_price(p.id) as price from product p
