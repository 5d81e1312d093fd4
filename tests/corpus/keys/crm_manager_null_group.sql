-- public.person p (manager_id)
select distinct (person.name)::pg_catalog.text
  from (select ("x"."c1")::"pg_catalog"."uuid" as "manager_id" from rows from (pg_catalog.unnest($1::pg_catalog.text[])) as "x"("c1")) as "changed"
  join "public"."person" as "person" on (person.id = changed.manager_id)

-- public.person m (name)
-- these are the key
