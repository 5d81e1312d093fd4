-- public.project pr (tenant, id)
-- these are the key

-- public.ticket t (tenant, project)
-- these are the key
