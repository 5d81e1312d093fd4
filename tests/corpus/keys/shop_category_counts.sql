-- public.category c (id)
-- these are the key

-- public.product p (category_id)
-- these are the key
