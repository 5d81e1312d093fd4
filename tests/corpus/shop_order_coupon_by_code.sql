-- accepted
-- key: id
-- identity: coupon(code)
select o.id, c.percent from orders o left join coupon c on c.code = o.coupon_code
