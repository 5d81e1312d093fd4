-- public.device d (id)
-- these are the key

-- public.reading r (device)
-- these are the key
