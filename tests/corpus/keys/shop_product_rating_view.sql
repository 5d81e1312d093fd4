-- public.product p (id)
-- these are the key

-- public.review review (product_id)
-- these are the key
