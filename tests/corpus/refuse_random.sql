-- refused
-- says: volatile
select id, random() as sample from product
