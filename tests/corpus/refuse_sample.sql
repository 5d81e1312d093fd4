-- refused
-- says: other rows
select id, title from product tablesample bernoulli (10)
