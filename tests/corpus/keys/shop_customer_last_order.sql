-- public.customer cu (id)
-- these are the key

-- public.orders o (customer_id)
-- these are the key
