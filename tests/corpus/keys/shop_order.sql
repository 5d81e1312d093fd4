-- public.orders o (id)
-- these are the key

-- public.customer cu (id)
select distinct (orders.id)::pg_catalog.text
  from (select ("x"."c1")::"pg_catalog"."int8" as "id" from rows from (pg_catalog.unnest($1::pg_catalog.text[])) as "x"("c1")) as "changed"
  join "public"."orders" as "orders" on (changed.id = orders.customer_id)

-- public.order_line l (order_id)
-- these are the key

-- public.product p (id)
select distinct (order_line.order_id)::pg_catalog.text
  from (select ("x"."c1")::"pg_catalog"."int4" as "id" from rows from (pg_catalog.unnest($1::pg_catalog.text[])) as "x"("c1")) as "changed"
  join "public"."order_line" as "order_line" on (changed.id = order_line.product_id)
 where order_line.order_id is not null
