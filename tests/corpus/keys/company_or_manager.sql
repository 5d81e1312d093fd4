-- public.person p (id)
-- these are the key

-- public.deal d (person_id, company_id)
select distinct (person.id)::pg_catalog.text
  from (select ("x"."c1")::"pg_catalog"."uuid" as "person_id", ("x"."c2")::"pg_catalog"."uuid" as "company_id" from rows from (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[])) as "x"("c1", "c2")) as "changed"
  join "public"."person" as "person" on (changed.person_id = person.id OR changed.company_id = person.company_id)
