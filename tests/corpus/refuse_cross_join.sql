-- refused
-- says: cannot be followed
select p.id, c.percent from product p cross join coupon c
