-- accepted
-- key: id
-- identity: orders(customer_id)
select cu.id, cu.name, last.id as last_order, last.placed
  from customer cu
  left join lateral (select o.id, o.placed from orders o
                      where o.customer_id = cu.id
                      order by o.placed desc nulls last, o.id limit 1) last on true
