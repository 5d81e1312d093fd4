-- public.product p (id)
-- these are the key

-- public.order_line l (product_id)
-- these are the key

-- public.orders o (id)
select distinct (order_line.product_id)::pg_catalog.text
  from (select ("x"."c1")::"pg_catalog"."int8" as "id" from rows from (pg_catalog.unnest($1::pg_catalog.text[])) as "x"("c1")) as "changed"
  join "public"."order_line" as "order_line" on (changed.id = order_line.order_id)
 where order_line.product_id is not null
