-- public.company c (id)
-- these are the key

-- public.person p (company_id)
select distinct (changed.company_id)::pg_catalog.text
  from (select ("x"."c1")::"pg_catalog"."uuid" as "company_id" from rows from (pg_catalog.unnest($1::pg_catalog.text[])) as "x"("c1")) as "changed"
 where changed.company_id is not null

-- public.deal d (company_id)
-- these are the key
