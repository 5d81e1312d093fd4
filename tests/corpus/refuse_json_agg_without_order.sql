-- refused
-- says: order of the rows
select p.id, (select json_agg(r.body) from review r where r.product_id = p.id) as r from product p
