-- public.customer cu (id)
-- these are the key

-- public.review r (customer_id)
-- these are the key

-- public.product p (id)
select distinct (review.customer_id)::pg_catalog.text
  from (select ("x"."c1")::"pg_catalog"."int4" as "id" from rows from (pg_catalog.unnest($1::pg_catalog.text[])) as "x"("c1")) as "changed"
  join "public"."review" as "review" on (changed.id = review.product_id)
 where review.customer_id is not null
