-- public.event e (id, at)
-- these are the key

-- public.device d (id)
select distinct (event.id)::pg_catalog.text, (event.at)::pg_catalog.text
  from (select ("x"."c1")::"pg_catalog"."int4" as "id" from rows from (pg_catalog.unnest($1::pg_catalog.text[])) as "x"("c1")) as "changed"
  join "public"."event" as "event" on (changed.id = event.device)
