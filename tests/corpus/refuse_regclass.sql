-- refused
-- says: catalog
select id, tableoid::regclass as of from product
