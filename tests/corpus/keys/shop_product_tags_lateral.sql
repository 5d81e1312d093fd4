-- public.product p (id)
-- these are the key

-- public.product_tag pt (product_id)
-- these are the key

-- public.tag t (id)
select distinct (product_tag.product_id)::pg_catalog.text
  from (select ("x"."c1")::"pg_catalog"."int4" as "id" from rows from (pg_catalog.unnest($1::pg_catalog.text[])) as "x"("c1")) as "changed"
  join "public"."product_tag" as "product_tag" on (changed.id = product_tag.tag_id)
 where product_tag.product_id is not null
