-- public.product p (id)
-- these are the key

-- public.category c (id)
select distinct (product.id)::pg_catalog.text
  from (select ("x"."c1")::"pg_catalog"."int4" as "id" from rows from (pg_catalog.unnest($1::pg_catalog.text[])) as "x"("c1")) as "changed"
  join "public"."product" as "product" on (changed.id = product.category_id)

-- public.review r (product_id)
-- these are the key
