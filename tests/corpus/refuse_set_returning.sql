-- refused
-- says: several rows of one
select id, unnest(tags) as tag from product
