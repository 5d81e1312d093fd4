-- refused
-- says: not a `select`
update product set price = 0
