-- public.author a (id)
-- these are the key

-- public.post p (author_id)
select distinct (changed.author_id)::pg_catalog.text
  from (select ("x"."c1")::"pg_catalog"."int4" as "author_id" from rows from (pg_catalog.unnest($1::pg_catalog.text[])) as "x"("c1")) as "changed"
 where changed.author_id is not null
