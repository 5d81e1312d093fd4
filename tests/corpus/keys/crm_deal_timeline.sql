-- public.deal d (id)
-- these are the key

-- public.company c (id)
select distinct (deal.id)::pg_catalog.text
  from (select ("x"."c1")::"pg_catalog"."uuid" as "id" from rows from (pg_catalog.unnest($1::pg_catalog.text[])) as "x"("c1")) as "changed"
  join "public"."deal" as "deal" on (changed.id = deal.company_id)

-- public.activity a (deal_id)
select distinct (changed.deal_id)::pg_catalog.text
  from (select ("x"."c1")::"pg_catalog"."int4" as "deal_id" from rows from (pg_catalog.unnest($1::pg_catalog.text[])) as "x"("c1")) as "changed"
 where changed.deal_id is not null

-- public.person pe (id)
select distinct (activity.deal_id)::pg_catalog.text
  from (select ("x"."c1")::"pg_catalog"."uuid" as "id" from rows from (pg_catalog.unnest($1::pg_catalog.text[])) as "x"("c1")) as "changed"
  join "public"."activity" as "activity" on (changed.id = activity.person_id)
 where activity.deal_id is not null
