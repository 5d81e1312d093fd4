-- public.customer cu (id)
-- these are the key

-- public.orders o (customer_id)
-- these are the key

-- public.order_line l (order_id)
select distinct (orders.customer_id)::pg_catalog.text
  from (select ("x"."c1")::"pg_catalog"."int8" as "order_id" from rows from (pg_catalog.unnest($1::pg_catalog.text[])) as "x"("c1")) as "changed"
  join "public"."orders" as "orders" on (changed.order_id = orders.id)
 where orders.customer_id is not null
