-- name: place
-- An order is placed.
insert into orders (customer_id, product_id, total)
select %(customer)s, p.id, p.price from product p where p.id = %(product)s
returning id;

-- name: handle
-- An order goes on: from new to paid, from paid to sent.
update orders set status = case status when 'new' then 'paid' else 'sent' end
 where id = %(order)s;

-- name: archive
-- An order that was sent is removed.
delete from orders where id = %(order)s and status = 'sent';

-- name: reprice
-- A product gets another price; it may become a bargain, or cease to be one.
update product set price = %(price)s where id = %(product)s;

-- name: review
-- A customer writes a review.
insert into review (product_id, rating, body)
select p.id, %(rating)s, 'as described' from product p where p.id = %(product)s
returning id;

-- name: withdraw
-- A review is removed.
delete from review where id = %(review)s and product_id > %(reserved)s;

-- name: correct
-- A review was written for the wrong product: two documents change.
update review r set product_id = p.id from product p
 where r.id = %(review)s and r.product_id > %(reserved)s
   and p.id = %(product)s;

-- name: sort
-- A product goes to another category.
update product set category_id = %(category)s where id = %(product)s;

-- name: introduce
-- A new product.
insert into product (title, price, category_id)
values ('new arrival', %(price)s, %(category)s)
returning id;

-- name: discontinue
-- A product goes with its reviews; orders of it stay without it.
delete from product where id = %(product)s;
