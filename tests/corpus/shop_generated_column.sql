-- accepted
-- key: id
select id, title, price_with_tax from product
