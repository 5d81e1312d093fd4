-- refused
-- says: windows
select id, title, rank() over (partition by category_id order by price) from product
