-- accepted
-- key: id
-- identity: product_tag(product_id)
select p.id, p.title, tags.names
  from product p
 cross join lateral (
       select coalesce(json_agg(t.name order by t.id), '[]'::json) as names
         from product_tag pt join tag t on t.id = pt.tag_id
        where pt.product_id = p.id) tags
