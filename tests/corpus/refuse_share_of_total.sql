-- refused
-- says: cannot be followed
select p.id, p.price / (select sum(q.price) from product q) as share from product p
