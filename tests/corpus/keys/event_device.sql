-- public.device d (id)
-- these are the key

-- public.event e (device)
-- these are the key
