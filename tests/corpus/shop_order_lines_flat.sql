-- accepted
-- key: order_id,line
-- identity: product(id)
select l.order_id, l.line, p.title from order_line l join product p on p.id = l.product_id
