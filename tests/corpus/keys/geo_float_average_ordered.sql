-- public.place p (id)
-- these are the key

-- public.visit v (place_id)
-- these are the key
