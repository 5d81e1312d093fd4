-- accepted
-- key: sku
-- given
select p.sku, p.title from product p where p.sku is not null
