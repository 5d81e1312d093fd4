-- accepted
-- key: id
-- identity: orders(customer_id) order_line(order_id)
with spent as (
    select o.customer_id, sum(l.quantity * l.price) as total
      from orders o join order_line l on l.order_id = o.id
     where o.state in ('paid', 'sent') group by o.customer_id)
select cu.id, cu.name, coalesce(s.total, 0) as total,
       (select count(*) from spent s2 where s2.customer_id = cu.id and s2.total > 100) as big
  from customer cu left join spent s on s.customer_id = cu.id
