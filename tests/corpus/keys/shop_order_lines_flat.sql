-- public.order_line l (order_id, line)
-- these are the key

-- public.product p (id)
select distinct (order_line.order_id)::pg_catalog.text, (order_line.line)::pg_catalog.text
  from (select ("x"."c1")::"pg_catalog"."int4" as "id" from rows from (pg_catalog.unnest($1::pg_catalog.text[])) as "x"("c1")) as "changed"
  join "public"."order_line" as "order_line" on (changed.id = order_line.product_id)
