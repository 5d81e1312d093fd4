-- refused
-- says: recursive
with recursive up as (
    select id, parent_id, name from category where parent_id is null
    union all
    select c.id, c.parent_id, c.name from category c join up on up.id = c.parent_id)
select id, name from up
