-- public.post p (id)
-- these are the key

-- public.author a (id)
select distinct (post.id)::pg_catalog.text
  from (select ("x"."c1")::"pg_catalog"."int4" as "id" from rows from (pg_catalog.unnest($1::pg_catalog.text[])) as "x"("c1")) as "changed"
  join "public"."post" as "post" on (changed.id = post.author_id)

-- public.comment c (post_id)
-- these are the key
