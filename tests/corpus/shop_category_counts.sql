-- accepted
-- key: id
-- identity: product(category_id)
select c.id, c.name, count(p.id) as products, min(p.price) as cheapest
  from category c left join product p on p.category_id = c.id
 group by c.id, c.name
