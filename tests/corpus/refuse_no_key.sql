-- refused
-- says: no key among the output
select title, price from product
