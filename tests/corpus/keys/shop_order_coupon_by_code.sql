-- public.orders o (id)
-- these are the key

-- public.coupon c (code)
select distinct (orders.id)::pg_catalog.text
  from (select ("x"."c1")::"pg_catalog"."text" as "code" from rows from (pg_catalog.unnest($1::pg_catalog.text[])) as "x"("c1")) as "changed"
  join "public"."orders" as "orders" on (changed.code = orders.coupon_code)
