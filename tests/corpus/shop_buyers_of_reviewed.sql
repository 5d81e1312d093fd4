-- accepted
-- key: id
-- identity: review(customer_id)
select cu.id, cu.name from customer cu
 where cu.id in (select r.customer_id from review r join product p on p.id = r.product_id)
