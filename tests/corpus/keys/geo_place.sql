-- public.place p (id)
-- these are the key

-- public.region r (id)
select distinct (place.id)::pg_catalog.text
  from (select ("x"."c1")::"pg_catalog"."int4" as "id" from rows from (pg_catalog.unnest($1::pg_catalog.text[])) as "x"("c1")) as "changed"
  join "public"."place" as "place" on (changed.id = place.region_id)

-- public.region up (id)
select distinct (place.id)::pg_catalog.text
  from (select ("x"."c1")::"pg_catalog"."int4" as "id" from rows from (pg_catalog.unnest($1::pg_catalog.text[])) as "x"("c1")) as "changed"
  join "public"."region" as "region" on (changed.id = region.parent_id)
  join "public"."place" as "place" on (region.id = place.region_id)

-- public.visit v (place_id)
-- these are the key
