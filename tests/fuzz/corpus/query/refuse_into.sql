-- refused
-- says: makes a table
select id into copied from product
