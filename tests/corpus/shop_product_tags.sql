-- accepted
-- key: id
-- identity: product_tag(product_id) tag(id)
select p.id, array_agg(t.name::text order by t.name) as tags
  from product p
  join product_tag pt on pt.product_id = p.id
  join tag t on t.id = pt.tag_id
 group by p.id
