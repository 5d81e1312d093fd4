-- accepted
-- key: id
-- identity: order_line(order_id)
select o.id, o.customer_id, t.total
  from orders o join order_total t on t.order_id = o.id
 where o.state <> 'cart'
