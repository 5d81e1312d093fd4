-- public.comment c (id)
-- these are the key

-- public.comment up (id)
select distinct (comment.id)::pg_catalog.text
  from (select ("x"."c1")::"pg_catalog"."int4" as "id" from rows from (pg_catalog.unnest($1::pg_catalog.text[])) as "x"("c1")) as "changed"
  join "public"."comment" as "comment" on (changed.id = comment.parent_id)

-- public.post p (id)
select distinct (comment.id)::pg_catalog.text
  from (select ("x"."c1")::"pg_catalog"."int4" as "id" from rows from (pg_catalog.unnest($1::pg_catalog.text[])) as "x"("c1")) as "changed"
  join "public"."comment" as "comment" on (changed.id = comment.post_id)
