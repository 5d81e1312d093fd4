-- public.post p (id)
-- these are the key

-- public.post_author pa (post_id)
-- these are the key

-- public.author a (id)
select distinct (post_author.post_id)::pg_catalog.text
  from (select ("x"."c1")::"pg_catalog"."int4" as "id" from rows from (pg_catalog.unnest($1::pg_catalog.text[])) as "x"("c1")) as "changed"
  join "public"."post_author" as "post_author" on (changed.id = post_author.author_id)
 where post_author.post_id is not null
