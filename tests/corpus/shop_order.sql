-- accepted
-- key: id
-- identity: order_line(order_id) product(id)
select o.id, o.state, o.placed, cu.email, cu.name,
       (select jsonb_agg(jsonb_build_object('title', p.title, 'quantity', l.quantity,
                                            'price', l.price) order by l.line)
          from order_line l join product p on p.id = l.product_id
         where l.order_id = o.id) as lines
  from orders o join customer cu on cu.id = o.customer_id
