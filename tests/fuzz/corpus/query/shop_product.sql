-- accepted
-- key: id
-- identity: product(id) category(id) review(product_id)
select p.id, p.title, p.price, c.name as category,
       (select json_agg(json_build_object('rating', r.rating, 'body', r.body) order by r.id)
          from review r where r.product_id = p.id) as reviews
  from product p join category c on c.id = p.category_id
