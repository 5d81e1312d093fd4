-- refused
-- says: cannot be followed
select p.id from product p where p.price > all (select l.price from order_line l)
