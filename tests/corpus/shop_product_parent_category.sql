-- accepted
-- key: id
-- identity: category(id)
select p.id, p.title, c.name as category, up.name as department
  from product p
  join category c on c.id = p.category_id
  left join category up on up.id = c.parent_id
