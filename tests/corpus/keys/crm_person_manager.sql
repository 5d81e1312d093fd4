-- public.person p (id)
-- these are the key

-- public.person m (id)
select distinct (person.id)::pg_catalog.text
  from (select ("x"."c1")::"pg_catalog"."uuid" as "id" from rows from (pg_catalog.unnest($1::pg_catalog.text[])) as "x"("c1")) as "changed"
  join "public"."person" as "person" on (changed.id = person.manager_id)

-- public.company c (id)
select distinct (person.id)::pg_catalog.text
  from (select ("x"."c1")::"pg_catalog"."uuid" as "id" from rows from (pg_catalog.unnest($1::pg_catalog.text[])) as "x"("c1")) as "changed"
  join "public"."person" as "person" on (changed.id = person.company_id)
